"""Holds the book against a snapshot, level by level as far as both reach."""

from __future__ import annotations

import numpy as np

from market_pipeline.books import registers as reg
from market_pipeline.books.levels import ASK, BID, key_of
from market_pipeline.books.walk import best_level, level_at_or_after, write_levels
from market_pipeline.jit import kernel

__all__ = ["compare", "count_differing", "depth_of", "own_content"]

_HOUR_NS = 3_600_000_000_000
_LOW_BITS = np.int64((1 << reg.CARRY_BITS) - 1)
_CARRY_BITS = reg.CARRY_BITS
_NO_KEY = np.int64(2**62)


@kernel
def depth_of(sizes, k):
    """How many levels a side of a snapshot has."""
    n = 0
    while n < sizes.shape[1] and sizes[k, n] > 0:
        n += 1
    return n


@kernel
def own_content(registers, levels):
    """A number for the best ten levels a side of the book."""
    content = np.int64(0)
    for side in (BID, ASK):
        key, size = best_level(levels, side)
        for _ in range(10):
            if size == 0:
                break
            content = (content * 31 + key) * 31 + size
            key, size = level_at_or_after(levels, side, key + 1)
        content = content * 31 + side
    return content


@kernel
def count_differing(
    registers, levels, bid_prices, bid_sizes, ask_prices, ask_sizes, k, bids, asks
):  # fmt: skip
    """How many levels of a snapshot and the book, as far as both reach, differ; a touch is one."""
    differing = np.int64(0)
    for side in (BID, ASK):
        prices, sizes = (bid_prices, bid_sizes) if side == BID else (ask_prices, ask_sizes)
        depth = bids if side == BID else asks
        horizon = key_of(side, registers[reg.BID_HORIZON + side])
        limit = min(key_of(side, prices[k, depth - 1]), horizon)
        key, size = best_level(levels, side)
        differing += size != sizes[k, 0] or key != key_of(side, prices[k, 0])
        n = 0
        while True:
            ours = key if size > 0 and key <= limit else _NO_KEY
            theirs = key_of(side, prices[k, n]) if n < depth else _NO_KEY
            if theirs > limit:
                theirs = _NO_KEY
            if ours == theirs == _NO_KEY:
                break
            differing += ours != theirs or size != sizes[k, n]
            if theirs <= ours:
                n += 1
            if ours <= theirs:
                key, size = level_at_or_after(levels, side, key + 1)
    return differing


@kernel
def compare(registers, levels, history, snapshots, k, bids, asks):
    """Compares the book with a snapshot, level by level as far as both reach.

    Returns:
        How many levels were compared, how many of them differ, and whether the touch and all levels
        are equal.
    """
    bid_key, bid_size = best_level(levels, BID)
    ask, ask_size = best_level(levels, ASK)
    bid = -bid_key
    hour = snapshots.ts_receipt_ns[k] // _HOUR_NS % 24
    registers[reg.SNAPSHOTS_COMPARED] += 1
    registers[reg.COMPARED_BY_HOUR + hour] += 1
    bids_compared, bids_differing = _compare_side(
        registers, levels, history.own_price_ticks, history.own_size_lots, BID,
        snapshots.bid_price_ticks, snapshots.bid_size_lots, k, bids,
    )  # fmt: skip
    asks_compared, asks_differing = _compare_side(
        registers, levels, history.own_price_ticks, history.own_size_lots, ASK,
        snapshots.ask_price_ticks, snapshots.ask_size_lots, k, asks,
    )  # fmt: skip
    differing = bids_differing + asks_differing
    registers[reg.DIFFERING_BY_HOUR + hour] += differing
    their_bid, their_bid_size = snapshots.bid_price_ticks[k, 0], snapshots.bid_size_lots[k, 0]
    their_ask, their_ask_size = snapshots.ask_price_ticks[k, 0], snapshots.ask_size_lots[k, 0]
    deviation = np.int64(0)
    if bid_size > 0 and ask_size > 0:
        deviation = abs(bid + ask - their_bid - their_ask)
    # Of two mismatches whose mid is as far off, the worse has more levels that differ.
    most = registers[reg.WORST_MISMATCH + reg.PLACE_LEVELS_DIFFERING]
    if deviation > registers[reg.SNAPSHOT_MID] or (
        deviation == registers[reg.SNAPSHOT_MID] and differing > most
    ):
        registers[reg.SNAPSHOT_MID] = deviation
        _keep_place(
            registers, reg.WORST_MISMATCH, snapshots, k, differing, bid, bid_size, ask, ask_size
        )
    bid_agrees = bid_size == their_bid_size and bid == their_bid
    ask_agrees = ask_size == their_ask_size and ask == their_ask
    agrees = bid_agrees and ask_agrees and differing == 0
    if agrees:
        registers[reg.SNAPSHOT_MISMATCH] = 0
        registers[reg.GAP] = 0
    elif registers[reg.SNAPSHOTS_MISMATCHED] == 0:
        _keep_place(
            registers, reg.FIRST_MISMATCH, snapshots, k, differing, bid, bid_size, ask, ask_size
        )
    return bids_compared + asks_compared, differing, agrees


@kernel
def _keep_place(registers, at, snapshots, k, differing, bid, bid_size, ask, ask_size):
    """Keeps one mismatch, with the touch on either side, in the registers from `at` on."""
    registers[at] = snapshots.sequence_number[k]
    registers[at + 1] = snapshots.ts_receipt_ns[k]
    registers[at + 2] = differing
    registers[at + 3], registers[at + 4] = bid if bid_size > 0 else 0, bid_size
    registers[at + 5], registers[at + 6] = ask if ask_size > 0 else 0, ask_size
    registers[at + 7] = snapshots.bid_price_ticks[k, 0]
    registers[at + 8] = snapshots.bid_size_lots[k, 0]
    registers[at + 9] = snapshots.ask_price_ticks[k, 0]
    registers[at + 10] = snapshots.ask_size_lots[k, 0]


@kernel
def _add_exactly(registers, at, low, high):
    """Adds `low` and 2^32 times `high` to a sum, which is a register and its carry."""
    low += registers[at]
    registers[at] = low & _LOW_BITS
    registers[at + 1] += high + (low >> _CARRY_BITS)


@kernel
def _is_top(levels, own_prices, own_sizes, side, prices, sizes, k, depth):
    """Whether the best levels of a side are just those of a snapshot, as nearly always.

    They are written down first, because searching the book for each level takes twenty times as
    long.
    """
    write_levels(levels, side, own_prices, own_sizes, side)
    for n in range(depth):
        if own_prices[side, n] != prices[k, n] or own_sizes[side, n] != sizes[k, n]:
            return False
    return True


@kernel
def _count_agreeing(registers, sizes, k, depth):
    """Counts a side of a snapshot all of whose levels agree."""
    size_low = size_high = np.int64(0)
    for n in range(depth):
        size_low += sizes[k, n] & _LOW_BITS
        size_high += sizes[k, n] >> _CARRY_BITS
    registers[reg.SNAPSHOT_OURS] += depth
    registers[reg.SNAPSHOT_LEVELS] += depth
    registers[reg.SNAPSHOT_MATCHING] += depth
    _add_exactly(registers, reg.SNAPSHOT_SIZE, size_low, size_high)


@kernel
def _compare_side(registers, levels, own_prices, own_sizes, side, prices, sizes, k, depth):
    """Compares our levels with a snapshot's as far as both reach, best first on both.

    Returns how many levels were compared, and how many differ: missing here, missing there, or of
    another size.
    """
    # Beyond the horizon we never claimed to know the book, so nothing there is right or wrong.
    farthest = key_of(side, prices[k, depth - 1])
    limit = min(farthest, key_of(side, registers[reg.BID_HORIZON + side]))
    if limit == farthest and _is_top(levels, own_prices, own_sizes, side, prices, sizes, k, depth):
        _count_agreeing(registers, sizes, k, depth)
        return depth, 0
    ours = theirs = ghost = missing = matching = 0
    # Sums of sizes may pass 64 bits.
    size_low = size_high = error_low = error_high = np.int64(0)
    n = 0
    key, size = best_level(levels, side)
    while True:
        has_ours = size > 0 and key <= limit
        their_key = key_of(side, prices[k, n]) if n < depth else _NO_KEY
        has_theirs = n < depth and their_key <= limit
        if not has_ours and not has_theirs:
            break
        take_ours = has_ours and (not has_theirs or key <= their_key)
        take_theirs = has_theirs and (not has_ours or their_key <= key)
        ours += take_ours
        theirs += take_theirs
        ghost += take_ours and not take_theirs
        missing += take_theirs and not take_ours
        their_size = sizes[k, n] if take_theirs else np.int64(0)
        our_size = size if take_ours else np.int64(0)
        matching += take_ours and take_theirs and our_size == their_size
        size_low += their_size & _LOW_BITS
        size_high += their_size >> _CARRY_BITS
        error = abs(our_size - their_size)
        error_low += error & _LOW_BITS
        error_high += error >> _CARRY_BITS
        if take_theirs:
            n += 1
        if take_ours:
            key, size = level_at_or_after(levels, side, key + 1)
    registers[reg.SNAPSHOT_OURS] += ours
    registers[reg.SNAPSHOT_LEVELS] += theirs
    registers[reg.SNAPSHOT_GHOST] += ghost
    registers[reg.SNAPSHOT_MISSING] += missing
    registers[reg.SNAPSHOT_MATCHING] += matching
    _add_exactly(registers, reg.SNAPSHOT_SIZE, size_low, size_high)
    _add_exactly(registers, reg.SNAPSHOT_SIZE_ERROR, error_low, error_high)
    return ours + missing, ours + missing - matching
