"""The rebuild kernel: arrays in, arrays out, state in and out, no allocation per message.

`advance` applies delta rows to a book message by message and writes one BBO row per message and one
depth row per message or interval. It never allocates and never loses its place: when it needs
something from outside (more rows, more snapshots, room in the outputs, a moved window, a keyframe
taken) it returns a `Status` with the positions it reached, and resumes from there when called
again. Message boundaries may therefore fall anywhere, also between two batches.

Snapshots are met here, between messages, and so are the messages that something is to be done about
(`books.soundness`); the others are applied in `messages`.
"""

from __future__ import annotations

import numpy as np

from market_pipeline.books import registers as reg
from market_pipeline.books.messages import apply_messages, next_listed_row
from market_pipeline.books.old_messages import meet_old_message, note_old_message
from market_pipeline.books.snapshot_match import (
    EVIDENCE_ROOM,
    give_evidence,
    leave_out,
    meet_snapshot,
    settle_pending,
)
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
_BEFORE_ALL = np.int64(-(2**63))


@kernel
def advance(
    registers,
    levels,
    history,
    deltas,
    row,
    marks,
    mark,
    snapshots,
    snapshot,
    more_snapshots,
    gap_rows,
    recovered_rows,
    final,
    options,
    bbo,
    bbo_row,
    depth,
    depth_row,
    repairs,
    repair_row,
    evidence,
    proof,
):
    """Applies rows from `row` on and returns why it stopped and the positions to resume from.

    Args:
        registers: int64, those of `new_registers`, state and counters, updated.
        levels: The book, updated.
        history: What happened last, updated.
        deltas: `Deltas` of n rows; those before `row` are done.
        marks: `Marks` of these rows; those before `mark` are done.
        snapshots: `Snapshots`; those before `snapshot` are done.
        more_snapshots: Whether the feed has snapshots after these.
        gap_rows: int64, ascending, counted over all rows of the feed: the first rows of messages
            before which others are lost.
        recovered_rows: int64, the same where a snapshot right before the message leads to it.
        final: Whether no rows come after these, so that the last message is complete.
        options: `Options`.
        bbo, depth, repairs, evidence: Output rows, filled from their positions on.

    Returns:
        (`Status`, row, mark, snapshot, bbo_row, depth_row, repair_row, proof).
    """
    rows = deltas.sequence_number.size
    status = _SNAPSHOT_DUE
    while status == _SNAPSHOT_DUE:
        if registers[reg.SKIPPING] != 0:
            row = meet_old_message(registers, levels, history, deltas, row)
            if row < 0:
                return (
                    _NEEDS_WINDOW,
                    -1 - row,
                    mark,
                    snapshot,
                    bbo_row,
                    depth_row,
                    repair_row,
                    proof,
                )
            if row == rows and not final:
                return _NEEDS_ROWS, row, mark, snapshot, bbo_row, depth_row, repair_row, proof
            registers[reg.SKIPPING] = 0
        next_sequence, next_late_ns = _NEVER, _NEVER
        if registers[reg.OPEN] == 0:
            at_end = row == rows
            if at_end and not final:
                return _NEEDS_ROWS, row, mark, snapshot, bbo_row, depth_row, repair_row, proof
            if repair_row + 2 > repairs.kind.size or proof + EVIDENCE_ROOM > evidence.kind.size:
                return _OUTPUT_FULL, row, mark, snapshot, bbo_row, depth_row, repair_row, proof
            # At the end the book stays as its last row has it.
            if registers[reg.PENDING] != 0 and not at_end:
                after, proof = settle_pending(
                    registers, levels, history, options, repairs, repair_row, evidence, proof
                )
                if after < 0:
                    return _NEEDS_WINDOW, row, mark, snapshot, bbo_row, depth_row, repair_row, proof
                repair_row = after
            if (
                next_listed_row(recovered_rows, registers[reg.RECOVERED_PASSED], 0)
                <= registers[reg.ROWS]
            ):
                # Known before the snapshot is met, which so repairs the book and is no comparison.
                registers[reg.RECOVERED_PASSED] += 1
                if options.ids_prove and registers[reg.GAP] == 0 and registers[reg.SEEDED] != 0:
                    proof = give_evidence(
                        registers, evidence, proof, _MATCH, registers[reg.MESSAGES],
                        registers[reg.LAST_RECEIPT], registers[reg.LAST_SEQUENCE], np.int64(0),
                        np.int64(0),
                    )  # fmt: skip
                registers[reg.GAP] = 1
                registers[reg.GAPS] += 1
            bits = np.int64(0)
            if mark < marks.row.size and marks.row[mark] <= registers[reg.ROWS] and not at_end:
                bits = marks.bits[mark]
            epoch, number, now_ns = _place_of_next(registers, deltas, row, bits, at_end)
            while snapshot < snapshots.sequence_number.size:
                if repair_row + 2 > repairs.kind.size or proof + EVIDENCE_ROOM > evidence.kind.size:
                    return _OUTPUT_FULL, row, mark, snapshot, bbo_row, depth_row, repair_row, proof
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
                else:
                    after, proof = meet_snapshot(
                        registers, levels, history, snapshots, snapshot, at_end, options, repairs,
                        repair_row, evidence, proof,
                    )  # fmt: skip
                    if after < 0:
                        return (
                            _NEEDS_WINDOW, row, mark, snapshot, bbo_row, depth_row, repair_row,
                            proof,
                        )  # fmt: skip
                    repair_row = after
                snapshot += 1
            if snapshot == snapshots.sequence_number.size and more_snapshots:
                return _NEEDS_SNAPSHOTS, row, mark, snapshot, bbo_row, depth_row, repair_row, proof
            if at_end:
                return _DONE, row, mark, snapshot, bbo_row, depth_row, repair_row, proof
            if bits != 0:
                # With room for its row: once its mark is passed, it is not looked at again.
                is_full = bbo_row == bbo.flags.size or (
                    options.depth_interval_ns >= 0 and depth_row == depth.flags.size
                )
                if is_full or proof + EVIDENCE_ROOM > evidence.kind.size:
                    return _OUTPUT_FULL, row, mark, snapshot, bbo_row, depth_row, repair_row, proof
                mark += 1
                proof = _meet_mark(registers, history, deltas, row, bits, evidence, proof)
                if registers[reg.SKIPPING] != 0:
                    continue
        if snapshot < snapshots.sequence_number.size:
            if snapshots.epoch[snapshot] == registers[reg.EPOCH]:
                next_sequence = snapshots.sequence_number[snapshot]
            next_late_ns = snapshots.ts_receipt_ns[snapshot] + options.snapshot_patience_ns
            if not snapshots.placeable[snapshot]:
                next_sequence = _BEFORE_ALL
        elif more_snapshots:
            # The open message is closed, and then they are asked for.
            next_sequence = _BEFORE_ALL
        stop_row = _NEVER
        if mark < marks.row.size:
            stop_row = marks.row[mark] - registers[reg.ROWS] + row
        status, row, bbo_row, depth_row, repair_row, proof = apply_messages(
            registers,
            levels,
            history,
            deltas,
            row,
            stop_row,
            next_sequence,
            next_late_ns,
            gap_rows,
            recovered_rows,
            final,
            options,
            bbo,
            bbo_row,
            depth,
            depth_row,
            repairs,
            repair_row,
            evidence,
            proof,
        )
    return status, row, mark, snapshot, bbo_row, depth_row, repair_row, proof


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
def _meet_mark(registers, history, deltas, row, bits, evidence, proof):
    """Does what is to be done about the next message; returns the next row of `evidence`."""
    receipt = deltas.ts_receipt_ns[row]
    if bits & _OLD:
        return note_old_message(registers, history, deltas, row, bits, evidence, proof)
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
    return proof
