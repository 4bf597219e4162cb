"""The loop where a rebuild spends its time: rows applied, the touch found, output written.

Everything is held in local variables, and what is called is handed arrays, never tuples of them:
taking a tuple apart costs more than a search in the book.
"""

from __future__ import annotations

import numpy as np

from market_pipeline.books import cursor as at
from market_pipeline.books import registers as reg
from market_pipeline.books.crossed import count_crossed, stale_side, uncross
from market_pipeline.books.flags import BookFlag
from market_pipeline.books.levels import (
    ASK,
    BID,
    FAR,
    ORIGIN,
    WINDOW,
    WINDOW_PLACED,
    key_of,
    place_window,
)
from market_pipeline.books.log import give_evidence
from market_pipeline.books.registers import MESSAGES_BETWEEN_MOVES
from market_pipeline.books.rows import apply_rows
from market_pipeline.books.state import HISTORY_MESSAGES, Proof, Status
from market_pipeline.books.walk import best_level, first_index, write_top
from market_pipeline.jit import inlined_kernel, kernel

__all__ = ["LASTING_FLAGS", "apply_messages", "lasting_flags", "next_listed_row", "other_changes"]

_NEEDS_ROWS = int(Status.NEEDS_ROWS)
_OUTPUT_FULL = int(Status.OUTPUT_FULL)
_KEYFRAME_DUE = int(Status.KEYFRAME_DUE)
_NEEDS_WINDOW = int(Status.NEEDS_WINDOW)
_SNAPSHOT_DUE = int(Status.SNAPSHOT_DUE)
_MESSAGE = int(Status.MESSAGE)
_F_NOT_SEEDED = int(BookFlag.NOT_SEEDED)
_F_GAP = int(BookFlag.GAP)
_F_CROSSED = int(BookFlag.CROSSED)
_F_LOCKED = int(BookFlag.LOCKED)
_F_PRECISION_LOSS = int(BookFlag.PRECISION_LOSS)
_F_UNCONFIRMED = int(BookFlag.UNCONFIRMED_DEPTH)
_F_EMPTY_SIDE = int(BookFlag.EMPTY_SIDE)
_F_OUTSIDE_DAY = int(BookFlag.OUTSIDE_DAY)
_F_BAD_SEQUENCE = int(BookFlag.BAD_SEQUENCE)
_F_BAD_RECEIPT = int(BookFlag.BAD_TS_RECEIPT)
_F_BAD_ORIGIN = int(BookFlag.BAD_TS_ORIGIN)
LASTING_FLAGS = _F_NOT_SEEDED | _F_GAP | _F_PRECISION_LOSS
"""The flags that no message changes by itself, but snapshots and lost messages do."""

_MATCH = int(Proof.MATCH)
_MESSAGE_MASK = np.int64(HISTORY_MESSAGES - 1)
_ONE = np.uint64(1)
_NEVER = np.int64(2**63 - 1)


@kernel
def _interval(time_ns, width_ns):
    """The first and the first later time of the interval that a time falls in."""
    start = time_ns // width_ns * width_ns
    return start, start + width_ns


@kernel
def next_listed_row(rows, passed, offset):
    """The next of some rows of the feed after those passed, in the count that `offset` leads to."""
    return rows[passed] + offset if passed < rows.size else _NEVER


@kernel
def lasting_flags(registers):
    """Which of `LASTING_FLAGS` hold."""
    flags = 0
    if registers[reg.SEEDED] == 0:
        flags |= _F_NOT_SEEDED
    if registers[reg.GAP] != 0:
        flags |= _F_GAP
    if registers[reg.REFUSED_SINCE] != 0:
        flags |= _F_PRECISION_LOSS
    return flags


@inlined_kernel
def other_changes(registers):
    """A count that grows with whatever changes the book besides messages as they come."""
    return (
        registers[reg.SEEDED]
        + registers[reg.RESYNCS]
        + registers[reg.LEARNED]
        + registers[reg.UNCROSSED]
        + registers[reg.LATE_MESSAGES]
    )


@kernel
def apply_messages(registers, levels, history, feed, cursor, until, options, outputs):
    """Messages from the cursor's row on up to one that a snapshot, or the caller, comes before.

    `until` is the sequence number of the next snapshot, the time until which its place is waited
    for, and the row of a message that is the caller's to look at; the first one here it has looked
    at, unless it is under way.
    """
    next_sequence, next_late_ns, stop_row = until
    deltas, gap_rows, final = feed.deltas, feed.gap_rows, feed.final
    bbo, depth = outputs.bbo, outputs.depth
    repairs, evidence = outputs.repairs, outputs.evidence
    row, bbo_row, depth_row = cursor[at.ROW], cursor[at.BBO_ROW], cursor[at.DEPTH_ROW]
    repair_row, evidence_row = cursor[at.REPAIR_ROW], cursor[at.EVIDENCE_ROW]
    sequences, receipts = deltas.sequence_number, deltas.ts_receipt_ns
    origins = deltas.ts_origin_ns
    is_bid, prices, new_sizes = deltas.is_bid, deltas.price_ticks, deltas.size_lots
    rows = sequences.size
    sizes, words0, words1, words2 = levels.sizes, levels.words0, levels.words1, levels.words2
    far_keys, far_sizes, meta = levels.far_keys, levels.far_sizes, levels.meta
    if meta[WINDOW_PLACED] == 0 and row < rows:
        place_window(meta, prices[row] - (meta[WINDOW] >> 1))
    base, window = meta[ORIGIN + ASK], np.uint64(meta[WINDOW])
    half, middle_base = window >> _ONE, base + (meta[WINDOW] >> 2)
    stride = np.int64(sizes.size >> 1)
    bid_shift, ask_shift = meta[ORIGIN + BID], base - stride

    out_origin, out_receipt, out_sequence = bbo.ts_origin_ns, bbo.ts_receipt_ns, bbo.sequence_number
    out_bid, out_bid_size = bbo.bid_price_ticks, bbo.bid_size_lots
    out_ask, out_ask_size = bbo.ask_price_ticks, bbo.ask_size_lots
    out_flags = bbo.flags
    depth_origin, depth_receipt = depth.ts_origin_ns, depth.ts_receipt_ns
    depth_sequence, depth_flags = depth.sequence_number, depth.flags
    depth_bid, depth_bid_size = depth.bid_price_ticks, depth.bid_size_lots
    depth_ask, depth_ask_size = depth.ask_price_ticks, depth.ask_size_lots
    depth_message = depth.message
    bid_confirmed, ask_confirmed = depth.bid_levels_confirmed, depth.ask_levels_confirmed
    ring_level, ring_before = history.level, history.before
    ring_number, ring_position = history.number, history.position
    position = registers[reg.HISTORY]
    day_start_ns, day_end_ns = options.day_start_ns, options.day_end_ns
    bbo_room, depth_room, repair_room = out_flags.size, depth_flags.size, repairs.kind.size
    evidence_room = evidence.kind.size

    is_open = registers[reg.OPEN] != 0
    origin, receipt = registers[reg.OPEN_ORIGIN], registers[reg.OPEN_RECEIPT]
    sequence = registers[reg.OPEN_SEQUENCE]
    last_receipt, last_sequence = registers[reg.LAST_RECEIPT], registers[reg.LAST_SEQUENCE]
    last_origin = registers[reg.LAST_ORIGIN]
    last_bid, last_ask = registers[reg.LAST_BID], registers[reg.LAST_ASK]
    last_flags = registers[reg.LAST_FLAGS]
    low_horizon, high_horizon = registers[reg.BID_HORIZON], registers[reg.ASK_HORIZON]
    crossed_since, messages = registers[reg.CROSSED_SINCE], registers[reg.MESSAGES]
    min_latency, max_latency = registers[reg.MIN_LATENCY], registers[reg.MAX_LATENCY]
    early = unknown = refused = np.int64(0)
    state_flags = lasting_flags(registers)
    seeded = registers[reg.SEEDED] != 0
    once_flags = registers[reg.ONCE_FLAGS]
    waits = registers[reg.PENDING] != 0
    is_looked_at = not is_open
    first_row, first_message = row, messages
    feed_offset = row - registers[reg.ROWS]
    gap_row = next_listed_row(gap_rows, registers[reg.GAPS_PASSED], feed_offset)
    passed = registers[reg.RECOVERED_PASSED]
    first_stop_row = min(stop_row, next_listed_row(feed.recovered_rows, passed, feed_offset))

    here_ns = receipt if is_open else receipts[row]
    if messages == 0:
        registers[reg.DEPTH_TIME] = registers[reg.KEYFRAME_TIME] = here_ns
    depth_here_ns = registers[reg.DEPTH_TIME]
    keyframe_here_ns = registers[reg.KEYFRAME_TIME]
    depth_ns, keyframe_ns = options.depth_interval_ns, options.keyframe_interval_ns
    depth_from = depth_until = np.int64(0)
    if depth_ns > 0:
        depth_from, depth_until = _interval(depth_here_ns, depth_ns)
    # One keyframe for each interval of the day at most, whatever the times of the messages are.
    keyframe_due_ns = day_end_ns
    if keyframe_ns > 0:
        _, keyframe_due_ns = _interval(keyframe_here_ns, keyframe_ns)
        keyframe_due_ns = max(keyframe_due_ns, day_start_ns)

    status = _SNAPSHOT_DUE
    while True:
        if not is_open:
            if row == rows:
                # The caller knows whether that is the end.
                break
            sequence, receipt, origin = sequences[row], receipts[row], origins[row]
            if not is_looked_at and (
                sequence > next_sequence or receipt > next_late_ns or row >= first_stop_row or waits
            ):
                break
            if (
                bbo_row == bbo_room
                or (depth_ns >= 0 and depth_row == depth_room)
                or repair_row == repair_room
                or evidence_row == evidence_room
            ):
                status = _OUTPUT_FULL
                break
            is_open, is_looked_at = True, False
            if once_flags & _F_BAD_SEQUENCE == 0:
                registers[reg.BACKWARDS] += sequence < last_sequence
            ring_position[messages & _MESSAGE_MASK] = position
            while row >= gap_row:
                if options.ids_prove and registers[reg.GAP] == 0 and seeded:
                    give_evidence(
                        registers, evidence, cursor, _MATCH, messages, last_receipt, last_sequence,
                        np.int64(0), np.int64(0),
                    )  # fmt: skip
                    evidence_row = cursor[at.EVIDENCE_ROW]
                registers[reg.GAP] = 1
                registers[reg.GAPS] += 1
                registers[reg.GAPS_PASSED] += 1
                state_flags |= _F_GAP
                gap_row = next_listed_row(gap_rows, registers[reg.GAPS_PASSED], feed_offset)

        row, position, unknown_here, refused_here, is_full = apply_rows(
            sizes, words0, words1, words2, far_keys, far_sizes, meta,
            ring_level, ring_before, position,
            sequences, receipts, origins, is_bid, prices, new_sizes, row, sequence, receipt,
        )  # fmt: skip
        unknown += unknown_here
        if refused_here:
            refused += refused_here
            state_flags |= _F_PRECISION_LOSS
        if is_full:
            status = _NEEDS_WINDOW
            break
        if row == rows and not final:
            status = _NEEDS_ROWS
            break

        is_open = False
        bid = first_index(sizes, words0, words1, words2, np.int64(0), stride)
        ask = first_index(sizes, words0, words1, words2, stride, stride + stride)
        bid_price, bid_size = -(bid + bid_shift), sizes[bid]
        ask_price, ask_size = ask + ask_shift, sizes[ask]
        # A far level may be the best one before the window, or where the window is empty.
        if bid < 0 or (meta[FAR + BID] != 0 and far_keys[0] < bid_shift):
            bid_key, bid_size = best_level(levels, BID)
            bid_price = -bid_key
        if ask < 0 or (meta[FAR + ASK] != 0 and far_keys[far_keys.size >> 1] < base):
            ask_price, ask_size = best_level(levels, ASK)

        now_ns = receipt
        flags = state_flags | once_flags
        if once_flags & _F_BAD_RECEIPT:
            if messages > 0:
                now_ns = last_receipt
            elif row < rows:
                now_ns = receipts[row]
        elif receipt < day_start_ns or receipt >= day_end_ns:
            flags |= _F_OUTSIDE_DAY
            registers[reg.OUTSIDE_DAY] += 1
        if bid_size == 0 or ask_size == 0:
            flags |= _F_EMPTY_SIDE
        elif bid_price >= ask_price:
            if bid_price > ask_price and options.uncross and seeded:
                registers[reg.MESSAGES], registers[reg.HISTORY] = messages, position
                stale = stale_side(bid_price > last_bid, ask_price < last_ask)
                if stale >= 0:
                    other = ask_price if stale == BID else bid_price
                    removed = uncross(
                        registers, levels, stale, other, receipt, sequence, repairs, cursor
                    )
                    position = registers[reg.HISTORY]
                    repair_row = cursor[at.REPAIR_ROW]
                    registers[reg.UNCROSSED] += removed
                    bid = first_index(sizes, words0, words1, words2, np.int64(0), stride)
                    ask = first_index(sizes, words0, words1, words2, stride, stride + stride)
                    bid_key, bid_size = best_level(levels, BID)
                    ask_price, ask_size = best_level(levels, ASK)
                    bid_price = -bid_key
            if bid_size == 0 or ask_size == 0:
                flags |= _F_EMPTY_SIDE
            elif bid_price > ask_price:
                flags |= _F_CROSSED
            elif bid_price == ask_price:
                flags |= _F_LOCKED
        if seeded and (
            (bid_size > 0 and bid_price < low_horizon)
            or (ask_size > 0 and ask_price > high_horizon)
        ):
            flags |= _F_UNCONFIRMED

        out_origin[bbo_row] = origin
        out_receipt[bbo_row] = receipt
        out_sequence[bbo_row] = sequence
        out_bid[bbo_row] = bid_price
        out_bid_size[bbo_row] = bid_size
        out_ask[bbo_row] = ask_price
        out_ask_size[bbo_row] = ask_size
        out_flags[bbo_row] = flags
        bbo_row += 1
        if once_flags == 0:
            latency = receipt - origin
            early += latency < 0
            min_latency = min(min_latency, latency)
            max_latency = max(max_latency, latency)
        if (flags | last_flags) & (_F_CROSSED | _F_LOCKED):
            crossed_since = count_crossed(
                registers, flags, last_flags, now_ns, last_receipt, crossed_since
            )
        if once_flags & _F_BAD_SEQUENCE == 0:
            last_sequence = sequence
        if once_flags & _F_BAD_ORIGIN == 0:
            last_origin = origin
        ring_number[messages & _MESSAGE_MASK] = last_sequence
        messages += 1
        last_receipt, last_flags, once_flags = now_ns, flags, np.int64(0)
        last_bid = bid_price if bid_size > 0 else -_NEVER
        last_ask = ask_price if ask_size > 0 else _NEVER

        at_end = row == rows
        # What is to be looked at may have no time to be believed.
        next_ns = now_ns if at_end or row >= stop_row else receipts[row]
        if depth_ns >= 0 and (at_end or not depth_from <= next_ns < depth_until):
            depth_origin[depth_row] = origin
            depth_receipt[depth_row] = receipt
            depth_sequence[depth_row] = sequence
            depth_flags[depth_row] = flags
            depth_message[depth_row] = messages - 1
            write_top(
                sizes, words0, words1, words2, far_keys, far_sizes, meta,
                BID, bid, depth_bid, depth_bid_size, depth_row,
            )  # fmt: skip
            write_top(
                sizes, words0, words1, words2, far_keys, far_sizes, meta,
                ASK, ask, depth_ask, depth_ask_size, depth_row,
            )  # fmt: skip
            bid_confirmed[depth_row] = _confirmed(
                BID, depth_bid, depth_bid_size, depth_row, low_horizon, seeded
            )
            ask_confirmed[depth_row] = _confirmed(
                ASK, depth_ask, depth_ask_size, depth_row, high_horizon, seeded
            )
            depth_row += 1
            if depth_ns > 0:
                registers[reg.DEPTH_TIME] = next_ns
                depth_from, depth_until = _interval(next_ns, depth_ns)
        if keyframe_due_ns <= next_ns < day_end_ns:
            registers[reg.KEYFRAME_TIME] = next_ns
            status = _KEYFRAME_DUE
            break
        if options.is_logged and (
            messages >= cursor[at.UNTIL] or other_changes(registers) != cursor[at.SETTLED]
        ):
            status = _MESSAGE
            break
        middle = np.uint64(((bid_price + ask_price) >> 1) - middle_base)
        if (
            middle >= half
            and bid_size > 0
            and ask_size > 0
            and messages - registers[reg.LAST_MOVE] >= MESSAGES_BETWEEN_MOVES
        ):
            status = _NEEDS_WINDOW
            break

    registers[reg.OPEN] = is_open
    registers[reg.OPEN_ORIGIN], registers[reg.OPEN_RECEIPT] = origin, receipt
    registers[reg.OPEN_SEQUENCE] = sequence
    registers[reg.HISTORY], registers[reg.ONCE_FLAGS] = position, once_flags
    registers[reg.LAST_RECEIPT], registers[reg.LAST_SEQUENCE] = last_receipt, last_sequence
    registers[reg.LAST_ORIGIN] = last_origin
    registers[reg.LAST_BID], registers[reg.LAST_ASK] = last_bid, last_ask
    registers[reg.LAST_FLAGS] = last_flags
    registers[reg.CROSSED_SINCE], registers[reg.MESSAGES] = crossed_since, messages
    registers[reg.MIN_LATENCY], registers[reg.MAX_LATENCY] = min_latency, max_latency
    if messages > first_message:
        registers[reg.BOOK_SEQUENCE] = last_sequence
    registers[reg.NEGATIVE_LATENCY] += early
    registers[reg.ROWS] += row - first_row
    registers[reg.UNKNOWN_REMOVALS] += unknown
    registers[reg.REFUSED_ROWS] += refused
    registers[reg.REFUSED_SINCE] += refused
    cursor[at.ROW], cursor[at.BBO_ROW], cursor[at.DEPTH_ROW] = row, bbo_row, depth_row
    return status


# Left to itself the compiler inlined it or not, which was 3 % of the kernel with depth.
@inlined_kernel
def _confirmed(side, prices, sizes, row, horizon, seeded):
    """How many of the levels written to a row lie within the horizon."""
    if not seeded:
        return 0
    limit = key_of(side, horizon)
    count = prices.shape[1]
    while count > 0 and (
        sizes[row, count - 1] == 0 or key_of(side, prices[row, count - 1]) > limit
    ):
        count -= 1
    return count
