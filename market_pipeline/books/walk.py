"""Reading a book: the best level, the next one, the top levels, all of them.

Bits of levels that were removed are still set where the writer left them; whoever walks over one
clears it, and the words above once a word is empty.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from market_pipeline.books.levels import (
    ASK,
    BID,
    FAR,
    FAR_CAPACITY,
    ORIGIN,
    WINDOW,
    WINDOW_TICKS,
    Levels,
    empty_levels,
    far_position,
    key_of,
    place_window,
    set_level,
)
from market_pipeline.jit import inlined_kernel, kernel

__all__ = [
    "best_level",
    "first_index",
    "level_at_or_after",
    "levels_around",
    "levels_of",
    "sides_of",
    "write_levels",
    "write_top",
]

Side = tuple[NDArray[np.int64], NDArray[np.int64]]
Sides = tuple[Side, Side]

_ONE = np.uint64(1)
_ALL_BITS = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_NONE = np.int64(-1)


@intrinsic
def _lowest_bit(typing_context, word):
    """Position of the lowest set bit of a word that is not 0."""

    def generate(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@inlined_kernel
def _next_word(words0, words1, words2, word0, end):
    """The first of the lowest words from `word0` on, and before `end`, that has a bit; or -1."""
    if word0 >= end:
        return _NONE
    if words0[word0]:
        return word0
    word1 = word0 >> 6
    bits = words1[word1] & (_ALL_BITS << np.uint64(word0 & 63))
    while True:
        while bits:
            child = (word1 << 6) + _lowest_bit(bits)
            if words0[child]:
                return child
            words1[word1] &= ~(_ONE << np.uint64(child & 63))
            bits &= bits - _ONE
        word1 += 1
        if word1 << 6 >= end:
            return _NONE
        word2 = word1 >> 6
        bits = words2[word2] & (_ALL_BITS << np.uint64(word1 & 63))
        while not bits:
            word2 += 1
            if word2 << 12 >= end:
                return _NONE
            bits = words2[word2]
        word1 = (word2 << 6) + _lowest_bit(bits)
        bits = words1[word1]
        if not bits:
            words2[word2] &= ~(_ONE << np.uint64(word1 & 63))


@inlined_kernel
def first_index(sizes, words0, words1, words2, index, end):
    """The first populated index from `index` on, and before `end`; or -1.

    Both count over the two sides; `index` and `end` are multiples of 64.
    """
    word0 = index >> 6
    end >>= 6
    while True:
        word0 = _next_word(words0, words1, words2, word0, end)
        if word0 < 0:
            return _NONE
        bits = words0[word0]
        while bits:
            found = (word0 << 6) + _lowest_bit(bits)
            if sizes[found] > 0:
                words0[word0] = bits
                return found
            bits &= bits - _ONE
        words0[word0] = bits


@kernel
def _next_far(far_sizes, at, end):
    """The first far level from `at` on, and before `end`, that was not removed; or -1."""
    while at < end and far_sizes[at] == 0:
        at += 1
    return at if at < end else _NONE


@kernel
def best_level(levels, side):
    """Key and size of the best level of a side; size 0 where there is none."""
    return level_at_or_after(levels, side, np.int64(-(2**62)))


@kernel
def level_at_or_after(levels, side, key):
    """Key and size of the level at a key or the next worse one; size 0 where there is none."""
    sizes, words0, meta = levels.sizes, levels.words0, levels.meta
    stride = sizes.size >> 1
    origin = meta[ORIGIN + side]
    far_first = side * (levels.far_keys.size >> 1)
    far = far_first + far_position(levels.far_keys, meta, side, key)
    far = _next_far(levels.far_sizes, far, far_first + meta[FAR + side])
    has_far = far >= 0
    if has_far and levels.far_keys[far] < origin:
        return levels.far_keys[far], levels.far_sizes[far]
    first = side * stride
    start = max(key - origin, np.int64(0))
    found = _NONE
    if start < meta[WINDOW]:
        start += first
        bits = words0[start >> 6] & (_ALL_BITS << np.uint64(start & 63))
        while bits and found < 0:
            at = (start >> 6 << 6) + _lowest_bit(bits)
            if sizes[at] > 0:
                found = at
            bits &= bits - _ONE
        if found < 0:
            after = (start >> 6) + 1 << 6
            found = first_index(sizes, words0, levels.words1, levels.words2, after, first + stride)
    if found >= 0:
        return origin + found - first, sizes[found]
    # The far levels before the window were passed over, so this one is behind it.
    if has_far:
        return levels.far_keys[far], levels.far_sizes[far]
    return np.int64(0), np.int64(0)


@kernel
def write_top(
    window_sizes, words0, words1, words2, far_keys, far_sizes, meta,
    side, best, prices, sizes, row,
):  # fmt: skip
    """Fills a row of two arrays with the best levels of a side, and zeros behind the last.

    Args:
        window_sizes, words0, words1, words2, far_keys, far_sizes, meta: The book (`Levels`).
        side: BID or ASK.
        best: What `first_index` gives for the side.
        prices, sizes: int64 (rows, most); ticks and lots, best first.
        row: The row to fill.
    """
    most = prices.shape[1]
    stride = window_sizes.size >> 1
    shift = meta[ORIGIN + side] - side * stride
    far = side * (far_keys.size >> 1)
    far_end = far + meta[FAR + side]
    n = 0
    while n < most and far < far_end and far_keys[far] < meta[ORIGIN + side]:
        if far_sizes[far] > 0:
            prices[row, n] = key_of(side, far_keys[far])
            sizes[row, n] = far_sizes[far]
            n += 1
        far += 1
    word0 = best >> 6
    end = (side + 1) * stride >> 6
    while n < most and word0 >= 0:
        bits = words0[word0]
        while bits and n < most:
            index = (word0 << 6) + _lowest_bit(bits)
            size = window_sizes[index]
            if size > 0:
                prices[row, n] = key_of(side, index + shift)
                sizes[row, n] = size
                n += 1
            else:
                words0[word0] ^= bits & (~bits + _ONE)
            bits &= bits - _ONE
        word0 = _next_word(words0, words1, words2, word0 + 1, end)
    while n < most and far < far_end:
        if far_sizes[far] > 0:
            prices[row, n] = key_of(side, far_keys[far])
            sizes[row, n] = far_sizes[far]
            n += 1
        far += 1
    for k in range(n, most):
        prices[row, k] = 0
        sizes[row, k] = 0


def sides_of(levels: Levels) -> Sides:
    """All levels of a book, bids and asks, best first, as (price_ticks, size_lots), int64 (n,)."""
    counts = np.empty(2, np.int64)
    _count_levels(levels, counts)
    bids, asks = counts.tolist()
    prices, sizes = np.empty((2, 2, max(bids, asks)), np.int64)
    _write_sides(levels, prices, sizes)
    return (prices[BID, :bids], sizes[BID, :bids]), (prices[ASK, :asks], sizes[ASK, :asks])


# Both sides in one call: telling numba what a book is made of takes longer than walking over it.
@kernel
def _count_levels(levels, counts):
    """Writes how many levels each side has; looks only where there may be some."""
    sizes, words0 = levels.sizes, levels.words0
    for side in (BID, ASK):
        end = (side + 1) * (sizes.size >> 1) >> 6
        far = side * (levels.far_sizes.size >> 1)
        count = np.int64(0)
        for at in range(far, far + levels.meta[FAR + side]):
            count += levels.far_sizes[at] > 0
        word0 = _next_word(words0, levels.words1, levels.words2, side * (sizes.size >> 1) >> 6, end)
        while word0 >= 0:
            for index in range(word0 << 6, (word0 + 1) << 6):
                count += sizes[index] > 0
            word0 = _next_word(words0, levels.words1, levels.words2, word0 + 1, end)
        counts[side] = count


@kernel
def _write_sides(levels, prices, sizes):
    for side in (BID, ASK):
        write_levels(levels, side, prices, sizes, side)


@kernel
def write_levels(levels, side, prices, sizes, row):
    """Fills a row of two arrays with the best levels of a side, as `write_top` does."""
    window_sizes, words0, words1, words2 = levels.sizes, levels.words0, levels.words1, levels.words2
    far_keys, far_sizes, meta = levels.far_keys, levels.far_sizes, levels.meta
    stride = window_sizes.size >> 1
    best = first_index(window_sizes, words0, words1, words2, side * stride, (side + 1) * stride)
    write_top(
        window_sizes, words0, words1, words2, far_keys, far_sizes, meta,
        side, best, prices, sizes, row,
    )  # fmt: skip


@kernel
def _insert_all(levels, side, prices, sizes):
    for i in range(prices.size):
        set_level(levels, side, key_of(side, prices[i]), sizes[i])


def levels_of(bids: Side, asks: Side) -> Levels:
    """A book of the given levels, int64 (price_ticks, size_lots), best first, around its middle."""
    best = [int(prices[0]) for prices, _ in (bids, asks) if prices.size]
    return levels_around(sum(best) // len(best), bids, asks) if best else empty_levels()


def levels_around(
    centre: int,
    bids: tuple[NDArray[np.int64], NDArray[np.int64]],
    asks: tuple[NDArray[np.int64], NDArray[np.int64]],
    window_ticks: int = WINDOW_TICKS,
    more: int = 1,
) -> Levels:
    """A book of the given levels, its window around a price, and room for more far levels.

    Args:
        centre: The price in ticks that the window is centred on.
        bids, asks: int64 (n,) each, (price_ticks, size_lots) in any order.
        window_ticks: The window's width.
        more: Far levels a side that there must be room for at once.
    """
    base = centre - window_ticks // 2
    far = max(int(((p < base) | (p >= base + window_ticks)).sum()) for p, _ in (bids, asks))
    levels = empty_levels(window_ticks, max(FAR_CAPACITY, 2 * far + more))
    place_window(levels.meta, base)
    for side, (prices, sizes) in ((BID, bids), (ASK, asks)):
        _insert_all(levels, side, prices, sizes)
    return levels
