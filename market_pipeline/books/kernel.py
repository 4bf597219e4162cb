"""The rebuild kernel: arrays in, arrays out, state in and out, no allocation per message.

`advance` applies delta rows to a book message by message and writes one BBO row per message and one
depth row per message or interval. It never allocates and never loses its place: when it needs
something from outside (more rows, more snapshots, room in the outputs, a moved window, a keyframe
taken) it returns a `Status`, and resumes from where its cursor stands when called again. Message
boundaries may therefore fall anywhere, also between two batches.

Snapshots are met here, between messages, and so are the messages that something is to be done about
(`books.soundness`); the others are applied in `messages`.
"""

from __future__ import annotations

import numpy as np

from market_pipeline.books import cursor as at
from market_pipeline.books import registers as reg
from market_pipeline.books.fetch import fetch_ahead
from market_pipeline.books.log import give_evidence
from market_pipeline.books.messages import apply_messages, next_listed_row
from market_pipeline.books.misplaced import settle_pending
from market_pipeline.books.old_messages import meet_old_message, note_old_message
from market_pipeline.books.snapshot_match import EVIDENCE_ROOM, leave_out, meet_snapshot
from market_pipeline.books.soundness import Mark
from market_pipeline.books.state import Proof, Status
from market_pipeline.jit import kernel

__all__ = ["advance"]

_DONE = int(Status.DONE)
_NEEDS_ROWS = int(Status.NEEDS_ROWS)
_NEEDS_SNAPSHOTS = int(Status.NEEDS_SNAPSHOTS)
_OUTPUT_FULL = int(Status.OUTPUT_FULL)
_NEEDS_WINDOW = int(Status.NEEDS_WINDOW)
_SNAPSHOT_DUE = int(Status.SNAPSHOT_DUE)
_OLD = int(Mark.OLD)
_RESTART = int(Mark.RESTART)
_OUT_OF_ORDER = int(Mark.OUT_OF_ORDER)
_BAD_SEQUENCE = int(Mark.BAD_SEQUENCE)
_BAD_RECEIPT = int(Mark.BAD_TS_RECEIPT)
_BAD_ORIGIN = int(Mark.BAD_TS_ORIGIN)
_MATCH = int(Proof.MATCH)
_FLAGS = np.int64(_OUT_OF_ORDER | _BAD_SEQUENCE | _BAD_RECEIPT | _BAD_ORIGIN)
_NEVER = np.int64(2**63 - 1)
# So many numbers come to the processor at once.
_LINE = 8
_BEFORE_ALL = np.int64(-(2**63))


@kernel
def advance(registers, levels, history, feed, cursor, options, outputs):
    """Applies rows from the cursor's on, moves the cursor, and returns the `Status` of the stop.

    Args:
        registers: int64, those of `new_registers`, state and counters, updated.
        levels: The book, updated.
        history: What happened last, updated.
        feed: `Feed`; the rows, marks and snapshots before the cursor's are done.
        cursor: int64, that of `new_cursor`, updated.
        options: `Options`.
        outputs: `Outputs`, filled from the cursor's rows on.
    """
    deltas, marks, snapshots = feed.deltas, feed.marks, feed.snapshots
    rows = deltas.sequence_number.size
    status = _SNAPSHOT_DUE
    while status == _SNAPSHOT_DUE:
        if registers[reg.SKIPPING] != 0:
            if not meet_old_message(registers, levels, history, deltas, cursor):
                return _NEEDS_WINDOW
            if cursor[at.ROW] == rows and not feed.final:
                return _NEEDS_ROWS
            registers[reg.SKIPPING] = 0
        if registers[reg.OPEN] == 0:
            row = cursor[at.ROW]
            at_end = row == rows
            if at_end and not feed.final:
                return _NEEDS_ROWS
            if _is_full_for_snapshot(outputs, cursor):
                return _OUTPUT_FULL
            # At the end the book stays as its last row has it.
            waits = registers[reg.PENDING] != 0 and not at_end
            if waits and not settle_pending(registers, levels, history, options, outputs, cursor):
                return _NEEDS_WINDOW
            if (
                next_listed_row(feed.recovered_rows, registers[reg.RECOVERED_PASSED], 0)
                <= registers[reg.ROWS]
            ):
                # Known before the snapshot is met, which so repairs the book and is no comparison.
                registers[reg.RECOVERED_PASSED] += 1
                if options.ids_prove and registers[reg.GAP] == 0 and registers[reg.SEEDED] != 0:
                    give_evidence(
                        registers, outputs.evidence, cursor, _MATCH, registers[reg.MESSAGES],
                        registers[reg.LAST_RECEIPT], registers[reg.LAST_SEQUENCE], np.int64(0),
                        np.int64(0),
                    )  # fmt: skip
                registers[reg.GAP] = 1
                registers[reg.GAPS] += 1
            bits, mark = np.int64(0), cursor[at.MARK]
            if mark < marks.row.size and marks.row[mark] <= registers[reg.ROWS] and not at_end:
                bits = marks.bits[mark]
            epoch, number, now_ns = _place_of_next(registers, deltas, row, bits, at_end)
            while cursor[at.SNAPSHOT] < snapshots.sequence_number.size:
                if _is_full_for_snapshot(outputs, cursor):
                    return _OUTPUT_FULL
                snapshot = cursor[at.SNAPSHOT]
                their_epoch = snapshots.epoch[snapshot]
                received_ns = snapshots.ts_receipt_ns[snapshot]
                is_ahead = their_epoch > epoch or (
                    their_epoch == epoch and snapshots.sequence_number[snapshot] >= number
                )
                if not snapshots.placeable[snapshot] or their_epoch < registers[reg.EPOCH]:
                    registers[reg.SNAPSHOTS] += 1
                    registers[reg.UNPLACED] += 1
                    leave_out(registers, received_ns, reg.BAD_NUMBER)
                elif is_ahead and not at_end:
                    if now_ns - received_ns <= options.snapshot_patience_ns:
                        break
                    # Its sequence number never came: a restart of the feed, or a stray snapshot.
                    registers[reg.SNAPSHOTS] += 1
                    registers[reg.UNPLACED] += 1
                    leave_out(registers, received_ns, reg.NEVER_REACHED)
                elif not meet_snapshot(
                    registers, levels, history, snapshots, at_end, options, outputs, cursor
                ):
                    return _NEEDS_WINDOW
                cursor[at.SNAPSHOT] += 1
                _fetch_levels(snapshots, snapshot + 1)
            if cursor[at.SNAPSHOT] == snapshots.sequence_number.size and feed.more_snapshots:
                return _NEEDS_SNAPSHOTS
            if at_end:
                return _DONE
            if bits != 0:
                # With room for its row: once its mark is passed, it is not looked at again.
                is_full = cursor[at.BBO_ROW] == outputs.bbo.flags.size or (
                    options.depth_interval_ns >= 0
                    and cursor[at.DEPTH_ROW] == outputs.depth.flags.size
                )
                if is_full or _is_full_for_snapshot(outputs, cursor):
                    return _OUTPUT_FULL
                cursor[at.MARK] += 1
                _meet_mark(registers, history, deltas, bits, outputs.evidence, cursor)
                if registers[reg.SKIPPING] != 0:
                    continue
        until = _next_stop(registers, feed, cursor, options)
        status = apply_messages(registers, levels, history, feed, cursor, until, options, outputs)
    return status


@kernel
def _fetch_levels(snapshots, snapshot):
    """Begins to fetch the levels of the snapshot to be met next: a hundred rows come before it."""
    depth = snapshots.bid_price_ticks.shape[1]
    for level in range(snapshot * depth, (snapshot + 1) * depth + _LINE, _LINE):
        fetch_ahead(snapshots.bid_price_ticks, level)
        fetch_ahead(snapshots.bid_size_lots, level)
        fetch_ahead(snapshots.ask_price_ticks, level)
        fetch_ahead(snapshots.ask_size_lots, level)


@kernel
def _next_stop(registers, feed, cursor, options):
    """Before which message a snapshot or a mark comes next: `until` of `apply_messages`."""
    next_sequence, next_late_ns, stop_row = _NEVER, _NEVER, _NEVER
    snapshots, snapshot = feed.snapshots, cursor[at.SNAPSHOT]
    if snapshot < snapshots.sequence_number.size:
        if snapshots.epoch[snapshot] == registers[reg.EPOCH]:
            next_sequence = snapshots.sequence_number[snapshot]
        next_late_ns = snapshots.ts_receipt_ns[snapshot] + options.snapshot_patience_ns
        if not snapshots.placeable[snapshot]:
            next_sequence = _BEFORE_ALL
    elif feed.more_snapshots:
        # The open message is closed, and then they are asked for.
        next_sequence = _BEFORE_ALL
    if cursor[at.MARK] < feed.marks.row.size:
        stop_row = feed.marks.row[cursor[at.MARK]] - registers[reg.ROWS] + cursor[at.ROW]
    return next_sequence, next_late_ns, stop_row


@kernel
def _is_full_for_snapshot(outputs, cursor):
    """Whether a snapshot may write more repairs or evidence than there is room for."""
    return (
        cursor[at.REPAIR_ROW] + 2 > outputs.repairs.kind.size
        or cursor[at.EVIDENCE_ROW] + EVIDENCE_ROOM > outputs.evidence.kind.size
    )


@kernel
def _place_of_next(registers, deltas, row, bits, at_end):
    """Epoch, number and time of the next message, as far as they are to be believed.

    A snapshot comes before it if its number is lower.
    """
    epoch, last = registers[reg.EPOCH], registers[reg.LAST_SEQUENCE]
    if at_end:
        return epoch, _NEVER, registers[reg.LAST_RECEIPT]
    number, now_ns = deltas.sequence_number[row], deltas.ts_receipt_ns[row]
    if bits & _RESTART:
        epoch += 1
    elif bits & (_OLD | _BAD_SEQUENCE):
        number = last + 1 if _BEFORE_ALL < last < _NEVER else last
    if bits & (_OLD | _BAD_RECEIPT):
        now_ns = registers[reg.LAST_RECEIPT]
    return epoch, number, now_ns


@kernel
def _meet_mark(registers, history, deltas, bits, evidence, cursor):
    """Does what is to be done about the next message."""
    receipt = deltas.ts_receipt_ns[cursor[at.ROW]]
    if bits & _OLD:
        note_old_message(registers, history, deltas, bits, evidence, cursor)
        return
    if bits & _RESTART:
        if registers[reg.RESTARTS] == 0:
            registers[reg.FIRST_RESTART] = receipt
        registers[reg.RESTARTS] += 1
        registers[reg.EPOCH] += 1
        registers[reg.LAST_SEQUENCE] = registers[reg.BOOK_SEQUENCE] = _BEFORE_ALL
        registers[reg.REPLACED_SEQUENCE] = _BEFORE_ALL
        registers[reg.FIRST_MESSAGE] = registers[reg.MESSAGES]
        registers[reg.GAP] = 1
    if bits & _OUT_OF_ORDER:
        if registers[reg.SPLIT_MESSAGES] == 0:
            registers[reg.FIRST_SPLIT] = receipt
        registers[reg.SPLIT_MESSAGES] += 1
    if bits & _BAD_SEQUENCE:
        if registers[reg.BAD_SEQUENCES] == 0:
            registers[reg.FIRST_BAD_SEQUENCE] = receipt
        registers[reg.BAD_SEQUENCES] += 1
    registers[reg.BAD_RECEIPT_STAMPS] += bits & _BAD_RECEIPT != 0
    registers[reg.BAD_ORIGIN_STAMPS] += bits & _BAD_ORIGIN != 0
    if (
        bits & (_BAD_RECEIPT | _BAD_ORIGIN)
        and registers[reg.LEADING_BAD] == registers[reg.MESSAGES]
    ):
        registers[reg.LEADING_BAD] += 1
    registers[reg.ONCE_FLAGS] = bits & _FLAGS
