"""The rebuild kernel: arrays in, arrays out, state in and out, no allocation per message.

`advance` applies delta rows to a book message by message and writes one BBO row per message and one
depth row per message or interval. It never allocates and never loses its place: when it needs
something from outside (more rows, more snapshots, room in the outputs, a moved window, a keyframe
taken) it returns a `Status` with the positions it reached, and goes on from there when called
again. Message boundaries may therefore fall anywhere, also between two batches.

Snapshots are met here, between messages; the messages themselves are applied in `messages`.
"""

from __future__ import annotations

import numpy as np

from market_pipeline.books import state as reg
from market_pipeline.books.exam import meet_snapshot
from market_pipeline.books.jit import kernel
from market_pipeline.books.messages import apply_messages, next_listed_row
from market_pipeline.books.state import Status

__all__ = ["advance"]

_DONE = int(Status.DONE)
_NEEDS_ROWS = int(Status.NEEDS_ROWS)
_NEEDS_SNAPSHOTS = int(Status.NEEDS_SNAPSHOTS)
_OUTPUT_FULL = int(Status.OUTPUT_FULL)
_NEEDS_WINDOW = int(Status.NEEDS_WINDOW)
_SNAPSHOT_DUE = int(Status.SNAPSHOT_DUE)
_NEVER = np.int64(2**63 - 1)


@kernel
def advance(
    registers,
    levels,
    deltas,
    row,
    snapshots,
    snapshot,
    more_snapshots,
    gap_rows,
    mended_rows,
    final,
    options,
    bbo,
    bbo_row,
    depth,
    depth_row,
    repairs,
    repair_row,
):
    """Applies rows from `row` on and returns why it stopped and the positions to go on from.

    Args:
        registers: int64, those of `new_registers`, state and counters, updated.
        levels: The book, updated.
        deltas: `Deltas` of n rows; those before `row` are done.
        snapshots: `Snapshots`; those before `snapshot` are done.
        more_snapshots: Whether the feed has snapshots after these.
        gap_rows: int64, ascending, counted over all rows of the feed: the first rows of messages
            before which others are lost.
        mended_rows: int64, the same where a snapshot placed right before the message leads to it.
        final: Whether no rows come after these, so that the last message is complete.
        options: `Options`.
        bbo, depth, repairs: Output rows, filled from their positions on.

    Returns:
        (`Status`, row, snapshot, bbo_row, depth_row, repair_row).
    """
    rows = deltas.sequence_number.size
    while True:
        next_sequence, next_late_ns = _NEVER, _NEVER
        if registers[reg.OPEN] == 0:
            at_end = row == rows
            if at_end and not final:
                return _NEEDS_ROWS, row, snapshot, bbo_row, depth_row, repair_row
            if next_listed_row(mended_rows, registers[reg.MENDED_PASSED], 0) <= registers[reg.ROWS]:
                # Known before the snapshot is met, so that it mends the book, not examines it.
                registers[reg.MENDED_PASSED] += 1
                registers[reg.GAP] = 1
                registers[reg.GAPS] += 1
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
                else:
                    if repair_row == repairs.kind.size:
                        return _OUTPUT_FULL, row, snapshot, bbo_row, depth_row, repair_row
                    after = meet_snapshot(
                        registers, levels, snapshots, snapshot, options, repairs, repair_row
                    )
                    if after < 0:
                        return _NEEDS_WINDOW, row, snapshot, bbo_row, depth_row, repair_row
                    repair_row = after
                snapshot += 1
            if snapshot == snapshots.sequence_number.size and more_snapshots:
                return _NEEDS_SNAPSHOTS, row, snapshot, bbo_row, depth_row, repair_row
            if at_end:
                return _DONE, row, snapshot, bbo_row, depth_row, repair_row
        if snapshot < snapshots.sequence_number.size:
            next_sequence = snapshots.sequence_number[snapshot]
            next_late_ns = snapshots.ts_receipt_ns[snapshot] + options.snapshot_patience_ns
        elif more_snapshots:
            # The open message is closed, and then they are asked for.
            next_sequence = np.int64(-(2**63))
        status, row, bbo_row, depth_row, repair_row = apply_messages(
            registers,
            levels,
            deltas,
            row,
            next_sequence,
            next_late_ns,
            gap_rows,
            mended_rows,
            final,
            options,
            bbo,
            bbo_row,
            depth,
            depth_row,
            repairs,
            repair_row,
        )
        if status != _SNAPSHOT_DUE:
            return status, row, snapshot, bbo_row, depth_row, repair_row
