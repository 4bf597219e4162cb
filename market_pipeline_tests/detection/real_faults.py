"""Faults put into copies of real lake days: each is what can happen to a vendor's file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

NS = 1_000_000_000
TABLES = ("book_delta_v2", "book", "trades")


@dataclass(frozen=True)
class CopiedDay:
    """One instrument's day in a lake of its own, to be spoilt."""

    lake: Path
    exchange: str
    symbol: str
    day: str

    def file(self, table: str) -> Path:
        """The one shard of a table."""
        folder = f"exchange={self.exchange}/symbol={self.symbol}/dt={self.day}"
        return self.lake / table / folder / "1.snappy.parquet"

    def read(self, table: str) -> pl.DataFrame:
        """All rows of a table."""
        return pl.read_parquet(self.file(table), hive_partitioning=False)

    def write(self, table: str, rows: pl.DataFrame) -> None:
        """Other rows in place of a table's."""
        rows.write_parquet(self.file(table), compression="snappy", row_group_size=20_000)

    def middle_ns(self) -> int:
        """The receipt time in the middle of the day's messages."""
        times = self.read("book_delta_v2")["receipt_timestamp"]
        return int(times[len(times) // 2])


def copied(sample: Path, lake: Path, exchange: str, symbol: str, day: str) -> CopiedDay:
    """A copy of a day of the sample."""
    made = CopiedDay(lake, exchange, symbol, day)
    for table in TABLES:
        source = CopiedDay(sample / "lake", exchange, symbol, day).file(table)
        made.file(table).parent.mkdir(parents=True)
        shutil.copyfile(source, made.file(table))
    return made


def _outside(rows: pl.DataFrame, start_ns: int, end_ns: int) -> pl.DataFrame:
    time = pl.col("receipt_timestamp")
    return rows.filter((time < start_ns) | (time >= end_ns))


def silence(day: CopiedDay) -> None:
    """Five seconds without a delta or a book row, while trades go on."""
    start_ns = day.middle_ns()
    for table in ("book_delta_v2", "book"):
        day.write(table, _outside(day.read(table), start_ns, start_ns + 5 * NS))


def lost_messages(day: CopiedDay) -> None:
    """One message in a hundred is not there."""
    rows = day.read("book_delta_v2")
    numbers = rows["sequence_number"].unique(maintain_order=True)
    chosen = np.random.default_rng(7).random(len(numbers)) < 0.01
    day.write(
        "book_delta_v2", rows.filter(~pl.col("sequence_number").is_in(list(numbers.filter(chosen))))
    )


def swapped_messages(day: CopiedDay) -> None:
    """Two neighbouring messages stand in each other's place."""
    rows = day.read("book_delta_v2")
    one, other = rows["sequence_number"].unique(maintain_order=True)[2_000:2_002]
    number = pl.col("sequence_number")
    place = pl.when(number == one).then(other).when(number == other).then(one).otherwise(number)
    day.write(
        "book_delta_v2",
        rows.with_columns(place.alias("place")).sort("place", maintain_order=True).drop("place"),
    )


def shifted_clock(day: CopiedDay) -> None:
    """The receipt clock of all tables is set forward by 300 ms in the middle of the day."""
    at_ns = day.middle_ns()
    time = pl.col("receipt_timestamp")
    for table in TABLES:
        moved = time + pl.when(time >= at_ns).then(300_000_000).otherwise(0)
        day.write(table, day.read(table).with_columns(moved))


def price_as_float32(day: CopiedDay) -> None:
    """One price went through a 32-bit float and is not on its tick any more."""
    rows = day.read("book_delta_v2")
    price = rows["price"].to_numpy().copy()
    at = next(
        row
        for row in range(len(price) // 2, len(price))
        if abs(float(np.float32(price[row])) - price[row]) > 1e-4
    )
    price[at] = float(np.float32(price[at]))
    day.write("book_delta_v2", rows.with_columns(price=price))


def price_rounded(day: CopiedDay) -> None:
    """A price near the touch is rounded down to a whole number, a price like any other."""
    rows = day.read("book_delta_v2")
    middle = day.middle_ns()
    snapshot = day.read("book").filter(pl.col("receipt_timestamp") > middle).row(0, named=True)
    near = rows.with_row_index().filter(
        (pl.col("receipt_timestamp") > middle)
        & pl.col("side_is_bid")
        & (pl.col("size") > 0)
        & ((pl.col("price") - snapshot["bid_0_price"]).abs() < snapshot["bid_0_price"] * 2e-5)
        & ((pl.col("price") * 10).round(6) % 10 != 0)
    )
    at = near["index"][0]
    price = rows["price"].to_numpy().copy()
    price[at] = np.floor(price[at])
    day.write("book_delta_v2", rows.with_columns(price=price))


def stale_snapshot(day: CopiedDay) -> None:
    """A book row shows the levels of one ten seconds before."""
    rows = day.read("book")
    at = rows.height // 2
    levels = [name for name in rows.columns if name.startswith(("bid_", "ask_"))]
    changed = rows.with_row_index().with_columns(
        pl.when(pl.col("index") == at).then(pl.col(name).shift(100)).otherwise(name).alias(name)
        for name in levels
    )
    day.write("book", changed.drop("index"))


def corrupt_row_group(day: CopiedDay) -> None:
    """Bytes in the middle of the delta file are overwritten; its footer is whole."""
    day.write("book_delta_v2", day.read("book_delta_v2"))
    file = day.file("book_delta_v2")
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4_096] = b"\xff" * 4_096
    file.write_bytes(content)


@dataclass(frozen=True)
class RealFault:
    """A fault, what plants it, and the checks that must find it."""

    name: str
    plant: Callable[[CopiedDay], None]
    expected: tuple[str, ...]


FAULTS = (
    RealFault("a silence of 5 s", silence, ("gap",)),
    RealFault("1 % of the messages dropped", lost_messages, ("exam",)),
    RealFault("two messages swapped", swapped_messages, ("ordering",)),
    RealFault("the receipt clock set forward by 300 ms", shifted_clock, ("skew",)),
    RealFault("a price through float32", price_as_float32, ("precision",)),
    RealFault("a price rounded to another on the grid", price_rounded, ("exam",)),
    RealFault("a stale snapshot", stale_snapshot, ("exam",)),
    RealFault("a corrupt row group", corrupt_row_group, ("schema",)),
)
