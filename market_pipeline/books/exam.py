"""What a snapshot does to a book: it seeds it, examines it, mends it, or widens what is known.

The first usable snapshot seeds: the book begins with it, and what was heard of before is dropped.
Every later one at our own sequence number is an exam: passed if best bid and ask agree in price and
size. By policy an invalid book is then replaced inside the snapshot's window (a resync), and a
passed exam teaches the levels beyond our horizon.
"""

from __future__ import annotations

import numpy as np

from market_pipeline.books import state as reg
from market_pipeline.books.jit import kernel
from market_pipeline.books.levels import ASK, BID, clear, far_is_full, key_of, set_level
from market_pipeline.books.state import Repair, Resync
from market_pipeline.books.walk import best_level, level_at_or_after

__all__ = ["meet_snapshot", "write_repair"]

_NEVER = int(Resync.NEVER)
_ALWAYS = int(Resync.ALWAYS)
_SEED = int(Repair.SEED)
_RESYNC = int(Repair.RESYNC)
_CONFIRMED = int(Repair.CONFIRMED)
_BEFORE_ALL = np.int64(-(2**62))
_HOUR_NS = 3_600_000_000_000
_CARRY_BITS = reg.CARRY_BITS
_LOW_BITS = np.int64((1 << reg.CARRY_BITS) - 1)


@kernel
def write_repair(registers, repairs, row, kind, receipt, sequence, levels, low, high):
    """Writes one row of `Repairs`; it shows in the next message to be closed."""
    repairs.kind[row] = kind
    repairs.message[row] = registers[reg.MESSAGES]
    repairs.ts_receipt_ns[row] = receipt
    repairs.sequence_number[row] = sequence
    repairs.levels[row] = levels
    repairs.low_ticks[row] = low
    repairs.high_ticks[row] = high


@kernel
def meet_snapshot(registers, levels, snapshots, k, options, repairs, repair_row):
    """Lets one snapshot do its work; returns the next row of `repairs`, or -1 for want of room.

    Room in the far arrays for the whole snapshot is asked for first, so that nothing is done twice
    when it is called again.
    """
    if far_is_full(
        levels.far_keys, levels.far_sizes, levels.meta, snapshots.bid_price_ticks.shape[1]
    ):
        return np.int64(-1)
    registers[reg.SNAPSHOTS] += 1
    if not snapshots.usable[k]:
        registers[reg.UNUSABLE] += 1
        return repair_row
    sequence, receipt = snapshots.sequence_number[k], snapshots.ts_receipt_ns[k]
    if sequence < registers[reg.BOOK_SEQUENCE]:
        # It would set the book back.
        registers[reg.UNPLACED] += 1
        return repair_row
    bids = _depth_of(snapshots.bid_size_lots, k)
    asks = _depth_of(snapshots.ask_size_lots, k)
    kind = np.int64(0)
    if registers[reg.SEEDED] == 0:
        registers[reg.SEEDED] = 1
        registers[reg.SEED_SEQUENCE] = sequence
        registers[reg.SEED_RECEIPT] = receipt
        clear(levels)
        _replace(registers, levels, snapshots, k, bids, asks)
        kind = _SEED
    else:
        lost = registers[reg.GAP] + registers[reg.FAILED_EXAM]
        in_step = registers[reg.LAST_SEQUENCE] == sequence
        if in_step:
            _examine(registers, levels, snapshots, k, bids, asks)
        invalid = _is_invalid(registers, options, receipt)
        if options.resync == _ALWAYS or (invalid and options.resync != _NEVER):
            registers[reg.RESYNCS] += 1
            _replace(registers, levels, snapshots, k, bids, asks)
            kind = _RESYNC
        elif in_step and not invalid and options.resync != _NEVER:
            _extend(registers, levels, snapshots, k, bids, asks)
        if kind == 0 and registers[reg.GAP] + registers[reg.FAILED_EXAM] < lost:
            kind = _CONFIRMED
    if kind != 0:
        low, high = snapshots.bid_price_ticks[k, bids - 1], snapshots.ask_price_ticks[k, asks - 1]
        write_repair(
            registers, repairs, repair_row, kind, receipt, sequence, bids + asks, low, high
        )
        repair_row += 1
    return repair_row


@kernel
def _depth_of(sizes, k):
    """How many levels a side of a snapshot has."""
    n = 0
    while n < sizes.shape[1] and sizes[k, n] > 0:
        n += 1
    return n


@kernel
def _is_invalid(registers, options, now_ns):
    crossed_since = registers[reg.CROSSED_SINCE]
    crossed_too_long = crossed_since != 0 and now_ns - crossed_since > options.crossed_resync_ns
    return (
        registers[reg.GAP] != 0
        or registers[reg.REFUSED_SINCE] != 0
        or registers[reg.FAILED_EXAM] != 0
        or crossed_too_long
    )


@kernel
def _examine(registers, levels, snapshots, k, bids, asks):
    """Takes one snapshot at our own sequence number as an exam; passed means the touch agrees.

    After lost messages a right touch is not enough: the book counts as found again only if every
    level that can be compared is equal.
    """
    bid_key, bid_size = best_level(levels, BID)
    ask, ask_size = best_level(levels, ASK)
    bid = -bid_key
    hour = snapshots.ts_receipt_ns[k] // _HOUR_NS % 24
    registers[reg.EXAMS] += 1
    registers[reg.EXAMS_BY_HOUR + hour] += 1
    differing = _examine_side(
        registers, levels, BID, snapshots.bid_price_ticks, snapshots.bid_size_lots, k, bids
    ) + _examine_side(
        registers, levels, ASK, snapshots.ask_price_ticks, snapshots.ask_size_lots, k, asks
    )
    registers[reg.DIFFERING_BY_HOUR + hour] += differing
    their_bid, their_bid_size = snapshots.bid_price_ticks[k, 0], snapshots.bid_size_lots[k, 0]
    their_ask, their_ask_size = snapshots.ask_price_ticks[k, 0], snapshots.ask_size_lots[k, 0]
    deviation = np.int64(0)
    if bid_size > 0 and ask_size > 0:
        deviation = abs(bid + ask - their_bid - their_ask)
    # Of two exams whose mid is as far off, the worse has more levels that differ.
    most = registers[reg.EXAM_WORST + reg.PLACE_LEVELS_DIFFERING]
    if deviation > registers[reg.EXAM_MID] or (
        deviation == registers[reg.EXAM_MID] and differing > most
    ):
        registers[reg.EXAM_MID] = deviation
        _keep_place(
            registers, reg.EXAM_WORST, snapshots, k, differing, bid, bid_size, ask, ask_size
        )
    bid_agrees = bid_size == their_bid_size and bid == their_bid
    ask_agrees = ask_size == their_ask_size and ask == their_ask
    if bid_agrees and ask_agrees:
        registers[reg.FAILED_EXAM] = 0
        if differing == 0:
            registers[reg.GAP] = 0
        return
    if registers[reg.EXAMS_FAILED] == 0:
        _keep_place(
            registers, reg.EXAM_FIRST_FAILED, snapshots, k, differing, bid, bid_size, ask, ask_size
        )
    registers[reg.EXAMS_FAILED] += 1
    registers[reg.FAILED_BY_HOUR + hour] += 1
    registers[reg.FAILED_EXAM] = 1


@kernel
def _keep_place(registers, at, snapshots, k, differing, bid, bid_size, ask, ask_size):
    """Keeps one exam, with the touch on either side, in the registers from `at` on."""
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
def _examine_side(registers, levels, side, prices, sizes, k, depth):
    """Compares our levels with a snapshot's as far as both reach, best first on both.

    Returns how many levels differ: missing here, missing there, or of another size.
    """
    # Beyond the horizon we never claimed to know the book, so nothing there is right or wrong.
    limit = min(key_of(side, prices[k, depth - 1]), key_of(side, registers[reg.BID_HORIZON + side]))
    ours = theirs = ghost = missing = matching = 0
    # Sums of sizes may pass 64 bits.
    size_low = size_high = error_low = error_high = np.int64(0)
    n = 0
    key, size = best_level(levels, side)
    while True:
        has_ours = size > 0 and key <= limit
        their_key = key_of(side, prices[k, n]) if n < depth else np.int64(2**62)
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
    registers[reg.EXAM_OURS] += ours
    registers[reg.EXAM_LEVELS] += theirs
    registers[reg.EXAM_GHOST] += ghost
    registers[reg.EXAM_MISSING] += missing
    registers[reg.EXAM_MATCHING] += matching
    _add_exactly(registers, reg.EXAM_SIZE, size_low, size_high)
    _add_exactly(registers, reg.EXAM_SIZE_ERROR, error_low, error_high)
    return ours + missing - matching


@kernel
def _replace(registers, levels, snapshots, k, bids, asks):
    """Takes the snapshot over inside its window; levels beyond it stay as last heard of."""
    _load_side(
        levels, BID, snapshots.bid_price_ticks, snapshots.bid_size_lots, k, bids, _BEFORE_ALL
    )
    _load_side(
        levels, ASK, snapshots.ask_price_ticks, snapshots.ask_size_lots, k, asks, _BEFORE_ALL
    )
    registers[reg.BID_HORIZON] = snapshots.bid_price_ticks[k, bids - 1]
    registers[reg.ASK_HORIZON] = snapshots.ask_price_ticks[k, asks - 1]
    registers[reg.BOOK_SEQUENCE] = snapshots.sequence_number[k]
    registers[reg.LAST_BID] = snapshots.bid_price_ticks[k, 0]
    registers[reg.LAST_ASK] = snapshots.ask_price_ticks[k, 0]
    registers[reg.GAP] = 0
    registers[reg.REFUSED_SINCE] = 0
    registers[reg.FAILED_EXAM] = 0
    registers[reg.CROSSED_SINCE] = 0


@kernel
def _extend(registers, levels, snapshots, k, bids, asks):
    """Learns from a passed exam what lies beyond our horizon; nothing we knew is changed."""
    farthest_bid = snapshots.bid_price_ticks[k, bids - 1]
    farthest_ask = snapshots.ask_price_ticks[k, asks - 1]
    if farthest_bid < registers[reg.BID_HORIZON]:
        beyond = key_of(BID, registers[reg.BID_HORIZON])
        registers[reg.LEARNED] += _load_side(
            levels, BID, snapshots.bid_price_ticks, snapshots.bid_size_lots, k, bids, beyond
        )
        registers[reg.BID_HORIZON] = farthest_bid
    if farthest_ask > registers[reg.ASK_HORIZON]:
        beyond = key_of(ASK, registers[reg.ASK_HORIZON])
        registers[reg.LEARNED] += _load_side(
            levels, ASK, snapshots.ask_price_ticks, snapshots.ask_size_lots, k, asks, beyond
        )
        registers[reg.ASK_HORIZON] = farthest_ask


@kernel
def _load_side(levels, side, prices, sizes, k, depth, beyond):
    """Replaces our levels worse than `beyond`, as far as the snapshot reaches, by the snapshot's.

    Returns how many of its levels were set.
    """
    farthest = key_of(side, prices[k, depth - 1])
    key, size = level_at_or_after(levels, side, beyond + 1)
    while size > 0 and key <= farthest:
        set_level(levels, side, key, np.int64(0))
        key, size = level_at_or_after(levels, side, key + 1)
    loaded = 0
    for n in range(depth):
        if key_of(side, prices[k, n]) > beyond:
            set_level(levels, side, key_of(side, prices[k, n]), sizes[k, n])
            loaded += 1
    return loaded
