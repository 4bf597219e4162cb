"""Faults of the library in copies of real lake days, as the table of the docs shows them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from market_pipeline_tests.detection.faults import CASES
from market_pipeline_tests.detection.faults.day import RawDay

__all__ = ["FAULTS", "CopiedDay", "RealFault", "copied", "lost_messages"]

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

    def spoil(self, case: str) -> None:
        """Puts a fault of the library into the day."""
        clean = RawDay.read(self.lake, self.exchange, self.symbol, date.fromisoformat(self.day))
        spoilt = CASES[case](clean)
        spoilt.write(self.lake, spoilt.changed_tables(clean))


def copied(sample: Path, lake: Path, exchange: str, symbol: str, day: str) -> CopiedDay:
    """A copy of a day of the sample."""
    made = CopiedDay(lake, exchange, symbol, day)
    for table in TABLES:
        source = CopiedDay(sample / "lake", exchange, symbol, day).file(table)
        made.file(table).parent.mkdir(parents=True)
        shutil.copyfile(source, made.file(table))
    return made


def lost_messages(day: CopiedDay) -> None:
    """One message in a hundred is not there."""
    day.spoil("one percent of messages lost")


@dataclass(frozen=True)
class RealFault:
    """A fault as the docs name it, its case in the library, and the checks that must find it."""

    name: str
    case: str
    expected: tuple[str, ...]

    @property
    def plant(self) -> Callable[[CopiedDay], None]:
        """What puts it into a copied day."""
        return lambda day: day.spoil(self.case)


FAULTS = (
    RealFault("a silence of 5 s", "short silence of deltas and snapshots", ("gap",)),
    RealFault("1 % of the messages dropped", "one percent of messages lost", ("snapshot_match",)),
    RealFault("two messages swapped", "messages swapped", ("ordering",)),
    RealFault("the receipt clock set forward by 300 ms", "receipt clock step [300]", ("skew",)),
    RealFault("a price through float32", "price through float32 [touch]", ("precision",)),
    RealFault(
        "a price rounded to another on the grid",
        "price rounded to the grid [touch]",
        ("snapshot_match",),
    ),
    RealFault("a stale snapshot", "stale snapshot [100]", ("snapshot_match",)),
    RealFault("a corrupt row group", "row group damaged [deltas]", ("schema",)),
)
