"""What a snapshot does to a book: it seeds it, examines it, mends it, or widens what is known.

The first usable snapshot seeds. Every later one at our own sequence number is an exam: passed if
best bid and ask agree in price and size. By policy an invalid book is then replaced inside the
snapshot's window (a resync), and a passed exam teaches the levels beyond our horizon.
"""

from __future__ import annotations

import numpy as np

from market_pipeline.books import state as reg
from market_pipeline.books.jit import kernel
from market_pipeline.books.levels import ASK, BID, far_is_full, set_level
from market_pipeline.books.state import Resync
from market_pipeline.books.walk import ask_at_or_above, best_ask, best_bid, bid_at_or_below

__all__ = ["meet_snapshot"]

_NEVER = int(Resync.NEVER)
_ALWAYS = int(Resync.ALWAYS)
_BEYOND_NOTHING = np.int64(2**62)


@kernel
def _side_depth(prices, sizes):
    n = 0
    while n < sizes.size and sizes[n] > 0:
        n += 1
    return n


@kernel
def _load_side(levels, side, prices, sizes, beyond):
    """Replaces our levels worse than `beyond`, as far as the snapshot reaches, by the snapshot's.

    Returns how many of its levels were set.
    """
    n = _side_depth(prices, sizes)
    loaded = 0
    if n == 0:
        return loaded
    sign = np.int64(-1) if side == BID else np.int64(1)
    farthest = sign * prices[n - 1]
    price, size = _at_or_worse(levels, side, beyond + sign)
    while size > 0 and sign * price <= farthest:
        set_level(levels, side, price, np.int64(0))
        price, size = _at_or_worse(levels, side, price + sign)
    for k in range(n):
        if sign * prices[k] > sign * beyond:
            set_level(levels, side, prices[k], sizes[k])
            loaded += 1
    return loaded


@kernel
def _at_or_worse(levels, side, price):
    """Our next level at a price or farther from the other side, as (price, size)."""
    if side == BID:
        return bid_at_or_below(levels, price)
    return ask_at_or_above(levels, price)


@kernel
def _examine_side(registers, levels, side, prices, sizes):
    """Compares our levels with a snapshot's as far as both reach, best first on both.

    Returns how many levels differ: missing here, missing there, or of another size.
    """
    n = _side_depth(prices, sizes)
    differing = 0
    if n == 0:
        return differing
    sign = np.int64(-1) if side == BID else np.int64(1)
    # Beyond the horizon we never claimed to know the book, so nothing there is right or wrong.
    horizon = registers[reg.BID_HORIZON] if side == BID else registers[reg.ASK_HORIZON]
    limit = min(sign * prices[n - 1], sign * horizon)
    k = 0
    price, size = best_bid(levels) if side == BID else best_ask(levels)
    while True:
        ours = size > 0 and sign * price <= limit
        theirs = k < n and sign * prices[k] <= limit
        if not ours and not theirs:
            return differing
        take_ours = ours and (not theirs or sign * price <= sign * prices[k])
        take_theirs = theirs and (not ours or sign * prices[k] <= sign * price)
        registers[reg.EXAM_OURS] += take_ours
        registers[reg.EXAM_LEVELS] += take_theirs
        registers[reg.EXAM_GHOST] += take_ours and not take_theirs
        registers[reg.EXAM_MISSING] += take_theirs and not take_ours
        matching = take_ours and take_theirs and size == sizes[k]
        registers[reg.EXAM_MATCHING] += matching
        differing += not matching
        if take_theirs:
            k += 1
        if take_ours:
            price, size = _at_or_worse(levels, side, price + sign)


@kernel
def _examine(registers, levels, snapshots, k):
    """Takes one snapshot at our own sequence number as an exam; passed means the touch agrees.

    After lost messages a right touch is not enough: the book counts as found again only if every
    level that can be compared is equal.
    """
    bid_price, bid_size = best_bid(levels)
    ask_price, ask_size = best_ask(levels)
    registers[reg.EXAMS] += 1
    differing = _examine_side(
        registers, levels, BID, snapshots.bid_price_ticks[k], snapshots.bid_size_lots[k]
    ) + _examine_side(
        registers, levels, ASK, snapshots.ask_price_ticks[k], snapshots.ask_size_lots[k]
    )
    their_bid, their_bid_size = snapshots.bid_price_ticks[k, 0], snapshots.bid_size_lots[k, 0]
    their_ask, their_ask_size = snapshots.ask_price_ticks[k, 0], snapshots.ask_size_lots[k, 0]
    if bid_size > 0 and ask_size > 0:
        deviation = abs(bid_price + ask_price - their_bid - their_ask)
        registers[reg.EXAM_MID] = max(registers[reg.EXAM_MID], deviation)
    bid_agrees = bid_size == their_bid_size and bid_price == their_bid
    ask_agrees = ask_size == their_ask_size and ask_price == their_ask
    if bid_agrees and ask_agrees:
        registers[reg.FAILED_EXAM] = 0
        if differing == 0:
            registers[reg.GAP] = 0
        return
    if registers[reg.EXAMS_FAILED] == 0:
        registers[reg.EXAM_FIRST_SEQUENCE] = snapshots.sequence_number[k]
        registers[reg.EXAM_FIRST_RECEIPT] = snapshots.ts_receipt_ns[k]
    registers[reg.EXAMS_FAILED] += 1
    registers[reg.FAILED_EXAM] = 1


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
def meet_snapshot(registers, levels, snapshots, k, options):
    """Seeds from, is examined by, or resyncs to one snapshot; True where the far arrays are full.

    Called again for the same snapshot after the arrays grew, so an exam must not repeat: room for
    the whole snapshot is asked for first.
    """
    if far_is_full(levels, snapshots.bid_price_ticks.shape[1]):
        return True
    if not snapshots.usable[k]:
        registers[reg.SNAPSHOTS] += 1
        registers[reg.UNUSABLE] += 1
        return False
    registers[reg.SNAPSHOTS] += 1
    if registers[reg.SEEDED] == 0:
        registers[reg.SEEDED] = 1
        registers[reg.SEED_SEQUENCE] = snapshots.sequence_number[k]
        registers[reg.SEED_RECEIPT] = snapshots.ts_receipt_ns[k]
        _replace(registers, levels, snapshots, k)
        return False
    in_step = registers[reg.LAST_SEQUENCE] == snapshots.sequence_number[k]
    if in_step:
        _examine(registers, levels, snapshots, k)
    invalid = _is_invalid(registers, options, snapshots.ts_receipt_ns[k])
    if options.resync == _ALWAYS or (invalid and options.resync != _NEVER):
        registers[reg.RESYNCS] += 1
        _replace(registers, levels, snapshots, k)
    elif in_step and not invalid and options.resync != _NEVER:
        _extend(registers, levels, snapshots, k)
    return False


@kernel
def _replace(registers, levels, snapshots, k):
    """Takes the snapshot over inside its window; levels beyond it stay as last heard of."""
    bid_price, bid_size = snapshots.bid_price_ticks[k], snapshots.bid_size_lots[k]
    ask_price, ask_size = snapshots.ask_price_ticks[k], snapshots.ask_size_lots[k]
    _load_side(levels, BID, bid_price, bid_size, _BEYOND_NOTHING)
    _load_side(levels, ASK, ask_price, ask_size, -_BEYOND_NOTHING)
    registers[reg.BID_HORIZON] = bid_price[_side_depth(bid_price, bid_size) - 1]
    registers[reg.ASK_HORIZON] = ask_price[_side_depth(ask_price, ask_size) - 1]
    registers[reg.GAP] = 0
    registers[reg.REFUSED_SINCE] = 0
    registers[reg.FAILED_EXAM] = 0
    registers[reg.CROSSED_SINCE] = 0


@kernel
def _extend(registers, levels, snapshots, k):
    """Learns from a passed exam what lies beyond our horizon; nothing we knew is changed."""
    bid_price, bid_size = snapshots.bid_price_ticks[k], snapshots.bid_size_lots[k]
    ask_price, ask_size = snapshots.ask_price_ticks[k], snapshots.ask_size_lots[k]
    farthest_bid = bid_price[_side_depth(bid_price, bid_size) - 1]
    farthest_ask = ask_price[_side_depth(ask_price, ask_size) - 1]
    if farthest_bid < registers[reg.BID_HORIZON]:
        learned = _load_side(levels, BID, bid_price, bid_size, registers[reg.BID_HORIZON])
        registers[reg.LEARNED] += learned
        registers[reg.BID_HORIZON] = farthest_bid
    if farthest_ask > registers[reg.ASK_HORIZON]:
        learned = _load_side(levels, ASK, ask_price, ask_size, registers[reg.ASK_HORIZON])
        registers[reg.LEARNED] += learned
        registers[reg.ASK_HORIZON] = farthest_ask
