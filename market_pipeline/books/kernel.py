"""The rebuild kernel: arrays in, arrays out, state in and out, no allocation per message.

`advance` applies delta rows to a book message by message and writes one BBO row per message and one
depth row per message or interval. It never allocates and never loses its place: when it needs
something from outside (more rows, more snapshots, room in the outputs, a moved window, a keyframe
taken) it returns a `Status` with the positions it reached, and goes on from there when called
again. Message boundaries may therefore fall anywhere, also between two batches.
"""

from __future__ import annotations

from market_pipeline.books import state as reg
from market_pipeline.books.exam import meet_snapshot
from market_pipeline.books.flags import BookFlag
from market_pipeline.books.jit import kernel
from market_pipeline.books.levels import ASK, BASE, BID, apply_rows
from market_pipeline.books.state import MESSAGES_BETWEEN_MOVES, Status
from market_pipeline.books.walk import touch, write_top

__all__ = ["advance"]

_DONE = int(Status.DONE)
_NEEDS_ROWS = int(Status.NEEDS_ROWS)
_NEEDS_SNAPSHOTS = int(Status.NEEDS_SNAPSHOTS)
_OUTPUT_FULL = int(Status.OUTPUT_FULL)
_KEYFRAME_DUE = int(Status.KEYFRAME_DUE)
_NEEDS_WINDOW = int(Status.NEEDS_WINDOW)
_F_NOT_SEEDED = int(BookFlag.NOT_SEEDED)
_F_GAP = int(BookFlag.GAP)
_F_CROSSED = int(BookFlag.CROSSED)
_F_LOCKED = int(BookFlag.LOCKED)
_F_FAILED_EXAM = int(BookFlag.FAILED_EXAM)
_F_PRECISION_LOSS = int(BookFlag.PRECISION_LOSS)
_F_UNCONFIRMED = int(BookFlag.UNCONFIRMED_DEPTH)
_F_EMPTY_SIDE = int(BookFlag.EMPTY_SIDE)


@kernel
def _flags(registers, bid_price, bid_size, ask_price, ask_size):
    flags = 0
    if bid_size == 0 or ask_size == 0:
        flags |= _F_EMPTY_SIDE
    elif bid_price > ask_price:
        flags |= _F_CROSSED
    elif bid_price == ask_price:
        flags |= _F_LOCKED
    if registers[reg.SEEDED] == 0:
        flags |= _F_NOT_SEEDED
    else:
        below = bid_size > 0 and bid_price < registers[reg.BID_HORIZON]
        above = ask_size > 0 and ask_price > registers[reg.ASK_HORIZON]
        if below or above:
            flags |= _F_UNCONFIRMED
    if registers[reg.GAP] != 0:
        flags |= _F_GAP
    if registers[reg.REFUSED_SINCE] != 0:
        flags |= _F_PRECISION_LOSS
    if registers[reg.FAILED_EXAM] != 0:
        flags |= _F_FAILED_EXAM
    return flags


@kernel
def _write_depth(registers, levels, flags, depth, row):
    depth.ts_origin_ns[row] = registers[reg.OPEN_ORIGIN]
    depth.ts_receipt_ns[row] = registers[reg.OPEN_RECEIPT]
    depth.sequence_number[row] = registers[reg.OPEN_SEQUENCE]
    depth.flags[row] = flags
    write_top(levels, BID, depth.bid_price_ticks[row], depth.bid_size_lots[row])
    write_top(levels, ASK, depth.ask_price_ticks[row], depth.ask_size_lots[row])


@kernel
def _close_message(registers, levels, bbo, row):
    """Writes the BBO row of the message that just ended and returns its flags."""
    bid_price, bid_size, ask_price, ask_size = touch(levels)
    flags = _flags(registers, bid_price, bid_size, ask_price, ask_size)
    bbo.ts_origin_ns[row] = registers[reg.OPEN_ORIGIN]
    bbo.ts_receipt_ns[row] = registers[reg.OPEN_RECEIPT]
    bbo.sequence_number[row] = registers[reg.OPEN_SEQUENCE]
    bbo.bid_price_ticks[row] = bid_price
    bbo.bid_size_lots[row] = bid_size
    bbo.ask_price_ticks[row] = ask_price
    bbo.ask_size_lots[row] = ask_size
    bbo.flags[row] = flags
    registers[reg.MESSAGES] += 1
    registers[reg.LAST_SEQUENCE] = registers[reg.OPEN_SEQUENCE]
    registers[reg.OPEN] = 0
    if flags & _F_CROSSED:
        registers[reg.CROSSED_MESSAGES] += 1
        if registers[reg.CROSSED_SINCE] == 0:
            registers[reg.CROSSED_SINCE] = registers[reg.OPEN_RECEIPT]
    else:
        registers[reg.CROSSED_SINCE] = 0
    if flags & _F_LOCKED:
        registers[reg.LOCKED_MESSAGES] += 1
    return flags


@kernel
def _window_is_off(registers, levels, bbo, row):
    """Whether the touch left the middle half of the window and it is time to move it."""
    if registers[reg.MESSAGES] - registers[reg.LAST_MOVE] < MESSAGES_BETWEEN_MOVES:
        return False
    if bbo.bid_size_lots[row] == 0 or bbo.ask_size_lots[row] == 0:
        return False
    window = levels.sizes.shape[1]
    middle = (bbo.bid_price_ticks[row] + bbo.ask_price_ticks[row]) >> 1
    offset = middle - levels.meta[BASE]
    return offset < window >> 2 or offset >= window - (window >> 2)


@kernel
def advance(
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
        if registers[reg.OPEN] != 0 and (
            at_end
            or deltas.sequence_number[row] != registers[reg.OPEN_SEQUENCE]
            or deltas.ts_receipt_ns[row] != registers[reg.OPEN_RECEIPT]
        ):
            if bbo_row == bbo.flags.size or depth_row == depth.flags.size:
                return _OUTPUT_FULL, row, snapshot, bbo_row, depth_row
            flags = _close_message(registers, levels, bbo, bbo_row)
            bbo_row += 1
            interval = options.depth_interval_ns
            ends_interval = interval == 0 or at_end
            if not ends_interval:
                here = registers[reg.OPEN_RECEIPT] // interval
                ends_interval = deltas.ts_receipt_ns[row] // interval != here
            if ends_interval:
                _write_depth(registers, levels, flags, depth, depth_row)
                depth_row += 1
            keyframe_ns = options.keyframe_interval_ns
            if keyframe_ns != 0 and not at_end:
                here = registers[reg.OPEN_RECEIPT] // keyframe_ns
                if deltas.ts_receipt_ns[row] // keyframe_ns != here:
                    return _KEYFRAME_DUE, row, snapshot, bbo_row, depth_row
            if _window_is_off(registers, levels, bbo, bbo_row - 1):
                return _NEEDS_WINDOW, row, snapshot, bbo_row, depth_row
        if registers[reg.OPEN] == 0:
            while snapshot < snapshots.sequence_number.size:
                if (
                    not at_end
                    and snapshots.sequence_number[snapshot] >= deltas.sequence_number[row]
                ):
                    age_ns = deltas.ts_receipt_ns[row] - snapshots.ts_receipt_ns[snapshot]
                    if age_ns <= options.snapshot_patience_ns:
                        break
                    # Its sequence number never came: a restart of the feed, or a stray snapshot.
                    registers[reg.SNAPSHOTS] += 1
                    registers[reg.UNPLACED] += 1
                elif meet_snapshot(registers, levels, snapshots, snapshot, options):
                    return _NEEDS_WINDOW, row, snapshot, bbo_row, depth_row
                snapshot += 1
            if snapshot == snapshots.sequence_number.size and more_snapshots:
                return _NEEDS_SNAPSHOTS, row, snapshot, bbo_row, depth_row
            if at_end:
                return _DONE, row, snapshot, bbo_row, depth_row
            registers[reg.OPEN] = 1
            registers[reg.OPEN_ORIGIN] = deltas.ts_origin_ns[row]
            registers[reg.OPEN_RECEIPT] = deltas.ts_receipt_ns[row]
            registers[reg.OPEN_SEQUENCE] = deltas.sequence_number[row]
            if registers[reg.OPEN_SEQUENCE] < registers[reg.LAST_SEQUENCE]:
                registers[reg.BACKWARDS] += 1
            while (
                registers[reg.GAPS_PASSED] < gap_ends_ns.size
                and gap_ends_ns[registers[reg.GAPS_PASSED]] <= registers[reg.OPEN_RECEIPT]
            ):
                registers[reg.GAPS_PASSED] += 1
                registers[reg.GAP] = 1
        sequence = registers[reg.OPEN_SEQUENCE]
        receipt = registers[reg.OPEN_RECEIPT]
        first = row
        row, unknown, refused = apply_rows(levels, deltas, row, sequence, receipt)
        registers[reg.ROWS] += row - first
        registers[reg.UNKNOWN_REMOVALS] += unknown
        registers[reg.REFUSED_ROWS] += refused
        registers[reg.REFUSED_SINCE] += refused
        in_message = (
            row < rows
            and deltas.sequence_number[row] == sequence
            and deltas.ts_receipt_ns[row] == receipt
        )
        if in_message:
            return _NEEDS_WINDOW, row, snapshot, bbo_row, depth_row
