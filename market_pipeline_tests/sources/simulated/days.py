"""Reads simulated days back, and rebuilds them with a book so plain that it is obviously right."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl

from market_pipeline.sources.simulated import SimulatedInstrument

DAY = date(2025, 3, 3)
NEXT_DAY = date(2025, 3, 4)


def instrument(symbol: str = "BTC-USDT-PERP", **changes: object) -> SimulatedInstrument:
    """A simulated instrument with a fine price grid."""
    values: dict[str, object] = {
        "tick": Decimal("0.1"),
        "lot": Decimal("0.001"),
        "start_price": Decimal("60000.0"),
        "seed": 7,
    }
    return SimulatedInstrument(symbol=symbol, **{**values, **changes})  # type: ignore[arg-type]


def seconds(receipt: pl.Expr, day: date = DAY) -> pl.Expr:
    """Receipt times as seconds after midnight."""
    midnight = round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    return (receipt - midnight * 1_000_000_000) / 1e9


def folder(root: Path, table: str, symbol: str = "BTC-USDT-PERP", day: date = DAY) -> Path:
    """Where one instrument's day of a table is."""
    return root / table / "exchange=SIMULATED" / f"symbol={symbol}" / f"dt={day}"


def read(root: Path, table: str, symbol: str = "BTC-USDT-PERP", day: date = DAY) -> pl.DataFrame:
    """All rows of one instrument's day, shards in the order of their numbers."""
    shards = folder(root, table, symbol, day).glob("*.snappy.parquet")
    ordered = sorted(shards, key=lambda shard: int(shard.name.split(".")[0]))
    return pl.concat([pl.read_parquet(shard, hive_partitioning=False) for shard in ordered])


def digests(root: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, by its path."""
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(root.rglob("*"))
        if file.is_file()
    }


@dataclass
class PlainBook:
    """Two dictionaries from price to size."""

    bids: dict[float, float] = field(default_factory=dict)
    asks: dict[float, float] = field(default_factory=dict)

    @classmethod
    def seeded(cls, row: dict[str, float]) -> PlainBook:
        """A book of the 20 levels a side of one `book` row."""
        return cls(
            {row[f"bid_{rank}_price"]: row[f"bid_{rank}_size"] for rank in range(20)},
            {row[f"ask_{rank}_price"]: row[f"ask_{rank}_size"] for rank in range(20)},
        )

    def apply(self, side_is_bid: bool, price: float, size: float) -> bool:
        """Sets or removes a level; returns whether it was known before."""
        side = self.bids if side_is_bid else self.asks
        known = price in side
        if size == 0:
            side.pop(price, None)
        else:
            side[price] = size
        return known

    @property
    def touch(self) -> tuple[float, float, float, float]:
        """Best bid price and size, best ask price and size."""
        bid, ask = max(self.bids), min(self.asks)
        return bid, self.bids[bid], ask, self.asks[ask]

    @property
    def top(self) -> list[float]:
        """Prices and sizes of the best 20 levels a side, in the order of a `book` row."""
        levels = [(price, self.bids[price]) for price in sorted(self.bids, reverse=True)[:20]]
        levels += [(price, self.asks[price]) for price in sorted(self.asks)[:20]]
        return [value for level in levels for value in level]


def rebuilt_touches(
    deltas: pl.DataFrame, snapshot: dict[str, float]
) -> list[tuple[int, tuple[float, float, float, float]]]:
    """Sequence number and touch of a plain book after each message later than a seed."""
    book = PlainBook.seeded(snapshot)
    later = deltas.filter(pl.col("sequence_number") > snapshot["sequence_number"])
    touches = []
    for (sequence,), rows in later.group_by("sequence_number", maintain_order=True):
        for level in rows.select("side_is_bid", "price", "size").iter_rows():
            book.apply(*level)
        touches.append((int(sequence), book.touch))
    return touches


def true_touches(
    truth: pl.DataFrame, after: float
) -> list[tuple[int, tuple[float, float, float, float]]]:
    """The market's own touches later than a sequence number, in the same form."""
    later = truth.filter(pl.col("sequence_number") > after)
    columns = ("bid_0_price", "bid_0_size", "ask_0_price", "ask_0_size")
    return [
        (int(row[0]), (row[1], row[2], row[3], row[4]))
        for row in later.select("sequence_number", *columns).iter_rows()
    ]
