"""Rows of a raw table that were received outside the UTC day, and which day they are of.

A few of them are the minute around midnight, or stamps that are wrong; most of a table's are
another day's file.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from market_pipeline.sources.crypto_lake import RawBatch

__all__ = ["OutsideDay", "OutsidePlace"]

_MAX_PLACES = 10
_MAX_DAYS = 1_000
_NS_PER_DAY = 86_400_000_000_000


class OutsidePlace(NamedTuple):
    """A row that was received outside the day, and its receipt time, ns UTC."""

    file: Path
    row: int
    column: str
    ts_receipt_ns: int
    sequence_number: int | None


class OutsideDay:
    """Counts the rows of a raw table by where their receipt times lie, batch by batch.

    Args:
        day_start_ns, day_end_ns: The UTC day.
        sequence: The column of the rows' numbers.

    Attributes:
        places: The first ten rows outside, in the order of the feed.
    """

    def __init__(self, day_start_ns: int, day_end_ns: int, sequence: str) -> None:
        self._start_ns, self._end_ns = day_start_ns, day_end_ns
        self._sequence = sequence
        self._rows_by_file: dict[Path, list[int]] = {}
        self._rows_by_day: dict[int, int] = {}
        self._count = 0
        self._earliest_ns, self._latest_ns = 2**63 - 1, -(2**63)
        self.places: list[OutsidePlace] = []

    def add(self, batch: RawBatch) -> None:
        """Takes a batch into account; a row without a receipt time is of no day."""
        times = batch.arrays["receipt_timestamp"]
        of_file = self._rows_by_file.setdefault(batch.file, [0, 0])
        of_file[0] += times.size
        if not times.size or (times.min() >= self._start_ns and times.max() < self._end_ns):
            return
        outside = (times < self._start_ns) | (times >= self._end_ns)
        nulls = batch.nulls.get("receipt_timestamp")
        if nulls is not None:
            outside &= ~nulls
        rows = np.flatnonzero(outside)
        if not rows.size:
            return
        of_file[1] += rows.size
        self._count += rows.size
        there = times[rows]
        self._earliest_ns = min(self._earliest_ns, int(there.min()))
        self._latest_ns = max(self._latest_ns, int(there.max()))
        days, counts = np.unique(there // _NS_PER_DAY, return_counts=True)
        for day, count in zip(days.tolist(), counts.tolist(), strict=True):
            # Stamps that are noise have a day each; those that matter have come before.
            if day in self._rows_by_day or len(self._rows_by_day) < _MAX_DAYS:
                self._rows_by_day[day] = self._rows_by_day.get(day, 0) + count
        for at in rows[: _MAX_PLACES - len(self.places)].tolist():
            self.places.append(self._place(batch, at))

    def figures(self) -> dict[str, int | date | list[Path]]:
        """The columns of `lake.profiles`, after the last batch."""
        if not self._count:
            return {"receipts_outside_day": 0, "files_outside_day": []}
        number = max(self._rows_by_day, key=self._rows_by_day.__getitem__)
        return {
            "receipts_outside_day": self._count,
            "earliest_outside_ns": self._earliest_ns,
            "latest_outside_ns": self._latest_ns,
            "outside_day": _date(number),
            "files_outside_day": [
                file for file, (rows, outside) in self._rows_by_file.items() if 2 * outside > rows
            ],
        }

    def _place(self, batch: RawBatch, at: int) -> OutsidePlace:
        nulls = batch.nulls.get(self._sequence)
        known = nulls is None or not nulls[at]
        return OutsidePlace(
            batch.file,
            batch.first_row + at,
            batch.names["receipt_timestamp"],
            int(batch.arrays["receipt_timestamp"][at]),
            int(batch.arrays[self._sequence][at]) if known else None,
        )


def _date(days: int) -> date:
    """The UTC day of so many days since the epoch; an int64 of nanoseconds is from 1677 to 2262."""
    return date.fromordinal(datetime(1970, 1, 1, tzinfo=UTC).toordinal() + days)
