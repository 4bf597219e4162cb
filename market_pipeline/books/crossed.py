"""A crossed book: how often and how long it is so, and the levels that are removed by policy."""

from __future__ import annotations

import numpy as np

from market_pipeline.books import registers as reg
from market_pipeline.books.flags import BookFlag
from market_pipeline.books.history import forget_rows
from market_pipeline.books.levels import ASK, BID, set_level
from market_pipeline.books.log import write_repair
from market_pipeline.books.state import Repair
from market_pipeline.books.walk import best_level, level_at_or_after
from market_pipeline.jit import kernel

__all__ = ["count_crossed", "stale_side", "uncross"]

_F_CROSSED = int(BookFlag.CROSSED)
_F_LOCKED = int(BookFlag.LOCKED)
_UNCROSS = int(Repair.UNCROSS)


@kernel
def count_crossed(registers, flags, last_flags, receipt, last_receipt, crossed_since):
    """Counts crossed and locked messages and time; returns since when the book is crossed, or 0."""
    elapsed = max(receipt - last_receipt, 0)
    if last_flags & _F_CROSSED:
        registers[reg.CROSSED_NS] += elapsed
    if last_flags & _F_LOCKED:
        registers[reg.LOCKED_NS] += elapsed
    registers[reg.CROSSED_MESSAGES] += flags & _F_CROSSED != 0
    registers[reg.LOCKED_MESSAGES] += flags & _F_LOCKED != 0
    if flags & _F_CROSSED == 0:
        return np.int64(0)
    return crossed_since if crossed_since != 0 else receipt


@kernel
def stale_side(bid_moved, ask_moved):
    """The side that a crossing message did not move; -1 if it moved both, or neither."""
    if bid_moved == ask_moved:
        return -1
    return ASK if bid_moved else BID


@kernel
def uncross(registers, levels, side, other_price, receipt, sequence, repairs, cursor):
    """Removes the levels of a side that the other side's best price reached; how many, logged."""
    reach = -other_price if side == BID else other_price
    key, size = best_level(levels, side)
    first = last = key
    removed = 0
    while size > 0 and key <= reach:
        set_level(levels, side, key, np.int64(0))
        removed += 1
        last = key
        key, size = level_at_or_after(levels, side, key + 1)
    forget_rows(registers)
    low, high = (-last, -first) if side == BID else (first, last)
    write_repair(registers, repairs, cursor, _UNCROSS, receipt, sequence, removed, low, high)
    return removed
