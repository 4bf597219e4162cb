"""What changed between rows of `books.depth` that follow each other, summed by interval."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.jit import inlined_kernel, kernel
from market_pipeline.metrics.change_columns import CHANGED_LEVELS, CHANGED_TICKS, OFI_LEVELS
from market_pipeline.quality.intervals import FloatArray, IntArray

__all__ = ["COUNTED", "Changes", "add_changes"]

COUNTED: Final = ("depth_pair_count", *(each.column for each in CHANGED_LEVELS + CHANGED_TICKS))
"""Columns of `Changes.counts`."""

_LAST_LEVEL: Final = tuple(each.last for each in CHANGED_LEVELS)
_LAST_TICK: Final = tuple(each.last for each in CHANGED_TICKS)
_FIRST_OF_LEVELS: Final = 1
_FIRST_OF_TICKS: Final = 1 + len(_LAST_LEVEL)
_FAR = np.int64(2**62)


class Changes(NamedTuple):
    """Sums of all pairs of rows.

    Attributes:
        ofi: float64, shape (intervals, OFI_LEVELS + 1), in lots, the sum of all levels the last.
        counts: int64, shape (intervals, len(COUNTED)).
        reach: int64, shape (intervals, 2): the most levels and ticks compared; -2**62 without.
    """

    ofi: FloatArray
    counts: IntArray
    reach: IntArray

    @classmethod
    def of(cls, number: int) -> Changes:
        """Of so many intervals, without a pair."""
        return cls(
            np.zeros((number, OFI_LEVELS + 1)),
            np.zeros((number, len(COUNTED)), np.int64),
            np.full((number, 2), -_FAR),
        )


@inlined_kernel
def _confirmed_levels(levels, confirmed, side, row):
    """How many levels of a side are there and confirmed; behind one that is not there is none."""
    lots = (2 * side + 1) * DEPTH_LEVELS
    count = min(DEPTH_LEVELS, confirmed[side, row])
    while count > 0 and levels[lots + count - 1, row] <= 0:
        count -= 1
    return count


@inlined_kernel
def _key(levels, side, level, row):
    """A price so turned that a better one of the side is smaller."""
    ticks = levels[2 * side * DEPTH_LEVELS + level, row]
    return -ticks if side == 0 else ticks


@inlined_kernel
def _flow(levels, side, level, row):
    """What was added to a level of a side since the row before, as Cont, Kukanov and Stoikov do."""
    lots = (2 * side + 1) * DEPTH_LEVELS + level
    key, was = _key(levels, side, level, row), _key(levels, side, level, row - 1)
    return (key <= was) * levels[lots, row] - (key >= was) * levels[lots, row - 1]


@kernel
def _shown(levels, confirmed, side, row):
    """Levels that a row and the one before show of a side, and the farthest price of both.

    The price is turned as `_key` does; 0 levels of either is no such price.
    """
    was = _confirmed_levels(levels, confirmed, side, row - 1)
    now = _confirmed_levels(levels, confirmed, side, row)
    farthest = -_FAR
    if was > 0 and now > 0:
        farthest = min(_key(levels, side, was - 1, row - 1), _key(levels, side, now - 1, row))
    return was, now, farthest


@inlined_kernel
def _add_to_range(counts, first, lasts, at, compared):
    """Counts a change in the range that it is in, if so much was compared as that takes."""
    for each in range(len(lasts)):
        if at <= lasts[each]:
            counts[first + each] += compared >= lasts[each]
            break


@kernel
def _count(counts, levels, side, row, shown, least, ticks):
    """Counts the prices of a side whose size changed, up to the farthest that both rows show."""
    lots = (2 * side + 1) * DEPTH_LEVELS
    was_shown, now_shown, farthest = shown
    touch = _key(levels, side, 0, row - 1)
    before = after = 0
    while True:
        key_before = _key(levels, side, before, row - 1) if before < was_shown else _FAR
        key_after = _key(levels, side, after, row) if after < now_shown else _FAR
        key = min(key_before, key_after)
        if key > farthest:
            break
        was = levels[lots + before, row - 1] if key == key_before else 0
        size = levels[lots + after, row] if key == key_after else 0
        if size != was:
            level = after + 1 if size > was else before + 1
            _add_to_range(counts, _FIRST_OF_LEVELS, _LAST_LEVEL, level, least)
            _add_to_range(counts, _FIRST_OF_TICKS, _LAST_TICK, key - touch, ticks)
        before += key == key_before
        after += key == key_after


@kernel
def add_changes(changes, interval, is_pair, levels, confirmed):
    """Adds what changed from the row before to each row that is compared with it.

    Args:
        changes: `Changes`, added to.
        interval: int64, shape (rows,): which one each row is in.
        is_pair: bool, shape (rows,): whether the row is compared with the one before.
        levels: int64, shape (80, rows): bid ticks, bid lots, ask ticks, ask lots.
        confirmed: int64, shape (2, rows).
    """
    for row in range(1, interval.size):
        if not is_pair[row]:
            continue
        bids, asks = _shown(levels, confirmed, 0, row), _shown(levels, confirmed, 1, row)
        least = min(bids[0], bids[1], asks[0], asks[1])
        if least == 0:
            continue
        ticks = min(bids[2] - _key(levels, 0, 0, row - 1), asks[2] - _key(levels, 1, 0, row - 1))
        at = interval[row]
        counts, ofi, reach = changes.counts[at], changes.ofi[at], changes.reach[at]
        counts[0] += 1
        reach[0] = max(reach[0], least)
        reach[1] = max(reach[1], ticks)
        total = 0.0
        for level in range(min(least, OFI_LEVELS)):
            flow = np.float64(_flow(levels, 0, level, row) - _flow(levels, 1, level, row))
            ofi[level] += flow
            total += flow
        if least >= OFI_LEVELS:
            ofi[OFI_LEVELS] += total
        _count(counts, levels, 0, row, bids, least, ticks)
        _count(counts, levels, 1, row, asks, least, ticks)
