"""One full-depth book in integer ticks and lots, at any price, in bounded memory.

Each side is a flat array of sizes indexed by tick inside a window of `WINDOW_TICKS` around the
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

from market_pipeline.books.jit import kernel
from market_pipeline.books.scale import NOT_REPRESENTABLE

__all__ = ["ASK", "BID", "WINDOW_TICKS", "Levels", "apply_rows", "empty_levels", "set_level"]

BID = 0
ASK = 1
WINDOW_TICKS = 1 << 20
FAR_CAPACITY = 1024
_ONE = np.uint64(1)
_U6 = np.uint64(6)
_U63 = np.uint64(63)

BASE, WINDOW_SET, BID_FAR, ASK_FAR, BID_LEVELS, ASK_LEVELS = range(6)
_META_SIZE = 6


class Levels(NamedTuple):
    """The levels of both sides (index 0 bids, 1 asks); plain arrays, so numba reads it as is.

    Attributes:
        sizes: int64 (2, window), lots at tick `base + index`; 0 is no level.
        words0, words1, words2: uint64 (2, n), one bit per index, per word of words0, of words1.
        far_prices: int64 (2, capacity), ticks outside the window, ascending, `meta` says how many.
        far_sizes: int64 (2, capacity), their lots, always above 0.
        meta: int64 (6,), the window's base tick and the counts named in this module.
    """

    sizes: NDArray[np.int64]
    words0: NDArray[np.uint64]
    words1: NDArray[np.uint64]
    words2: NDArray[np.uint64]
    far_prices: NDArray[np.int64]
    far_sizes: NDArray[np.int64]
    meta: NDArray[np.int64]


def empty_levels(window_ticks: int = WINDOW_TICKS, far_capacity: int = FAR_CAPACITY) -> Levels:
    """A book without levels; the first level set places its window.

    Args:
        window_ticks: A multiple of 64; 1,048,576 ticks take 8 MB a side when all are touched.
        far_capacity: Levels a side that may lie outside the window before the arrays grow.
    """
    words0 = window_ticks // 64
    words1 = -(-words0 // 64)
    words2 = -(-words1 // 64)
    return Levels(
        sizes=np.zeros((2, window_ticks), np.int64),
        words0=np.zeros((2, words0), np.uint64),
        words1=np.zeros((2, words1), np.uint64),
        words2=np.zeros((2, words2), np.uint64),
        far_prices=np.zeros((2, far_capacity), np.int64),
        far_sizes=np.zeros((2, far_capacity), np.int64),
        meta=np.zeros(_META_SIZE, np.int64),
    )


@kernel
def bit(index):
    return _ONE << np.uint64(index & 63)


@kernel
def far_position(levels, side, price):
    """Where `price` stands, or would stand, among the far prices of a side."""
    low = np.int64(0)
    high = levels.meta[BID_FAR + side]
    while low < high:
        middle = (low + high) >> 1
        if levels.far_prices[side, middle] < price:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _set_far_level(levels, side, price, size):
    count = levels.meta[BID_FAR + side]
    prices = levels.far_prices[side]
    sizes = levels.far_sizes[side]
    at = far_position(levels, side, price)
    if at < count and prices[at] == price:
        before = sizes[at]
        if size > 0:
            sizes[at] = size
        else:
            for i in range(at, count - 1):
                prices[i] = prices[i + 1]
                sizes[i] = sizes[i + 1]
            levels.meta[BID_FAR + side] = count - 1
        return before
    if size > 0:
        for i in range(count, at, -1):
            prices[i] = prices[i - 1]
            sizes[i] = sizes[i - 1]
        prices[at] = price
        sizes[at] = size
        levels.meta[BID_FAR + side] = count + 1
    return np.int64(0)


@kernel
def set_level(levels, side, price, size):
    """Sets the size at a price, 0 removes it; returns the size that was there.

    The caller sees to room in the far arrays first (`far_is_full`).
    """
    meta = levels.meta
    if meta[WINDOW_SET] == 0:
        meta[WINDOW_SET] = 1
        meta[BASE] = price - (levels.sizes.shape[1] >> 1)
    index = price - meta[BASE]
    if 0 <= index < levels.sizes.shape[1]:
        before = levels.sizes[side, index]
        levels.sizes[side, index] = size
        levels.words0[side, index >> 6] |= bit(index)
        _raise_word(levels, side, index)
    else:
        before = _set_far_level(levels, side, price, size)
    meta[BID_LEVELS + side] += np.int64(size > 0) - np.int64(before > 0)
    return before


@kernel
def _raise_word(levels, side, index):
    """Marks the word of an index in the levels of words above it."""
    levels.words1[side, index >> 12] |= bit(index >> 6)
    levels.words2[side, index >> 18] |= bit(index >> 12)


@kernel
def apply_rows(levels, deltas, row, sequence, receipt):
    """Sets the levels of the rows from `row` on that belong to one message.

    The same as `set_level` row by row, with everything that stays the same held in local variables:
    this loop is where a rebuild spends its time.

    Returns:
        The row after them (or the row that found no room in the far arrays), how many removals were
        of unknown levels, and how many rows were refused.
    """
    meta = levels.meta
    if meta[WINDOW_SET] == 0 and row < deltas.price_ticks.size:
        meta[WINDOW_SET] = 1
        meta[BASE] = deltas.price_ticks[row] - (levels.sizes.shape[1] >> 1)
    # Both sides in one flat array each; a window is a multiple of 64 ticks, so words stay apart.
    sizes, words0 = levels.sizes.ravel(), levels.words0.ravel()
    sequences, receipts, sides = deltas.sequence_number, deltas.ts_receipt_ns, deltas.is_bid
    prices, new_sizes = deltas.price_ticks, deltas.size_lots
    base = meta[BASE]
    window = np.uint64(levels.sizes.shape[1])
    bid_change = np.int64(0)
    ask_change = np.int64(0)
    unknown = np.int64(0)
    refused = np.int64(0)
    rows = sequences.size
    while row < rows and sequences[row] == sequence and receipts[row] == receipt:
        size = new_sizes[row]
        if size == NOT_REPRESENTABLE:
            refused += 1
            row += 1
            continue
        side = np.int64(1) - np.int64(sides[row])
        # Unsigned, so that one comparison covers both ends and no index is checked for a sign.
        index = np.uint64(prices[row] - base)
        if index < window:
            flat = np.uint64(side) * window + index
            before = sizes[flat]
            sizes[flat] = size
            word0 = flat >> _U6
            bits = words0[word0]
            words0[word0] = bits | (_ONE << (index & _U63))
            if bits == 0:
                _raise_word(levels, side, np.int64(index))
        else:
            if far_is_full(levels, 1):
                break
            before = _set_far_level(levels, side, prices[row], size)
        change = np.int64(size > 0) - np.int64(before > 0)
        ask_change += change * side
        bid_change += change * (1 - side)
        unknown += np.int64(size | before) == 0
        row += 1
    meta[BID_LEVELS] += bid_change
    meta[ASK_LEVELS] += ask_change
    return row, unknown, refused


@kernel
def far_is_full(levels, more):
    """Whether `more` far levels a side might not fit: the caller then makes room first."""
    room = levels.far_prices.shape[1] - more
    return levels.meta[BID_FAR] > room or levels.meta[ASK_FAR] > room
