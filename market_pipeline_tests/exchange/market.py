"""Markets of the fake exchange: frames in Binance's form with ids, and the book they make."""

from __future__ import annotations

import gzip
import json
import random
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

MID, REACH = 6_000_000, 400
START_MS = 1_723_075_200_000


@dataclass
class TruthKline:
    """The bar of one minute's trades, as the venue gives it."""

    start_ms: int
    trades: list[dict] = field(default_factory=list)

    def frame(self, symbol: str, now_ms: int, *, is_closed: bool) -> tuple[str, bytes]:
        sizes = [Decimal(each["q"]) for each in self.trades]
        bought = [size for size, each in zip(sizes, self.trades, strict=True) if not each["m"]]
        prices = [each["p"] for each in self.trades]
        kline = {
            **{"t": self.start_ms, "T": self.start_ms + 59_999, "s": symbol, "i": "1m"},
            **{"f": self.trades[0]["t"], "L": self.trades[-1]["t"], "o": prices[0]},
            **{"c": prices[-1], "h": max(prices, key=Decimal), "l": min(prices, key=Decimal)},
            **{"v": f"{sum(sizes):.8f}", "n": len(sizes), "x": is_closed},
            **{"V": f"{sum(bought):.8f}", "B": "0"},
        }
        data = {"e": "kline", "E": now_ms, "s": symbol, "k": kline}
        return framed(f"{symbol.lower()}@kline_1m", data)


@dataclass
class TruthBook:
    """The plain book: levels by price as text, applied in the order of the ids."""

    bids: dict[str, str] = field(default_factory=dict)
    asks: dict[str, str] = field(default_factory=dict)
    last_id: int = 0

    def apply(self, depth: dict) -> None:
        for side, levels in ((self.bids, depth["b"]), (self.asks, depth["a"])):
            for price, size in levels:
                if Decimal(size) == 0:
                    side.pop(price, None)
                else:
                    side[price] = size
        self.last_id = depth["u"]

    def snapshot(self, limit: int = 5000) -> bytes:
        bids = sorted(self.bids.items(), key=lambda level: -Decimal(level[0]))[:limit]
        asks = sorted(self.asks.items(), key=lambda level: Decimal(level[0]))[:limit]
        body = {"lastUpdateId": self.last_id, "bids": bids, "asks": asks}
        return json.dumps(body, separators=(",", ":")).encode()


class Market:
    """One symbol: each step is a few frames, and the truth book has them already.

    Args:
        symbol: As the venue spells it.
        chained: Futures name the event before (`pu`) and leave holes between their ids.
        step_ms: How far its clock goes each step; by default it is the machine's.
    """

    def __init__(
        self, symbol: str, *, chained: bool = False, seed: int = 1, step_ms: int | None = None
    ) -> None:
        self.symbol = symbol
        self.book = TruthBook()
        self.past: deque[bytes] = deque(maxlen=200)
        self._chained = chained
        self._chance = random.Random(seed)
        self._mid = MID
        self._takers = random.Random(seed)
        self._trades, self._steps, self._step_ms = 0, 0, step_ms
        self._kline: TruthKline | None = None
        for ticks in range(1, 60):
            self.book.bids[price(MID - ticks)] = "1.000"
            self.book.asks[price(MID + ticks)] = "1.000"
        self.book.last_id = 1_000

    def step(self) -> list[tuple[str, bytes]]:
        """The next frames with their topics."""
        self.past.append(self.book.snapshot())
        depth = self._depth()
        self.book.apply(depth)
        self._trades += 1
        takers = self._takers
        trade = {
            **{"e": "trade", "E": depth["E"], "s": self.symbol, "t": self._trades},
            **{"p": price(self._mid + takers.randint(-3, 3)), "T": depth["E"]},
            **{"q": f"{takers.randint(1, 999) / 1000:.3f}", "m": takers.random() < 0.5, "M": True},
        }
        lower = self.symbol.lower()
        return [
            framed(f"{lower}@depth@100ms", depth),
            *self._klines(trade),
            framed(f"{lower}@trade", trade),
        ]

    def _klines(self, trade: dict) -> list[tuple[str, bytes]]:
        """The kline of the minute before, once it is over, and that of this one."""
        start_ms, frames = trade["T"] // 60_000 * 60_000, []
        if self._kline is None or self._kline.start_ms != start_ms:
            if self._kline is not None:
                frames.append(self._kline.frame(self.symbol, trade["E"], is_closed=True))
            self._kline = TruthKline(start_ms)
        self._kline.trades.append(trade)
        return [*frames, self._kline.frame(self.symbol, trade["E"], is_closed=False)]

    def _now_ms(self) -> int:
        self._steps += 1
        if self._step_ms is None:
            return time.time_ns() // 1_000_000
        return START_MS + self._steps * self._step_ms

    def _depth(self) -> dict:
        chance, before = self._chance, self.book.last_id
        moved = max(-3, min(3, round(chance.gauss(0, 1))))
        self._mid += moved
        bids, asks = {}, {}
        for side, sign, levels in (
            (bids, -1, self.book.bids),
            (asks, 1, self.book.asks),
        ):
            for level in list(levels):  # what the market walked over is gone
                if sign * (ticks(level) - self._mid) <= 0:
                    side[level] = "0.000"
            for _ in range(chance.randint(1, 8)):
                level = price(self._mid + sign * chance.randint(1, REACH))
                gone = level in levels and chance.random() < 0.4
                side[level] = "0.000" if gone else f"{chance.randint(1, 9999) / 1000:.3f}"
        first = before + 1 + (chance.randint(0, 5) if self._chained else 0)
        last = first + chance.randint(0, 4)
        now_ms = self._now_ms()
        depth = {"e": "depthUpdate", "E": now_ms, "s": self.symbol, "U": first, "u": last}
        if self._chained:
            depth |= {"T": now_ms, "pu": before}
        return depth | {"b": list(map(list, bids.items())), "a": list(map(list, asks.items()))}


class ReplayedMarket:
    """A market that sends the depth and trade frames of a real capture, as often as it is stepped.

    The truth book begins empty and has what the frames set.
    """

    def __init__(self, symbol: str, capture: Path) -> None:
        self.symbol = symbol
        self.book = TruthBook()
        self.past: deque[bytes] = deque(maxlen=20)
        self._frames = self._read(capture)

    def _read(self, capture: Path) -> Iterator[tuple[str, dict]]:
        with gzip.open(capture, "rt", encoding="utf-8") as lines:
            for line in lines:
                frame = json.loads(line.partition(" ")[2])
                data = frame.get("data", {})
                kind = {"depthUpdate": "depth@100ms", "trade": "trade"}.get(data.get("e"))
                if kind is not None:
                    yield f"{self.symbol.lower()}@{kind}", data

    def step(self) -> list[tuple[str, bytes]]:
        """The next frame of the capture; nothing at its end."""
        for topic, data in self._frames:
            if "depth" in topic:
                self.book.apply(data)
            return [framed(topic, data)]
        return []


def framed(topic: str, data: dict) -> tuple[str, bytes]:
    return topic, json.dumps({"stream": topic, "data": data}, separators=(",", ":")).encode()


def price(ticks_: int) -> str:
    return f"{ticks_ / 100:.2f}"


def ticks(text: str) -> int:
    return round(float(text) * 100)
