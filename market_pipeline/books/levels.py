"""One full-depth book in integer ticks and lots, at any price, in bounded memory.

A level is found by its *key*: its price in ticks for an ask, minus that for a bid. A smaller key is
a better price on either side, so everything here is written once for both.

Each side is a flat array of sizes indexed by key inside a window of `WINDOW_TICKS` around the
market, with a 64-ary hierarchy of bit words over it to find and walk populated levels. Bits are set
with every write and cleared only when a walk finds them empty, which keeps an update branch-free.
Levels outside the window (a bid at 560 USD while the market is at 61,800) live in a small sorted
array per side, so every price is exact and memory grows with the levels that exist, not with the
price range. The window follows the market; nothing is ever dropped.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_pipeline.jit import kernel

__all__ = [
    "ASK",
    "BID",
    "FAR",
    "ORIGIN",
    "WINDOW",
    "WINDOW_TICKS",
    "Levels",
    "base_ticks",
    "clear",
    "empty_levels",
    "far_is_full",
    "key_of",
    "place_window",
    "set_far_level",
    "set_level",
]

BID = 0
ASK = 1
WINDOW_TICKS = 1 << 20
FAR_CAPACITY = 4096

# Entries of `meta`; ORIGIN and FAR hold one number a side.
WINDOW = 0
WINDOW_PLACED = 1
ORIGIN = 2
FAR = 4
_META_SIZE = 6

# The sides lie one behind the other, and one bit of the top words covers this many indices.
_SIDE_ALIGNMENT = 1 << 18
_ONE = np.uint64(1)
_SIX = np.uint64(6)
_LOW_SIX_BITS = np.uint64(63)


class Levels(NamedTuple):
    """The levels of both sides, bids first; plain arrays, so numba reads it as is.

    Attributes:
        sizes: int64 (2 * stride,), lots at key `origin + index` of a side; 0 is no level.
        words0, words1, words2: uint64, one bit per index, per word of words0, of words1.
        far_keys: int64 (2 * capacity,), keys outside the window, ascending, `meta` says how many.
        far_sizes: int64 (2 * capacity,), their lots; 0 is a level that was removed.
        meta: int64 (6,), the window's width, whether it was placed, then for each side the key at
            index 0 and the number of far levels.
    """

    sizes: NDArray[np.int64]
    words0: NDArray[np.uint64]
    words1: NDArray[np.uint64]
    words2: NDArray[np.uint64]
    far_keys: NDArray[np.int64]
    far_sizes: NDArray[np.int64]
    meta: NDArray[np.int64]


def empty_levels(window_ticks: int = WINDOW_TICKS, far_capacity: int = FAR_CAPACITY) -> Levels:
    """A book without levels; the first level set places its window.

    Args:
        window_ticks: 1,048,576 ticks take 8 MB a side when all are touched.
        far_capacity: Levels a side that may lie outside the window before the arrays grow.
    """
    stride = -(-window_ticks // _SIDE_ALIGNMENT) * _SIDE_ALIGNMENT
    levels = Levels(
        sizes=np.zeros(2 * stride, np.int64),
        words0=np.zeros(2 * stride >> 6, np.uint64),
        words1=np.zeros(2 * stride >> 12, np.uint64),
        words2=np.zeros(2 * stride >> 18, np.uint64),
        far_keys=np.zeros(2 * far_capacity, np.int64),
        far_sizes=np.zeros(2 * far_capacity, np.int64),
        meta=np.zeros(_META_SIZE, np.int64),
    )
    levels.meta[WINDOW] = window_ticks
    return levels


@kernel
def key_of(side, price):
    """The key of a price on a side, and the price of a key: the same turn both ways."""
    return price if side == ASK else -price


@kernel
def place_window(meta, base):
    """Lets the window begin at a price in ticks; the book must be empty."""
    meta[WINDOW_PLACED] = 1
    meta[ORIGIN + ASK] = base
    meta[ORIGIN + BID] = -(base + meta[WINDOW] - 1)


@kernel
def base_ticks(meta):
    """The lowest price of the window."""
    return meta[ORIGIN + ASK]


@kernel
def clear(levels):
    """Removes all levels; the window stays where it is."""
    levels.sizes[:] = 0
    levels.words0[:] = 0
    levels.words1[:] = 0
    levels.words2[:] = 0
    levels.meta[FAR + BID] = 0
    levels.meta[FAR + ASK] = 0


@kernel
def set_level(levels, side, key, size):
    """Sets the size at a key, 0 removes it; returns the size that was there.

    The caller sees to room in the far arrays first (`far_is_full`). The kernel's loop does the same
    by hand, row after row.
    """
    meta = levels.meta
    if meta[WINDOW_PLACED] == 0:
        place_window(meta, key_of(side, key) - (meta[WINDOW] >> 1))
    index = key - meta[ORIGIN + side]
    if not 0 <= index < meta[WINDOW]:
        return set_far_level(levels.far_keys, levels.far_sizes, meta, side, key, size)
    flat = np.uint64(side * (levels.sizes.size >> 1) + index)
    before = levels.sizes[flat]
    levels.sizes[flat] = size
    word0 = flat >> _SIX
    word1 = word0 >> _SIX
    levels.words0[word0] |= _ONE << (flat & _LOW_SIX_BITS)
    levels.words1[word1] |= _ONE << (word0 & _LOW_SIX_BITS)
    levels.words2[word1 >> _SIX] |= _ONE << (word1 & _LOW_SIX_BITS)
    return before


@kernel
def far_position(far_keys, meta, side, key):
    """Where a key stands, or would stand, among the far keys of a side, counted from its first."""
    first = side * (far_keys.size >> 1)
    position = np.int64(0)
    length = meta[FAR + side]
    # Halved without a branch that could be foreseen wrongly.
    while length > 0:
        half = (length + 1) >> 1
        position += half * (far_keys[first + position + half - 1] < key)
        length -= half
    return position


@kernel
def set_far_level(far_keys, far_sizes, meta, side, key, size):
    """As `set_level`, for a key outside the window. A removed level keeps its place, at size 0."""
    first = side * (far_keys.size >> 1)
    count = meta[FAR + side]
    at = first + far_position(far_keys, meta, side, key)
    end = first + count
    if at < end and far_keys[at] == key:
        before = far_sizes[at]
        far_sizes[at] = size
        return before
    if size > 0:
        for i in range(end, at, -1):
            far_keys[i] = far_keys[i - 1]
            far_sizes[i] = far_sizes[i - 1]
        far_keys[at] = key
        far_sizes[at] = size
        meta[FAR + side] = count + 1
    return np.int64(0)


@kernel
def far_is_full(far_keys, far_sizes, meta, more):
    """Whether `more` far levels a side might not fit: the caller then makes room first."""
    capacity = far_keys.size >> 1
    if max(meta[FAR + BID], meta[FAR + ASK]) + more <= capacity:
        return False
    _drop_removed(far_keys, far_sizes, meta, BID)
    _drop_removed(far_keys, far_sizes, meta, ASK)
    # Some room beyond that, or the removed ones would be dropped again before long.
    return max(meta[FAR + BID], meta[FAR + ASK]) + more > capacity - (capacity >> 2)


@kernel
def _drop_removed(far_keys, far_sizes, meta, side):
    first = side * (far_keys.size >> 1)
    kept = first
    for i in range(first, first + meta[FAR + side]):
        if far_sizes[i] > 0:
            far_keys[kept] = far_keys[i]
            far_sizes[kept] = far_sizes[i]
            kept += 1
    meta[FAR + side] = kept - first
