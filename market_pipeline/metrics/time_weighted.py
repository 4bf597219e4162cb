"""What is true of a book from one message to the next, averaged over the time it was in force.

The time of each book is cut at the borders of intervals, and only valid time counts.

Rows come in batches, in any cut (`metrics.book_batches`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.quality.intervals import (
    NS_PER_HOUR,
    NS_PER_SECOND,
    BoolArray,
    FloatArray,
    IntArray,
    day_bounds_ns,
    overlap_ns,
    running_time_ns,
)

__all__ = ["Grid", "Sums", "Values", "pieces"]

_NS_PER_MINUTE = 60 * NS_PER_SECOND


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Intervals of equal width that are reported, one after the other.

    Attributes:
        starts_ns: int64, shape (intervals + 1,): the start of each, then the end of the last.
    """

    starts_ns: IntArray

    @classmethod
    def between(cls, start_ns: int, end_ns: int, width_ns: int) -> Grid:
        """Those from one instant to another, a whole number of widths later."""
        return cls(np.arange(start_ns, end_ns + width_ns, width_ns, dtype=np.int64))

    @classmethod
    def minutes_around(cls, day: date) -> Grid:
        """The minutes of a UTC day and of an hour on either side."""
        start_ns, end_ns = day_bounds_ns(day)
        return cls.between(start_ns - NS_PER_HOUR, end_ns + NS_PER_HOUR, _NS_PER_MINUTE)

    @property
    def number(self) -> int:
        """How many they are."""
        return len(self.starts_ns) - 1

    def of(self, ts_ns: IntArray) -> IntArray:
        """Which interval each instant is in; the instants must be held."""
        interval: IntArray = (ts_ns - self.starts_ns[0]) // (self.starts_ns[1] - self.starts_ns[0])
        return interval

    def hold(self, ts_ns: IntArray) -> BoolArray:
        """True where an instant is in one of them."""
        held: BoolArray = (ts_ns >= self.starts_ns[0]) & (ts_ns < self.starts_ns[-1])
        return held

    def count(self, ts_ns: IntArray) -> IntArray:
        """How many instants are in each."""
        return np.bincount(self.of(ts_ns[self.hold(ts_ns)]), minlength=self.number)


def pieces(
    ts_receipt_ns: IntArray, flags: NDArray[np.uint16], grid: Grid, not_observed: IntArray
) -> tuple[IntArray, IntArray, IntArray]:
    """Cuts the time each book was in force at the borders of intervals; leaves out invalid time.

    Returns:
        int64, shape (pieces,) each: the row whose book is in force, which interval it is, and for
        how long, which is above 0.
    """
    time_ns = running_time_ns(ts_receipt_ns)
    borders = grid.starts_ns
    borders = borders[(borders > time_ns[0]) & (borders < time_ns[-1])]
    position = np.searchsorted(time_ns, borders, side="right")
    starts_ns = np.insert(time_ns, position, borders)
    state = np.insert(np.arange(len(time_ns)), position, position - 1)
    ends_ns = np.append(starts_ns[1:], starts_ns[-1])
    held_ns = ends_ns - starts_ns - overlap_ns(starts_ns, ends_ns, not_observed)
    is_valid = (flags & np.uint16(INVALIDATING)) == 0
    kept = (held_ns > 0) & is_valid[state] & grid.hold(starts_ns)
    return state[kept], grid.of(starts_ns[kept]), held_ns[kept]


Values = dict[str, tuple[FloatArray, BoolArray]]
"""By figure: float64 and bool, shape (rows,). What it is of each book (finite, also where there is
no such thing), and whether there is."""


class Sums:
    """Per interval the valid time, and each figure's sum over the time in which it is usable."""

    def __init__(self, grid: Grid, not_observed: IntArray) -> None:
        self._grid = grid
        self._not_observed = not_observed
        self._valid_ns = np.zeros(grid.number, dtype=np.int64)
        self._sums: dict[str, tuple[IntArray, FloatArray]] = {}

    def add(self, rows: pl.DataFrame, values: Values) -> None:
        """Counts the time from the first to the last of some rows."""
        state, interval, held_ns = pieces(
            rows["ts_receipt_ns"].to_numpy(),
            rows["flags"].to_numpy(),
            self._grid,
            self._not_observed,
        )
        np.add.at(self._valid_ns, interval, held_ns)
        for name, (figure, usable) in values.items():
            # A weight of 0 in place of a selection: no copies of state and interval for a few rows.
            weights = held_ns * usable[state]
            usable_ns, weighted = self._sums_of(name)
            # Added term by term, so that no cut of the rows changes a rounding.
            np.add.at(usable_ns, interval, weights)
            np.add.at(weighted, interval, figure[state] * weights)

    @property
    def valid_seconds(self) -> FloatArray:
        """The valid time of each interval."""
        seconds: FloatArray = self._valid_ns / NS_PER_SECOND
        return seconds

    def average(self, name: str) -> pl.Series:
        """A figure's time-weighted mean, one per interval; null where it had no time."""
        usable_ns, weighted = self._sums_of(name)
        means = np.full(self._grid.number, np.nan)
        np.divide(weighted, usable_ns, out=means, where=usable_ns > 0)
        return pl.Series(means, nan_to_null=True)

    def _sums_of(self, name: str) -> tuple[IntArray, FloatArray]:
        number = self._grid.number
        return self._sums.setdefault(name, (np.zeros(number, dtype=np.int64), np.zeros(number)))
