"""What is known of each row of `books.depth`, summed over the time it was in force."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.jit import inlined_kernel, kernel
from market_pipeline.metrics.columns import DEPTH_BPS, DEPTH_LEVELS_SUMMED
from market_pipeline.quality.intervals import BoolArray, FloatArray, IntArray

__all__ = ["AVERAGED", "Depths", "add_depths"]

_SIDES: Final = ("bid", "ask")
AVERAGED: Final = (
    *(
        name
        for levels in DEPTH_LEVELS_SUMMED
        for name in (f"bid_depth_{levels}", f"ask_depth_{levels}", f"depth_imbalance_{levels}")
    ),
    *(f"{side}_depth_{bps}bps" for bps in DEPTH_BPS for side in _SIDES),
)
_FIRST_BPS: Final = 3 * len(DEPTH_LEVELS_SUMMED)


class Depths(NamedTuple):
    """What is known of one row, and the sums of all.

    Attributes:
        value, known: float64 and bool, shape (len(AVERAGED),), of the last row looked at.
        sums, held_ns: float64 and int64, shape (intervals, len(AVERAGED)).
        valid_ns: int64, shape (intervals, 1).
        reach: float64, shape (intervals, 2): the most levels confirmed, and the most bps; -1 where
            nothing was.
    """

    value: FloatArray
    known: BoolArray
    sums: FloatArray
    held_ns: IntArray
    valid_ns: IntArray
    reach: FloatArray

    @classmethod
    def of(cls, number: int) -> Depths:
        """Of so many intervals, without a row."""
        width = len(AVERAGED)
        return cls(
            np.zeros(width),
            np.zeros(width, np.bool_),
            np.zeros((number, width)),
            np.zeros((number, width), np.int64),
            np.zeros((number, 1), np.int64),
            np.full((number, 2), -1.0),
        )


@inlined_kernel
def _bps(ticks, mid2):
    """How far a price is from the mid."""
    return 10_000.0 * abs(2 * ticks - mid2) / mid2


@inlined_kernel
def _look(depths, levels, confirmed, row):
    """What is known of a row; returns the levels and bps confirmed on both sides at once."""
    value, known = depths.value, depths.known
    known[:] = False
    bid_ticks, bid_lots, ask_ticks, ask_lots = 0, DEPTH_LEVELS, 2 * DEPTH_LEVELS, 3 * DEPTH_LEVELS
    least_levels, least_bps = DEPTH_LEVELS, np.inf
    has_both = levels[bid_lots, row] > 0 and levels[ask_lots, row] > 0
    mid2 = levels[bid_ticks, row] + levels[ask_ticks, row]
    for side in range(2):
        ticks, lots = (bid_ticks, bid_lots) if side == 0 else (ask_ticks, ask_lots)
        there = DEPTH_LEVELS  # behind a level that is not there is none
        while there > 0 and levels[lots + there - 1, row] <= 0:
            there -= 1
        sure = min(there, confirmed[side, row])
        least_levels = min(least_levels, sure)
        total = 0.0
        level = 0
        for at in range(len(DEPTH_LEVELS_SUMMED)):
            wanted = min(DEPTH_LEVELS_SUMMED[at], there)
            while level < wanted:
                total += levels[lots + level, row]
                level += 1
            value[3 * at + side] = total
            known[3 * at + side] = there > 0 and sure >= wanted
        if not has_both or sure == 0:
            least_bps = -1.0
            continue
        reach = _bps(levels[ticks + sure - 1, row], mid2)
        least_bps = min(least_bps, reach)
        total = 0.0
        level = 0
        for at in range(len(DEPTH_BPS)):
            while level < sure and _bps(levels[ticks + level, row], mid2) <= DEPTH_BPS[at]:
                total += levels[lots + level, row]
                level += 1
            value[_FIRST_BPS + 2 * at + side] = total
            known[_FIRST_BPS + 2 * at + side] = reach >= DEPTH_BPS[at]
    for at in range(len(DEPTH_LEVELS_SUMMED)):
        if known[3 * at] and known[3 * at + 1]:
            bid, ask = value[3 * at], value[3 * at + 1]
            value[3 * at + 2] = (bid - ask) / (bid + ask)
            known[3 * at + 2] = True
    return least_levels, least_bps


@kernel
def add_depths(depths, state, interval, held_ns, levels, confirmed):
    """Adds the time that rows were in force, piece by piece."""
    last = -1
    least_levels, least_bps = 0, 0.0
    for piece in range(state.size):
        if state[piece] != last:
            last = state[piece]
            least_levels, least_bps = _look(depths, levels, confirmed, last)
        at, held = interval[piece], held_ns[piece]
        depths.valid_ns[at, 0] += held
        depths.reach[at, 0] = max(depths.reach[at, 0], least_levels)
        depths.reach[at, 1] = max(depths.reach[at, 1], least_bps)
        for each in range(depths.value.size):
            if depths.known[each]:
                depths.sums[at, each] += depths.value[each] * held
                depths.held_ns[at, each] += held
