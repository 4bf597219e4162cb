"""Times of a feed that contradict the order of the others, and times that can be reckoned with.

A feed is in order but for a few: so the **order** of its times is their longest series that never
falls, and a time is a **stray** if it is more than `TOLERANCE_NS` above the next time of that
series, or below the one before. A running maximum would be ruined by one stamp of the
evening; here it takes more stamps to move the clock than there are that contradict them. The first
times and the last cannot be contradicted by anything before or after them.

Any int64 may stand in a column of times, and the difference of two need not fit one. `limited`
leaves those of all centuries near ours as they are.
"""

from __future__ import annotations

import numpy as np

from market_pipeline.books.state import read_only
from market_pipeline.jit import kernel
from market_pipeline.quality.intervals import BoolArray, IndexArray, IntArray, running_chunks

__all__ = ["TOLERANCE_NS", "in_order", "limited", "stray_times"]

TOLERANCE_NS = 1_000_000_000
"""Messages that overtake one another by no more than this are no strays."""

_LEAST_NS, _MOST_NS = -(2**61), 2**62
"""From the year 1896 to the year 2116."""


def limited(ts_ns: IntArray) -> IntArray:
    """The times, or the nearest ones of which no two differ by more than an int64 holds.

    Args:
        ts_ns: int64, shape (n,); returned as it is if nothing has to be changed.
    """
    if not ts_ns.size or (ts_ns.min() >= _LEAST_NS and ts_ns.max() <= _MOST_NS):
        return ts_ns
    within: IntArray = np.clip(ts_ns, _LEAST_NS, _MOST_NS)
    return within


def stray_times(ts_ns: IntArray) -> BoolArray:
    """Which times contradict the order of the others; bool, shape (n,).

    Of several longest series the one is taken whose members are the latest.

    Args:
        ts_ns: int64, shape (n,), `limited`, in the order of the feed.
    """
    stray = np.zeros(ts_ns.size, np.bool_)
    if any(
        (time_ns - ts_ns[first : first + len(time_ns)]).max() > TOLERANCE_NS
        for first, time_ns in running_chunks(ts_ns)
    ):
        lengths, last = np.empty((2, ts_ns.size), np.int32)
        _mark_strays(read_only(ts_ns), lengths, last, stray)
    return stray


@kernel
def _mark_strays(ts_ns: IntArray, lengths: IndexArray, last: IndexArray, stray: BoolArray) -> None:
    # By patience sorting: the longest series that ends with each time, and for each length where
    # the least time is that one ends with, which is also the latest.
    longest = 0
    for i in range(ts_ns.size):
        low, high = 0, longest
        while low < high:
            middle = (low + high) // 2
            if ts_ns[last[middle]] <= ts_ns[i]:
                low = middle + 1
            else:
                high = middle
        last[low] = i
        lengths[i] = low + 1
        longest = max(longest, low + 1)
    after = np.int64(_MOST_NS)
    wanted = longest
    for i in range(ts_ns.size - 1, -1, -1):
        if lengths[i] == wanted:
            wanted -= 1
            lengths[i] = 0
            after = ts_ns[i]
        else:
            stray[i] = ts_ns[i] - after > TOLERANCE_NS
    before = np.int64(_LEAST_NS)
    for i in range(ts_ns.size):
        if lengths[i] == 0:
            before = ts_ns[i]
        else:
            stray[i] |= before - ts_ns[i] > TOLERANCE_NS


def in_order(ts_receipt_ns: IntArray, start_ns: int, end_ns: int) -> IntArray | None:
    """The messages inside a UTC day whose times do not contradict the order of the others; None
    if it is all of them, so that of a sound day nothing is copied.
    """
    is_inside = (ts_receipt_ns >= start_ns) & (ts_receipt_ns < end_ns)
    if is_inside.all():
        is_stray = stray_times(ts_receipt_ns)
        return np.flatnonzero(~is_stray) if is_stray.any() else None
    inside = np.flatnonzero(is_inside)
    return inside[~stray_times(ts_receipt_ns[inside])]
