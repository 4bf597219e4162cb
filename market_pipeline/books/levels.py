"""One full-depth book in integer ticks and lots, at any price, in bounded memory.

Each side is a flat array of sizes indexed by tick inside a window of `WINDOW_TICKS` around the
market, with a 64-ary hierarchy of bit words over it to find and walk populated levels. Bits are set
with every write and cleared only when a walk finds them empty, which keeps an update branch-free.
Levels outside the window (a bid at 560 USD while the market is at 61,800) live in a small sorted
array per side, so every price is exact and memory grows with the levels that exist, not with the
price range. The window follows the market; nothing is ever dropped.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from market_pipeline.books.jit import kernel
from market_pipeline.books.scale import NOT_REPRESENTABLE

__all__ = ["ASK", "BID", "WINDOW_TICKS", "Levels", "centred", "empty_levels", "export_side"]

BID = 0
ASK = 1
WINDOW_TICKS = 1 << 20
_FAR_CAPACITY = 1024
_ALL_BITS = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_ONE = np.uint64(1)
_SIX = np.int64(6)
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


def empty_levels(window_ticks: int = WINDOW_TICKS, far_capacity: int = _FAR_CAPACITY) -> Levels:
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


@intrinsic
def _leading_zeros(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic
def _trailing_zeros(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@kernel
def _bit(index):
    return _ONE << np.uint64(index & 63)


@kernel
def window_at_or_below(levels, side, index):
    """The largest populated window index at or below `index`, or -1."""
    sizes = levels.sizes[side]
    words0 = levels.words0[side]
    words1 = levels.words1[side]
    words2 = levels.words2[side]
    if index < 0:
        return np.int64(-1)
    word0 = index >> _SIX
    masked = words0[word0] & (_ALL_BITS >> np.uint64(63 - (index & 63)))
    while masked:
        found = (word0 << _SIX) + 63 - _leading_zeros(masked)
        if sizes[found] > 0:
            return found
        words0[word0] &= ~_bit(found)
        masked &= ~_bit(found)
    word0 -= 1
    while word0 >= 0:
        word1 = word0 >> _SIX
        masked = words1[word1] & (_ALL_BITS >> np.uint64(63 - (word0 & 63)))
        while masked:
            child = (word1 << _SIX) + 63 - _leading_zeros(masked)
            while words0[child]:
                found = (child << _SIX) + 63 - _leading_zeros(words0[child])
                if sizes[found] > 0:
                    return found
                words0[child] &= ~_bit(found)
            words1[word1] &= ~_bit(child)
            masked &= ~_bit(child)
        word1 -= 1
        if word1 < 0:
            return np.int64(-1)
        word2 = word1 >> _SIX
        masked = words2[word2] & (_ALL_BITS >> np.uint64(63 - (word1 & 63)))
        while not masked and word2 > 0:
            word2 -= 1
            masked = words2[word2]
        if not masked:
            return np.int64(-1)
        child = (word2 << _SIX) + 63 - _leading_zeros(masked)
        if not words1[child]:
            words2[word2] &= ~_bit(child)
        word0 = (child << _SIX) + 63
        if word0 >= words0.size:
            word0 = words0.size - 1
    return np.int64(-1)


@kernel
def window_at_or_above(levels, side, index):
    """The smallest populated window index at or above `index`, or -1."""
    sizes = levels.sizes[side]
    words0 = levels.words0[side]
    words1 = levels.words1[side]
    words2 = levels.words2[side]
    if index >= sizes.size:
        return np.int64(-1)
    word0 = index >> _SIX
    masked = words0[word0] & (_ALL_BITS << np.uint64(index & 63))
    while masked:
        found = (word0 << _SIX) + _trailing_zeros(masked)
        if sizes[found] > 0:
            return found
        words0[word0] &= ~_bit(found)
        masked &= ~_bit(found)
    word0 += 1
    while word0 < words0.size:
        word1 = word0 >> _SIX
        masked = words1[word1] & (_ALL_BITS << np.uint64(word0 & 63))
        while masked:
            child = (word1 << _SIX) + _trailing_zeros(masked)
            while words0[child]:
                found = (child << _SIX) + _trailing_zeros(words0[child])
                if sizes[found] > 0:
                    return found
                words0[child] &= ~_bit(found)
            words1[word1] &= ~_bit(child)
            masked &= ~_bit(child)
        word1 += 1
        if word1 >= words1.size:
            return np.int64(-1)
        word2 = word1 >> _SIX
        masked = words2[word2] & (_ALL_BITS << np.uint64(word1 & 63))
        while not masked and word2 + 1 < words2.size:
            word2 += 1
            masked = words2[word2]
        if not masked:
            return np.int64(-1)
        child = (word2 << _SIX) + _trailing_zeros(masked)
        if not words1[child]:
            words2[word2] &= ~_bit(child)
        word0 = child << _SIX
    return np.int64(-1)


@kernel
def _far_position(levels, side, price):
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
    at = _far_position(levels, side, price)
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
        levels.words0[side, index >> 6] |= _bit(index)
        _raise_word(levels, side, index)
    else:
        before = _set_far_level(levels, side, price, size)
    meta[BID_LEVELS + side] += np.int64(size > 0) - np.int64(before > 0)
    return before


@kernel
def _raise_word(levels, side, index):
    """Marks the word of an index in the levels of words above it."""
    levels.words1[side, index >> 12] |= _bit(index >> 6)
    levels.words2[side, index >> 18] |= _bit(index >> 12)


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


@kernel
def best_bid(levels):
    """Price and size of the best bid; size 0 where there is none."""
    return bid_at_or_below(levels, np.int64(2**62))


@kernel
def best_ask(levels):
    """Price and size of the best ask; size 0 where there is none."""
    return ask_at_or_above(levels, np.int64(-(2**62)))


@kernel
def bid_at_or_below(levels, price):
    """The highest bid at or below a price, as (price, size); size 0 where there is none."""
    base = levels.meta[BASE]
    window = levels.sizes.shape[1]
    far_count = levels.meta[BID_FAR]
    far = np.int64(-1)
    if far_count:
        far = _far_position(levels, BID, price + 1) - 1
        if far >= 0 and levels.far_prices[BID, far] >= base + window:
            return levels.far_prices[BID, far], levels.far_sizes[BID, far]
    found = window_at_or_below(levels, BID, min(price - base, window - 1))
    if found >= 0:
        return base + found, levels.sizes[BID, found]
    if far >= 0:
        return levels.far_prices[BID, far], levels.far_sizes[BID, far]
    return np.int64(0), np.int64(0)


@kernel
def ask_at_or_above(levels, price):
    """The lowest ask at or above a price, as (price, size); size 0 where there is none."""
    base = levels.meta[BASE]
    far_count = levels.meta[ASK_FAR]
    far = np.int64(0)
    if far_count:
        far = _far_position(levels, ASK, price)
        if far < far_count and levels.far_prices[ASK, far] < base:
            return levels.far_prices[ASK, far], levels.far_sizes[ASK, far]
    found = window_at_or_above(levels, ASK, max(price - base, np.int64(0)))
    if found >= 0:
        return base + found, levels.sizes[ASK, found]
    if far < far_count:
        return levels.far_prices[ASK, far], levels.far_sizes[ASK, far]
    return np.int64(0), np.int64(0)


@kernel
def touch(levels):
    """Best bid and ask as (bid price, bid size, ask price, ask size); size 0 is an empty side.

    The same as `best_bid` and `best_ask` in one call, which every message makes: handing the arrays
    of a book from function to function costs more than the search itself.
    """
    meta = levels.meta
    base = meta[BASE]
    window = levels.sizes.shape[1]
    sizes, words0, words1, words2 = levels.sizes, levels.words0, levels.words1, levels.words2
    bid = np.int64(-1)
    for word2 in range(words2.shape[1] - 1, -1, -1):
        while bid < 0 and words2[BID, word2]:
            word1 = (word2 << 6) + 63 - _leading_zeros(words2[BID, word2])
            while bid < 0 and words1[BID, word1]:
                word0 = (word1 << 6) + 63 - _leading_zeros(words1[BID, word1])
                while bid < 0 and words0[BID, word0]:
                    at = (word0 << 6) + 63 - _leading_zeros(words0[BID, word0])
                    if sizes[BID, at] > 0:
                        bid = at
                    else:
                        words0[BID, word0] &= ~_bit(at)
                if bid < 0:
                    words1[BID, word1] &= ~_bit(word0)
            if bid < 0:
                words2[BID, word2] &= ~_bit(word1)
        if bid >= 0:
            break
    ask = np.int64(-1)
    for word2 in range(words2.shape[1]):
        while ask < 0 and words2[ASK, word2]:
            word1 = (word2 << 6) + _trailing_zeros(words2[ASK, word2])
            while ask < 0 and words1[ASK, word1]:
                word0 = (word1 << 6) + _trailing_zeros(words1[ASK, word1])
                while ask < 0 and words0[ASK, word0]:
                    at = (word0 << 6) + _trailing_zeros(words0[ASK, word0])
                    if sizes[ASK, at] > 0:
                        ask = at
                    else:
                        words0[ASK, word0] &= ~_bit(at)
                if ask < 0:
                    words1[ASK, word1] &= ~_bit(word0)
            if ask < 0:
                words2[ASK, word2] &= ~_bit(word1)
        if ask >= 0:
            break
    bid_price, bid_size = np.int64(0), np.int64(0)
    ask_price, ask_size = np.int64(0), np.int64(0)
    if bid >= 0:
        bid_price, bid_size = base + bid, sizes[BID, bid]
    if ask >= 0:
        ask_price, ask_size = base + ask, sizes[ASK, ask]
    # A far level is the best one beyond the window, or where the window is empty.
    count = meta[BID_FAR]
    if count:
        price = levels.far_prices[BID, count - 1]
        if bid < 0 or price >= base + window:
            bid_price, bid_size = price, levels.far_sizes[BID, count - 1]
    if meta[ASK_FAR]:
        price = levels.far_prices[ASK, 0]
        if ask < 0 or price < base:
            ask_price, ask_size = price, levels.far_sizes[ASK, 0]
    return bid_price, bid_size, ask_price, ask_size


@kernel
def write_top(levels, side, prices, sizes):
    """Fills the arrays with the best levels of a side, best first, and zeros behind the last.

    The same as asking for one level after the other, a word of 64 ticks at a time.
    """
    wanted = prices.size
    base = levels.meta[BASE]
    window = levels.sizes.shape[1]
    far_count = levels.meta[BID_FAR + side]
    far_prices, far_sizes = levels.far_prices[side], levels.far_sizes[side]
    words, window_sizes = levels.words0[side], levels.sizes[side]
    far = far_count - 1 if side == BID else np.int64(0)
    step = np.int64(-1) if side == BID else np.int64(1)
    k = 0
    # Far levels on the good side of the window: bids above it, asks below it.
    while k < wanted and 0 <= far < far_count:
        if (far_prices[far] >= base + window) != (side == BID):
            break
        prices[k] = far_prices[far]
        sizes[k] = far_sizes[far]
        k += 1
        far += step
    index = np.int64(window - 1) if side == BID else np.int64(0)
    while k < wanted and 0 <= index < window:
        if side == BID:
            index = window_at_or_below(levels, BID, index)
        else:
            index = window_at_or_above(levels, ASK, index)
        if index < 0:
            break
        word = index >> 6
        if side == BID:
            bits = words[word] & (_ALL_BITS >> np.uint64(63 - (index & 63)))
        else:
            bits = words[word] & (_ALL_BITS << np.uint64(index & 63))
        while bits and k < wanted:
            at = 63 - _leading_zeros(bits) if side == BID else _trailing_zeros(bits)
            bits &= ~_bit(at)
            size = window_sizes[(word << 6) + at]
            if size > 0:
                prices[k] = base + (word << 6) + at
                sizes[k] = size
                k += 1
            else:
                words[word] &= ~_bit(at)
        index = (word << 6) - 1 if side == BID else (word + 1) << 6
    while k < wanted and 0 <= far < far_count:
        prices[k] = far_prices[far]
        sizes[k] = far_sizes[far]
        k += 1
        far += step
    prices[k:] = 0
    sizes[k:] = 0


def export_side(levels: Levels, side: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All levels of a side, best first, as (price_ticks, size_lots), each int64 (n,)."""
    count = int(levels.meta[BID_LEVELS + side])
    prices = np.empty(count, np.int64)
    sizes = np.empty(count, np.int64)
    write_top(levels, side, prices, sizes)
    return prices, sizes


@kernel
def _insert_all(levels, side, prices, sizes):
    for i in range(prices.size):
        set_level(levels, side, prices[i], sizes[i])


def centred(levels: Levels, centre: int, more: int) -> Levels:
    """The same levels with the window around `centre` and room for `more` far levels a side."""
    sides = [export_side(levels, side) for side in (BID, ASK)]
    window = levels.sizes.shape[1]
    base = centre - window // 2
    far = max(int(((p < base) | (p >= base + window)).sum()) for p, _ in sides)
    moved = empty_levels(window, max(_FAR_CAPACITY, 2 * far + more))
    moved.meta[WINDOW_SET] = 1
    moved.meta[BASE] = base
    for side, (prices, sizes) in enumerate(sides):
        _insert_all(moved, side, prices, sizes)
    return moved
