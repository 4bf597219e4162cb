"""Sets the levels of a live book, finds the best ones, and drops those a venue does not keep."""

from __future__ import annotations

import numpy as np

from market_pipeline.books.levels import ASK, BID, far_is_full, key_of, set_level
from market_pipeline.books.walk import best_level, level_at_or_after
from market_pipeline.jit import kernel

__all__ = ["best_levels", "drop_beyond", "remove_between", "set_levels"]

_LAST = np.int64(2**62)


@kernel
def set_levels(levels, side, prices, sizes, at):
    """Sets levels of a side from a place in the arrays on; a negative size is passed over.

    Args:
        levels: The book.
        prices, sizes: int64 (n,), ticks and lots; 0 lots remove a level.

    Returns:
        Where it stopped: n, or a level that there is no room for among the far ones.
    """
    while at < prices.size:
        if sizes[at] >= 0 and prices[at] > 0:
            if far_is_full(levels.far_keys, levels.far_sizes, levels.meta, 1):
                return at
            set_level(levels, side, key_of(side, prices[at]), sizes[at])
        at += 1
    return at


@kernel
def best_levels(levels):
    """Key and size of the best bid, then of the best ask; size 0 where there is none."""
    bid, bid_size = best_level(levels, BID)
    ask, ask_size = best_level(levels, ASK)
    return bid, bid_size, ask, ask_size


@kernel
def drop_beyond(levels, side, depth):
    """Removes the levels of a side that are worse than its best ones, `depth` of them."""
    key = np.int64(-(2**62))
    for _ in range(depth):
        found, size = level_at_or_after(levels, side, key)
        if size == 0:
            return
        key = found + 1
    remove_between(levels, side, key, _LAST)


@kernel
def remove_between(levels, side, first, last):
    """Removes the levels of a side from one key up to and with another."""
    key, size = level_at_or_after(levels, side, first)
    while size > 0 and key <= last:
        set_level(levels, side, key, 0)
        key, size = level_at_or_after(levels, side, key + 1)
