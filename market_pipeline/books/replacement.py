"""Takes a snapshot over: inside its window, or beyond what was known."""

from __future__ import annotations

import numpy as np

from market_pipeline.books import registers as reg
from market_pipeline.books.history import forget_rows, was_touched
from market_pipeline.books.levels import ASK, BID, key_of, set_level
from market_pipeline.books.walk import level_at_or_after
from market_pipeline.jit import kernel

__all__ = ["extend", "replace"]

_BEFORE_ALL = np.int64(-(2**62))


@kernel
def replace(
    registers, levels, history, bid_prices, bid_sizes, ask_prices, ask_sizes, k, bids, asks,
    sequence, start, number,
):  # fmt: skip
    """Takes a snapshot over inside its window; levels beyond it stay as last heard of.

    Levels that were set since the row `start` of the history stay too; by messages that came late,
    if their sequence number is above `number`.
    """
    _load_side(
        registers, levels, history, BID, bid_prices, bid_sizes, k, bids, _BEFORE_ALL, start, number
    )
    _load_side(
        registers, levels, history, ASK, ask_prices, ask_sizes, k, asks, _BEFORE_ALL, start, number
    )
    forget_rows(registers)
    registers[reg.BID_HORIZON] = bid_prices[k, bids - 1]
    registers[reg.ASK_HORIZON] = ask_prices[k, asks - 1]
    registers[reg.BOOK_SEQUENCE] = sequence
    registers[reg.LAST_BID] = bid_prices[k, 0]
    registers[reg.LAST_ASK] = ask_prices[k, 0]
    registers[reg.GAP] = 0
    registers[reg.REFUSED_SINCE] = 0
    registers[reg.SNAPSHOT_MISMATCH] = 0
    registers[reg.CROSSED_SINCE] = 0
    registers[reg.MISPLACED_RUN] = 0
    registers[reg.STALE_RUN] = 0
    registers[reg.PENDING] = 0


@kernel
def extend(registers, levels, history, snapshots, k, bids, asks):
    """Learns from a match what lies beyond our horizon; nothing we knew is changed."""
    farthest_bid = snapshots.bid_price_ticks[k, bids - 1]
    farthest_ask = snapshots.ask_price_ticks[k, asks - 1]
    if farthest_bid < registers[reg.BID_HORIZON]:
        beyond = key_of(BID, registers[reg.BID_HORIZON])
        registers[reg.LEARNED] += _load_side(
            registers, levels, history, BID, snapshots.bid_price_ticks, snapshots.bid_size_lots, k,
            bids, beyond, registers[reg.HISTORY], 0,
        )  # fmt: skip
        registers[reg.BID_HORIZON] = farthest_bid
    if farthest_ask > registers[reg.ASK_HORIZON]:
        beyond = key_of(ASK, registers[reg.ASK_HORIZON])
        registers[reg.LEARNED] += _load_side(
            registers, levels, history, ASK, snapshots.ask_price_ticks, snapshots.ask_size_lots, k,
            asks, beyond, registers[reg.HISTORY], 0,
        )  # fmt: skip
        registers[reg.ASK_HORIZON] = farthest_ask


@kernel
def _load_side(registers, levels, history, side, prices, sizes, k, depth, beyond, start, number):
    """Replaces our levels worse than `beyond`, as far as the snapshot reaches, by the snapshot's.

    Those that rows of the history from `start` on set are left as they are.

    Returns how many of its levels were set.
    """
    farthest = key_of(side, prices[k, depth - 1])
    end = registers[reg.HISTORY]
    key, size = level_at_or_after(levels, side, beyond + 1)
    while size > 0 and key <= farthest:
        code = key_of(side, key) * 2 + (side == BID)
        if start == end or not was_touched(history, code, start, end, number):
            set_level(levels, side, key, np.int64(0))
        key, size = level_at_or_after(levels, side, key + 1)
    loaded = 0
    for n in range(depth):
        key = key_of(side, prices[k, n])
        code = prices[k, n] * 2 + (side == BID)
        if key > beyond and (start == end or not was_touched(history, code, start, end, number)):
            set_level(levels, side, key, sizes[k, n])
            loaded += 1
    return loaded
