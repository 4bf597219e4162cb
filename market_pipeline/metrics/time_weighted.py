"""What is true of a book from one message to the next, averaged over the time it was in force.

The time of each book is cut at the borders of intervals, and only valid time counts.

Rows come in batches, in any cut (`metrics.book_batches`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.books.state import read_only
from market_pipeline.jit import kernel
from market_pipeline.quality.intervals import BoolArray, IntArray, running_time_ns

__all__ = ["Grid", "pieces"]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Intervals that are reported, one after the other.

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
        return np.searchsorted(self.starts_ns, ts_ns, side="right") - 1

    def hold(self, ts_ns: IntArray) -> BoolArray:
        """True where an instant is in one of them."""
        held: BoolArray = (ts_ns >= self.starts_ns[0]) & (ts_ns < self.starts_ns[-1])
        return held

    def count(self, ts_ns: IntArray) -> IntArray:
        """How many instants are in each."""
        return np.bincount(self.of(ts_ns[self.hold(ts_ns)]), minlength=self.number)


@kernel
def _cut(
    time_ns: IntArray,
    is_valid: BoolArray,
    starts_ns: IntArray,
    not_observed: IntArray,
    at: int,
    state: IntArray,
    interval: IntArray,
    held_ns: IntArray,
) -> int:
    """Writes the pieces, given an interval before the first; returns how many they are."""
    found, span = 0, 0
    for row in range(time_ns.size - 1):
        begin_ns, end_ns = max(time_ns[row], starts_ns[0]), min(time_ns[row + 1], starts_ns[-1])
        if begin_ns >= end_ns or not is_valid[row]:
            continue
        while starts_ns[at + 1] <= begin_ns:
            at += 1
        while begin_ns < end_ns:
            until_ns = min(end_ns, starts_ns[at + 1])
            while span < not_observed.shape[0] and not_observed[span, 1] <= begin_ns:
                span += 1
            observed_ns, lost = until_ns - begin_ns, span
            while lost < not_observed.shape[0] and not_observed[lost, 0] < until_ns:
                observed_ns += max(not_observed[lost, 0], begin_ns)
                observed_ns -= min(not_observed[lost, 1], until_ns)
                lost += 1
            if observed_ns > 0:
                state[found], interval[found], held_ns[found] = row, at, observed_ns
                found += 1
            if until_ns == starts_ns[at + 1]:
                at += 1
            begin_ns = until_ns
    return found


def pieces(
    ts_receipt_ns: IntArray, flags: NDArray[np.uint16], grid: Grid, not_observed: IntArray
) -> tuple[IntArray, IntArray, IntArray]:
    """Cuts the time each book was in force at the borders of intervals; leaves out invalid time.

    Returns:
        int64, shape (pieces,) each: the row whose book is in force, which interval it is, and for
        how long, which is above 0.
    """
    time_ns = running_time_ns(ts_receipt_ns)
    is_valid = (flags & np.uint16(INVALIDATING)) == 0
    # Each border within makes one piece more.
    state, interval, held_ns = np.empty((3, len(time_ns) + grid.number), np.int64)
    at = max(0, int(grid.of(time_ns[:1])[0]))
    found = _cut(
        read_only(time_ns),
        read_only(is_valid),
        read_only(grid.starts_ns),
        read_only(not_observed),
        *(at, state, interval, held_ns),
    )
    return state[:found], interval[:found], held_ns[:found]
