"""What is true of a book from one message to the next, averaged over the time it was in force.

The time of each book is cut at the borders of intervals, and only valid time counts.

Rows come in batches, in any cut (`metrics.book_batches`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.quality.intervals import (
    BoolArray,
    IntArray,
    overlap_ns,
    running_time_ns,
)

__all__ = ["Grid", "pieces"]


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
