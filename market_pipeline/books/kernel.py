"""The rebuild kernel: arrays in, arrays out, state in and out, no allocation per message.

`advance` applies delta rows to a book message by message and writes one BBO row per message and one
depth row per message or interval. It never allocates and never loses its place: when it needs
something from outside (more rows, more snapshots, room in the outputs, a moved window, a keyframe
taken) it returns a `Status` with the positions it reached, and goes on from there when called again.
Message boundaries may therefore fall anywhere, also between two batches.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.levels import (
    ASK,
    BASE,
    BID,
    ask_at_or_above,
    best_ask,
    best_bid,
    bid_at_or_below,
    far_is_full,
    set_level,
)

__all__ = [
    "DEPTH_LEVELS",
    "REGISTERS",
    "BboRows",
    "Deltas",
    "DepthRows",
    "Options",
    "Resync",
    "Snapshots",
    "Status",
    "advance",
    "new_registers",
]

DEPTH_LEVELS = 20


class Status(IntEnum):
    """Why `advance` returned."""

    DONE = 0
    NEEDS_ROWS = 1
    NEEDS_SNAPSHOTS = 2
    OUTPUT_FULL = 3
    KEYFRAME_DUE = 4
    NEEDS_WINDOW = 5


class Resync(IntEnum):
    """When a snapshot after the seed replaces the book inside its window."""

    NEVER = 0
    WHEN_INVALID = 1
    ALWAYS = 2


class Deltas(NamedTuple):
    """Delta rows in feed order, shape (n,); a message is the rows of equal sequence and receipt.

    `size_lots` 0 removes the level; -1 marks a row that could not be represented and is refused.
    """

    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    is_bid: NDArray[np.bool_]
    price_ticks: NDArray[np.int64]
    size_lots: NDArray[np.int64]


class Snapshots(NamedTuple):
    """Snapshots in feed order: n of them, up to `levels` a side, best first, padded with size 0.

    `usable` is False where the snapshot itself is not a book (crossed, unordered, off the grid).
    """

    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    usable: NDArray[np.bool_]
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]


class BboRows(NamedTuple):
    """Where the best bid and ask after each message are written; a side of size 0 is empty."""

    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]
    flags: NDArray[np.uint16]


class DepthRows(NamedTuple):
    """Where the top levels are written, shape (n, 20) a side, best first, padded with size 0."""

    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]
    flags: NDArray[np.uint16]


class Options(NamedTuple):
    """What to emit and when to resync; times in ns.

    `depth_interval_ns` 0 writes depth after every message, otherwise after the last message of each
    interval of the receipt clock; `keyframe_interval_ns` 0 never stops for a keyframe.
    A book crossed for longer than `crossed_resync_ns` is invalid.
    `snapshot_patience_ns` is how much older than the feed a snapshot may be by the receipt clock
    before its place is no longer waited for.
    """

    depth_interval_ns: int
    keyframe_interval_ns: int
    resync: int
    crossed_resync_ns: int
    snapshot_patience_ns: int


REGISTERS = (
    "open",
    "open_ts_origin_ns",
    "open_ts_receipt_ns",
    "open_sequence_number",
    "seeded",
    "bid_horizon_ticks",
    "ask_horizon_ticks",
    "gap",
    "gaps_passed",
    "refused_since_snapshot",
    "failed_exam",
    "crossed_since_ns",
    "last_sequence_number",
    "last_move_message",
    "keyframe_taken",
    "rows",
    "messages",
    "unknown_removals",
    "refused_rows",
    "sequence_backwards",
    "crossed_messages",
    "locked_messages",
    "snapshots",
    "snapshots_unusable",
    "snapshots_unplaced",
    "seed_sequence_number",
    "seed_ts_receipt_ns",
    "resyncs",
    "levels_learned",
    "exams",
    "exams_failed",
    "exam_levels",
    "exam_levels_matching",
    "exam_levels_missing",
    "exam_levels_ours",
    "exam_levels_ghost",
    "exam_max_mid_deviation_half_ticks",
    "exam_first_failed_sequence_number",
    "exam_first_failed_ts_receipt_ns",
)
"""The scalars of a rebuild in the order of its int64 register array: state first, then counters."""

(
    _OPEN,
    _OPEN_ORIGIN,
    _OPEN_RECEIPT,
    _OPEN_SEQUENCE,
    _SEEDED,
    _BID_HORIZON,
    _ASK_HORIZON,
    _GAP,
    _GAPS_PASSED,
    _REFUSED_SINCE,
    _FAILED_EXAM,
    _CROSSED_SINCE,
    _LAST_SEQUENCE,
    _LAST_MOVE,
    _KEYFRAME_TAKEN,
    _ROWS,
    _MESSAGES,
    _UNKNOWN_REMOVALS,
    _REFUSED_ROWS,
    _BACKWARDS,
    _CROSSED_MESSAGES,
    _LOCKED_MESSAGES,
    _SNAPSHOTS,
    _UNUSABLE,
    _UNPLACED,
    _SEED_SEQUENCE,
    _SEED_RECEIPT,
    _RESYNCS,
    _LEARNED,
    _EXAMS,
    _EXAMS_FAILED,
    _EXAM_LEVELS,
    _EXAM_MATCHING,
    _EXAM_MISSING,
    _EXAM_OURS,
    _EXAM_GHOST,
    _EXAM_MID,
    _EXAM_FIRST_SEQUENCE,
    _EXAM_FIRST_RECEIPT,
) = range(len(REGISTERS))

_DONE = int(Status.DONE)
_NEEDS_ROWS = int(Status.NEEDS_ROWS)
_NEEDS_SNAPSHOTS = int(Status.NEEDS_SNAPSHOTS)
_OUTPUT_FULL = int(Status.OUTPUT_FULL)
_KEYFRAME_DUE = int(Status.KEYFRAME_DUE)
_NEEDS_WINDOW = int(Status.NEEDS_WINDOW)
_NEVER = int(Resync.NEVER)
_ALWAYS = int(Resync.ALWAYS)
_F_NOT_SEEDED = int(BookFlag.NOT_SEEDED)
_F_GAP = int(BookFlag.GAP)
_F_CROSSED = int(BookFlag.CROSSED)
_F_LOCKED = int(BookFlag.LOCKED)
_F_FAILED_EXAM = int(BookFlag.FAILED_EXAM)
_F_PRECISION_LOSS = int(BookFlag.PRECISION_LOSS)
_F_UNCONFIRMED = int(BookFlag.UNCONFIRMED_DEPTH)
_F_EMPTY_SIDE = int(BookFlag.EMPTY_SIDE)

_REFUSED = -1
_BEYOND_NOTHING = np.int64(2**62)
# Moving the window costs about as much as a hundred thousand messages, so a market that jumps to
# and fro is served from the far arrays (exact, only slower) instead of moved each time.
_MESSAGES_BETWEEN_MOVES = 100_000


def new_registers() -> NDArray[np.int64]:
    """The registers of a rebuild that has not begun."""
    registers = np.zeros(len(REGISTERS), np.int64)
    registers[_LAST_MOVE] = -_MESSAGES_BETWEEN_MOVES
    registers[_LAST_SEQUENCE] = np.iinfo(np.int64).min
    return registers


@njit(nogil=True, cache=True)
def _flags(registers, bid_price, bid_size, ask_price, ask_size):  # type: ignore[no-untyped-def]
    flags = 0
    if bid_size == 0 or ask_size == 0:
        flags |= _F_EMPTY_SIDE
    elif bid_price > ask_price:
        flags |= _F_CROSSED
    elif bid_price == ask_price:
        flags |= _F_LOCKED
    if registers[_SEEDED] == 0:
        flags |= _F_NOT_SEEDED
    else:
        below = bid_size > 0 and bid_price < registers[_BID_HORIZON]
        above = ask_size > 0 and ask_price > registers[_ASK_HORIZON]
        if below or above:
            flags |= _F_UNCONFIRMED
    if registers[_GAP] != 0:
        flags |= _F_GAP
    if registers[_REFUSED_SINCE] != 0:
        flags |= _F_PRECISION_LOSS
    if registers[_FAILED_EXAM] != 0:
        flags |= _F_FAILED_EXAM
    return flags


@njit(nogil=True, cache=True)
def _write_depth(registers, levels, flags, depth, row):  # type: ignore[no-untyped-def]
    depth.ts_origin_ns[row] = registers[_OPEN_ORIGIN]
    depth.ts_receipt_ns[row] = registers[_OPEN_RECEIPT]
    depth.sequence_number[row] = registers[_OPEN_SEQUENCE]
    depth.flags[row] = flags
    price, size = best_bid(levels)
    for k in range(DEPTH_LEVELS):
        depth.bid_price_ticks[row, k] = price
        depth.bid_size_lots[row, k] = size
        if size > 0:
            price, size = bid_at_or_below(levels, price - 1)
    price, size = best_ask(levels)
    for k in range(DEPTH_LEVELS):
        depth.ask_price_ticks[row, k] = price
        depth.ask_size_lots[row, k] = size
        if size > 0:
            price, size = ask_at_or_above(levels, price + 1)


@njit(nogil=True, cache=True)
def _side_depth(prices, sizes):  # type: ignore[no-untyped-def]
    n = 0
    while n < sizes.size and sizes[n] > 0:
        n += 1
    return n


@njit(nogil=True, cache=True)
def _load_side(levels, side, prices, sizes, beyond):  # type: ignore[no-untyped-def]
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


@njit(nogil=True, cache=True)
def _at_or_worse(levels, side, price):  # type: ignore[no-untyped-def]
    """Our next level at a price or farther from the other side, as (price, size)."""
    if side == BID:
        return bid_at_or_below(levels, price)
    return ask_at_or_above(levels, price)


@njit(nogil=True, cache=True)
def _examine_side(registers, levels, side, prices, sizes):  # type: ignore[no-untyped-def]
    """Compares our levels with a snapshot's as far as both reach, best first on both."""
    n = _side_depth(prices, sizes)
    if n == 0:
        return
    sign = np.int64(-1) if side == BID else np.int64(1)
    # Beyond the horizon we never claimed to know the book, so nothing there is right or wrong.
    horizon = registers[_BID_HORIZON] if side == BID else registers[_ASK_HORIZON]
    limit = min(sign * prices[n - 1], sign * horizon)
    k = 0
    price, size = best_bid(levels) if side == BID else best_ask(levels)
    while True:
        ours = size > 0 and sign * price <= limit
        theirs = k < n and sign * prices[k] <= limit
        if not ours and not theirs:
            break
        take_ours = ours and (not theirs or sign * price <= sign * prices[k])
        take_theirs = theirs and (not ours or sign * prices[k] <= sign * price)
        registers[_EXAM_OURS] += take_ours
        registers[_EXAM_LEVELS] += take_theirs
        registers[_EXAM_GHOST] += take_ours and not take_theirs
        registers[_EXAM_MISSING] += take_theirs and not take_ours
        registers[_EXAM_MATCHING] += take_ours and take_theirs and size == sizes[k]
        if take_theirs:
            k += 1
        if take_ours:
            price, size = _at_or_worse(levels, side, price + sign)


@njit(nogil=True, cache=True)
def _examine(registers, levels, snapshots, k):  # type: ignore[no-untyped-def]
    """Takes one snapshot at our own sequence number as an exam; passed means the touch agrees."""
    bid_price, bid_size = best_bid(levels)
    ask_price, ask_size = best_ask(levels)
    registers[_EXAMS] += 1
    _examine_side(
        registers, levels, BID, snapshots.bid_price_ticks[k], snapshots.bid_size_lots[k]
    )
    _examine_side(
        registers, levels, ASK, snapshots.ask_price_ticks[k], snapshots.ask_size_lots[k]
    )
    their_bid, their_bid_size = snapshots.bid_price_ticks[k, 0], snapshots.bid_size_lots[k, 0]
    their_ask, their_ask_size = snapshots.ask_price_ticks[k, 0], snapshots.ask_size_lots[k, 0]
    if bid_size > 0 and ask_size > 0:
        deviation = abs(bid_price + ask_price - their_bid - their_ask)
        registers[_EXAM_MID] = max(registers[_EXAM_MID], deviation)
    bid_agrees = bid_size == their_bid_size and bid_price == their_bid
    ask_agrees = ask_size == their_ask_size and ask_price == their_ask
    if bid_agrees and ask_agrees:
        registers[_FAILED_EXAM] = 0
        registers[_GAP] = 0
        return
    if registers[_EXAMS_FAILED] == 0:
        registers[_EXAM_FIRST_SEQUENCE] = snapshots.sequence_number[k]
        registers[_EXAM_FIRST_RECEIPT] = snapshots.ts_receipt_ns[k]
    registers[_EXAMS_FAILED] += 1
    registers[_FAILED_EXAM] = 1


@njit(nogil=True, cache=True)
def _is_invalid(registers, options, now_ns):  # type: ignore[no-untyped-def]
    crossed_since = registers[_CROSSED_SINCE]
    crossed_too_long = crossed_since != 0 and now_ns - crossed_since > options.crossed_resync_ns
    return (
        registers[_GAP] != 0
        or registers[_REFUSED_SINCE] != 0
        or registers[_FAILED_EXAM] != 0
        or crossed_too_long
    )


@njit(nogil=True, cache=True)
def _meet_snapshot(registers, levels, snapshots, k, options):  # type: ignore[no-untyped-def]
    """Seeds from, is examined by, or resyncs to one snapshot; True where the far arrays are full.

    Called again for the same snapshot after the arrays grew, so an exam must not repeat: room for
    the whole snapshot is asked for first.
    """
    if far_is_full(levels, snapshots.bid_price_ticks.shape[1]):
        return True
    if not snapshots.usable[k]:
        registers[_SNAPSHOTS] += 1
        registers[_UNUSABLE] += 1
        return False
    registers[_SNAPSHOTS] += 1
    if registers[_SEEDED] == 0:
        registers[_SEEDED] = 1
        registers[_SEED_SEQUENCE] = snapshots.sequence_number[k]
        registers[_SEED_RECEIPT] = snapshots.ts_receipt_ns[k]
        _replace(registers, levels, snapshots, k)
        return False
    in_step = registers[_LAST_SEQUENCE] == snapshots.sequence_number[k]
    if in_step:
        _examine(registers, levels, snapshots, k)
    invalid = _is_invalid(registers, options, snapshots.ts_receipt_ns[k])
    if options.resync == _ALWAYS or (invalid and options.resync != _NEVER):
        registers[_RESYNCS] += 1
        _replace(registers, levels, snapshots, k)
    elif in_step and not invalid and options.resync != _NEVER:
        _extend(registers, levels, snapshots, k)
    return False


@njit(nogil=True, cache=True)
def _replace(registers, levels, snapshots, k):  # type: ignore[no-untyped-def]
    """Takes the snapshot over inside its window; levels beyond it stay as last heard of."""
    bid_price, bid_size = snapshots.bid_price_ticks[k], snapshots.bid_size_lots[k]
    ask_price, ask_size = snapshots.ask_price_ticks[k], snapshots.ask_size_lots[k]
    _load_side(levels, BID, bid_price, bid_size, _BEYOND_NOTHING)
    _load_side(levels, ASK, ask_price, ask_size, -_BEYOND_NOTHING)
    registers[_BID_HORIZON] = bid_price[_side_depth(bid_price, bid_size) - 1]
    registers[_ASK_HORIZON] = ask_price[_side_depth(ask_price, ask_size) - 1]
    registers[_GAP] = 0
    registers[_REFUSED_SINCE] = 0
    registers[_FAILED_EXAM] = 0
    registers[_CROSSED_SINCE] = 0


@njit(nogil=True, cache=True)
def _extend(registers, levels, snapshots, k):  # type: ignore[no-untyped-def]
    """Learns from a passed exam what lies beyond our horizon; nothing we knew is changed."""
    bid_price, bid_size = snapshots.bid_price_ticks[k], snapshots.bid_size_lots[k]
    ask_price, ask_size = snapshots.ask_price_ticks[k], snapshots.ask_size_lots[k]
    farthest_bid = bid_price[_side_depth(bid_price, bid_size) - 1]
    farthest_ask = ask_price[_side_depth(ask_price, ask_size) - 1]
    if farthest_bid < registers[_BID_HORIZON]:
        learned = _load_side(levels, BID, bid_price, bid_size, registers[_BID_HORIZON])
        registers[_LEARNED] += learned
        registers[_BID_HORIZON] = farthest_bid
    if farthest_ask > registers[_ASK_HORIZON]:
        learned = _load_side(levels, ASK, ask_price, ask_size, registers[_ASK_HORIZON])
        registers[_LEARNED] += learned
        registers[_ASK_HORIZON] = farthest_ask


@njit(nogil=True, cache=True)
def _close_message(registers, levels, bbo, row):  # type: ignore[no-untyped-def]
    """Writes the BBO row of the message that just ended and returns its flags."""
    bid_price, bid_size = best_bid(levels)
    ask_price, ask_size = best_ask(levels)
    flags = _flags(registers, bid_price, bid_size, ask_price, ask_size)
    bbo.ts_origin_ns[row] = registers[_OPEN_ORIGIN]
    bbo.ts_receipt_ns[row] = registers[_OPEN_RECEIPT]
    bbo.sequence_number[row] = registers[_OPEN_SEQUENCE]
    bbo.bid_price_ticks[row] = bid_price
    bbo.bid_size_lots[row] = bid_size
    bbo.ask_price_ticks[row] = ask_price
    bbo.ask_size_lots[row] = ask_size
    bbo.flags[row] = flags
    registers[_MESSAGES] += 1
    registers[_LAST_SEQUENCE] = registers[_OPEN_SEQUENCE]
    registers[_OPEN] = 0
    if flags & _F_CROSSED:
        registers[_CROSSED_MESSAGES] += 1
        if registers[_CROSSED_SINCE] == 0:
            registers[_CROSSED_SINCE] = registers[_OPEN_RECEIPT]
    else:
        registers[_CROSSED_SINCE] = 0
    if flags & _F_LOCKED:
        registers[_LOCKED_MESSAGES] += 1
    return flags


@njit(nogil=True, cache=True)
def _window_is_off(registers, levels, bbo, row):  # type: ignore[no-untyped-def]
    """Whether the touch left the middle half of the window and it is time to move it."""
    if registers[_MESSAGES] - registers[_LAST_MOVE] < _MESSAGES_BETWEEN_MOVES:
        return False
    if bbo.bid_size_lots[row] == 0 or bbo.ask_size_lots[row] == 0:
        return False
    window = levels.sizes.shape[1]
    middle = (bbo.bid_price_ticks[row] + bbo.ask_price_ticks[row]) >> 1
    offset = middle - levels.meta[BASE]
    return offset < window >> 2 or offset >= window - (window >> 2)


@njit(nogil=True, cache=True)
def advance(  # type: ignore[no-untyped-def]
    registers,
    levels,
    deltas,
    row,
    snapshots,
    snapshot,
    more_snapshots,
    gap_ends_ns,
    final,
    options,
    bbo,
    bbo_row,
    depth,
    depth_row,
):
    """Applies rows from `row` on and returns (status, row, snapshot, bbo_row, depth_row).

    Args:
        registers: int64 (len(REGISTERS),), state and counters, updated.
        levels: The book, updated.
        deltas: `Deltas` of n rows; those before `row` are done.
        snapshots: `Snapshots`; those before `snapshot` are done.
        more_snapshots: Whether the feed has snapshots after these.
        gap_ends_ns: int64, ascending receipt times of the first messages after lost ones.
        final: Whether no rows come after these, so that the last message is complete.
        options: `Options`.
        bbo, depth: Output rows, filled from `bbo_row` and `depth_row` on.

    Returns:
        The `Status` and the positions to go on from.
    """
    rows = deltas.sequence_number.size
    while True:
        at_end = row == rows
        if at_end and not final:
            return _NEEDS_ROWS, row, snapshot, bbo_row, depth_row
        if registers[_OPEN] != 0 and (
            at_end
            or deltas.sequence_number[row] != registers[_OPEN_SEQUENCE]
            or deltas.ts_receipt_ns[row] != registers[_OPEN_RECEIPT]
        ):
            if bbo_row == bbo.flags.size or depth_row == depth.flags.size:
                return _OUTPUT_FULL, row, snapshot, bbo_row, depth_row
            flags = _close_message(registers, levels, bbo, bbo_row)
            bbo_row += 1
            interval = options.depth_interval_ns
            ends_interval = interval == 0 or at_end
            if not ends_interval:
                here = registers[_OPEN_RECEIPT] // interval
                ends_interval = deltas.ts_receipt_ns[row] // interval != here
            if ends_interval:
                _write_depth(registers, levels, flags, depth, depth_row)
                depth_row += 1
            keyframe_ns = options.keyframe_interval_ns
            if keyframe_ns != 0 and not at_end:
                here = registers[_OPEN_RECEIPT] // keyframe_ns
                if deltas.ts_receipt_ns[row] // keyframe_ns != here:
                    return _KEYFRAME_DUE, row, snapshot, bbo_row, depth_row
            if _window_is_off(registers, levels, bbo, bbo_row - 1):
                return _NEEDS_WINDOW, row, snapshot, bbo_row, depth_row
        if registers[_OPEN] == 0:
            while snapshot < snapshots.sequence_number.size:
                if not at_end and snapshots.sequence_number[snapshot] >= deltas.sequence_number[row]:
                    age_ns = deltas.ts_receipt_ns[row] - snapshots.ts_receipt_ns[snapshot]
                    if age_ns <= options.snapshot_patience_ns:
                        break
                    # Its sequence number never came: a restart of the feed, or a stray snapshot.
                    registers[_SNAPSHOTS] += 1
                    registers[_UNPLACED] += 1
                elif _meet_snapshot(registers, levels, snapshots, snapshot, options):
                    return _NEEDS_WINDOW, row, snapshot, bbo_row, depth_row
                snapshot += 1
            if snapshot == snapshots.sequence_number.size and more_snapshots:
                return _NEEDS_SNAPSHOTS, row, snapshot, bbo_row, depth_row
            if at_end:
                return _DONE, row, snapshot, bbo_row, depth_row
            registers[_OPEN] = 1
            registers[_OPEN_ORIGIN] = deltas.ts_origin_ns[row]
            registers[_OPEN_RECEIPT] = deltas.ts_receipt_ns[row]
            registers[_OPEN_SEQUENCE] = deltas.sequence_number[row]
            if registers[_OPEN_SEQUENCE] < registers[_LAST_SEQUENCE]:
                registers[_BACKWARDS] += 1
            while (
                registers[_GAPS_PASSED] < gap_ends_ns.size
                and gap_ends_ns[registers[_GAPS_PASSED]] <= registers[_OPEN_RECEIPT]
            ):
                registers[_GAPS_PASSED] += 1
                registers[_GAP] = 1
        sequence = registers[_OPEN_SEQUENCE]
        receipt = registers[_OPEN_RECEIPT]
        first = row
        refused = 0
        unknown = 0
        full = False
        while (
            row < rows
            and deltas.sequence_number[row] == sequence
            and deltas.ts_receipt_ns[row] == receipt
        ):
            size = deltas.size_lots[row]
            if size == _REFUSED:
                refused += 1
            else:
                if far_is_full(levels, 1):
                    full = True
                    break
                side = BID if deltas.is_bid[row] else ASK
                before = set_level(levels, side, deltas.price_ticks[row], size)
                unknown += size == 0 and before == 0
            row += 1
        registers[_ROWS] += row - first
        registers[_UNKNOWN_REMOVALS] += unknown
        registers[_REFUSED_ROWS] += refused
        registers[_REFUSED_SINCE] += refused
        if full:
            return _NEEDS_WINDOW, row, snapshot, bbo_row, depth_row
