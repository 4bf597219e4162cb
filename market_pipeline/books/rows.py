"""The rows of one message, set in the book and remembered, or only set."""

from __future__ import annotations

import numpy as np

from market_pipeline.books.fetch import fetch_ahead
from market_pipeline.books.levels import (
    ASK,
    BID,
    ORIGIN,
    WINDOW,
    WINDOW_PLACED,
    far_is_full,
    place_window,
    set_far_level,
)
from market_pipeline.books.scale import NOT_REPRESENTABLE
from market_pipeline.books.state import HISTORY_ROWS
from market_pipeline.jit import inlined_kernel, kernel

__all__ = ["apply_rows", "set_rows"]

_ROW_MASK = np.uint64(HISTORY_ROWS - 1)
_AHEAD = np.uint64(64)
_ONE = np.uint64(1)
_SIX = np.uint64(6)
_LOW_SIX_BITS = np.uint64(63)


@inlined_kernel
def apply_rows(
    sizes, words0, words1, words2, far_keys, far_sizes, meta,
    ring_level, ring_before, position,
    sequences, receipts, origins, is_bid, prices, new_sizes, row, sequence, receipt,
):  # fmt: skip
    """Sets the levels of the rows from `row` on that belong to one message.

    The same as `set_level` row by row, with everything that stays the same held in local variables.

    Returns:
        The row after them (or the row that found no room in the far arrays), how many rows the
        history has then, how many removals were of unknown levels, how many rows were refused, and
        whether the far arrays are full.
    """
    rows = np.uint64(sequences.size)
    base, window = meta[ORIGIN + ASK], np.uint64(meta[WINDOW])
    mirror, stride = window - _ONE, np.uint64(sizes.size >> 1)
    unknown = refused = np.int64(0)
    is_full = False
    # Unsigned, as all that is used as an index below: no index is checked for a sign then.
    here = np.uint64(row)
    while here < rows and sequences[here] == sequence and receipts[here] == receipt:
        # Read of each message's first row alone, which no processor foresees: to wait for it took a
        # sixth of the time of all rows.
        fetch_ahead(origins, here + _AHEAD)
        size, price, bid_side = new_sizes[here], prices[here], np.uint64(is_bid[here])
        index = np.uint64(price - base)
        if index < window and size >= 0:
            flat = (_ONE - bid_side) * stride + (index ^ (mirror * bid_side))
            before = sizes[flat]
            sizes[flat] = size
            ring_at = np.uint64(position) & _ROW_MASK
            ring_level[ring_at] = (price << 1) | np.int64(bid_side)
            ring_before[ring_at] = before
            position += 1
            word0 = flat >> _SIX
            bits = words0[word0]
            words0[word0] = bits | (_ONE << (flat & _LOW_SIX_BITS))
            if bits == 0:
                word1 = word0 >> _SIX
                words1[word1] |= _ONE << (word0 & _LOW_SIX_BITS)
                words2[word1 >> _SIX] |= _ONE << (word1 & _LOW_SIX_BITS)
            unknown += (size | before) == 0
        elif size == NOT_REPRESENTABLE:
            refused += 1
        else:
            is_full = far_is_full(far_keys, far_sizes, meta, 1)
            if is_full:
                break
            side = BID if bid_side else ASK
            key = -price if bid_side else price
            before = set_far_level(far_keys, far_sizes, meta, side, key, size)
            ring_at = np.uint64(position) & _ROW_MASK
            ring_level[ring_at] = (price << 1) | np.int64(bid_side)
            ring_before[ring_at] = before
            position += 1
            unknown += (size | before) == 0
        here += _ONE
    return np.int64(here), position, unknown, refused, is_full


@kernel
def set_rows(levels, is_bid, prices, new_sizes, row, end):
    """Sets the levels of some rows in a book, and no more; a row that is refused is passed over.

    Returns:
        The end, or the row that found no room in the far arrays.
    """
    sizes, words0, words1, words2 = levels.sizes, levels.words0, levels.words1, levels.words2
    far_keys, far_sizes, meta = levels.far_keys, levels.far_sizes, levels.meta
    if meta[WINDOW_PLACED] == 0:
        while row < end and new_sizes[row] == NOT_REPRESENTABLE:
            row += 1
        if row < end:
            place_window(meta, prices[row] - (meta[WINDOW] >> 1))
    base, window = meta[ORIGIN + ASK], np.uint64(meta[WINDOW])
    mirror, stride = window - _ONE, np.uint64(sizes.size >> 1)
    here, last = np.uint64(row), np.uint64(end)
    while here < last:
        size, price, bid_side = new_sizes[here], prices[here], np.uint64(is_bid[here])
        index = np.uint64(price - base)
        if index < window and size >= 0:
            flat = (_ONE - bid_side) * stride + (index ^ (mirror * bid_side))
            sizes[flat] = size
            word0 = flat >> _SIX
            bits = words0[word0]
            words0[word0] = bits | (_ONE << (flat & _LOW_SIX_BITS))
            if bits == 0:
                word1 = word0 >> _SIX
                words1[word1] |= _ONE << (word0 & _LOW_SIX_BITS)
                words2[word1 >> _SIX] |= _ONE << (word1 & _LOW_SIX_BITS)
        elif size != NOT_REPRESENTABLE:
            if far_is_full(far_keys, far_sizes, meta, 1):
                break
            side = BID if bid_side else ASK
            key = -price if bid_side else price
            set_far_level(far_keys, far_sizes, meta, side, key, size)
        here += _ONE
    return max(np.int64(here), row)
