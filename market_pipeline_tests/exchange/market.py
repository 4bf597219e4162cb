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
    """

    def __init__(self, symbol: str, *, chained: bool = False, seed: int = 1) -> None:
        self.symbol = symbol
        self.book = TruthBook()
        self.past: deque[bytes] = deque(maxlen=200)
        self._chained = chained
        self._chance = random.Random(seed)
        self._mid = MID
        self._trades = 0
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
        trade = {
            **{"e": "trade", "E": depth["E"], "s": self.symbol, "t": self._trades},
            **{"p": price(self._mid), "q": "0.010", "T": depth["E"], "m": True, "M": True},
        }
        lower = self.symbol.lower()
        return [
            framed(f"{lower}@depth@100ms", depth),
            framed(f"{lower}@trade", trade),
        ]

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
        now_ms = time.time_ns() // 1_000_000
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
