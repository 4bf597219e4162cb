"""A reader that has nothing but the event stream: two dicts of prices, and no rule of the book."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import polars as pl

LAST, SNAPSHOT, MAYBE_BAD_BOOK = 128, 32, 4
Touch = tuple[int | None, int | None, int | None, int | None]
COLUMNS = ("kind", "action", "side", "price_ticks", "size_lots", "flags", "message", "file_row")


@dataclass
class Reader:
    """What the events so far say the book is."""

    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)

    def read(self, action: str, side: str, price: int | None, size: int | None) -> None:
        if action == "R":
            self.bids.clear()
            self.asks.clear()
        elif action in ("A", "M", "C"):
            levels = self.bids if side == "B" else self.asks
            levels.pop(price, None)
            if size:
                levels[price] = size

    @property
    def touch(self) -> Touch:
        bid, ask = max(self.bids, default=None), min(self.asks, default=None)
        return bid, self.bids.get(bid), ask, self.asks.get(ask)


def read_events(rows: Iterable[tuple]) -> Iterator[tuple[str, int, bool, Touch]]:
    """After each message and before each trade: which, its number, whether valid, and the touch."""
    reader = Reader()
    for kind, action, side, price, size, flags, message, file_row in rows:
        is_valid = not flags & MAYBE_BAD_BOOK
        if kind == "trade":
            yield kind, file_row, is_valid, reader.touch
            continue
        reader.read(action, side, price, size)
        if flags & LAST and message is not None:
            yield "message", message, is_valid, reader.touch


def touches(rows: pl.DataFrame) -> list[Touch]:
    """The touch of each row of `books.bbo` or `books.trades`."""
    sides = [f"{side}_{part}" for side in ("bid", "ask") for part in ("price_ticks", "size_lots")]
    return rows.select(sides).rows()
