"""Reading a book: the touch, the next level, the top levels, all of them.

Bits of levels that were removed are still set where the writer left them; whoever walks over one
clears it, and the words above once a word is empty.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from market_pipeline.books.jit import kernel
from market_pipeline.books.levels import (
    ASK,
    ASK_FAR,
    BASE,
    BID,
    BID_FAR,
    BID_LEVELS,
    FAR_CAPACITY,
    WINDOW_SET,
    Levels,
    bit,
    empty_levels,
    far_position,
    set_level,
)

__all__ = [
    "ask_at_or_above",
    "best_ask",
    "best_bid",
    "bid_at_or_below",
    "centred",
    "export_side",
    "touch",
    "write_top",
]

_ALL_BITS = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_SIX = np.int64(6)


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
        words0[word0] &= ~bit(found)
        masked &= ~bit(found)
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
                words0[child] &= ~bit(found)
            words1[word1] &= ~bit(child)
            masked &= ~bit(child)
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
            words2[word2] &= ~bit(child)
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
        words0[word0] &= ~bit(found)
        masked &= ~bit(found)
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
                words0[child] &= ~bit(found)
            words1[word1] &= ~bit(child)
            masked &= ~bit(child)
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
            words2[word2] &= ~bit(child)
        word0 = child << _SIX
    return np.int64(-1)


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
        far = far_position(levels, BID, price + 1) - 1
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
        far = far_position(levels, ASK, price)
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
                        words0[BID, word0] &= ~bit(at)
                if bid < 0:
                    words1[BID, word1] &= ~bit(word0)
            if bid < 0:
                words2[BID, word2] &= ~bit(word1)
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
                        words0[ASK, word0] &= ~bit(at)
                if ask < 0:
                    words1[ASK, word1] &= ~bit(word0)
            if ask < 0:
                words2[ASK, word2] &= ~bit(word1)
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
            bits &= ~bit(at)
            size = window_sizes[(word << 6) + at]
            if size > 0:
                prices[k] = base + (word << 6) + at
                sizes[k] = size
                k += 1
            else:
                words[word] &= ~bit(at)
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
    moved = empty_levels(window, max(FAR_CAPACITY, 2 * far + more))
    moved.meta[WINDOW_SET] = 1
    moved.meta[BASE] = base
    for side, (prices, sizes) in enumerate(sides):
        _insert_all(moved, side, prices, sizes)
    return moved
