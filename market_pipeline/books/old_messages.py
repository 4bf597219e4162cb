"""Messages that come again, or after those that follow them.

Where the source's numbers are an order, an exchange tells its clients to drop a message whose
number is not above the last one. A message that was applied already is dropped. One that was not,
because it comes late, is applied to those levels that no later message has set since, so that the
book is what it would be in the right order; the rows between lacked it and say so. Where that is
too long ago to be known, it is dropped and the book is in doubt.
"""

from __future__ import annotations

import numpy as np

from market_pipeline.books import cursor as at
from market_pipeline.books import registers as reg
from market_pipeline.books.history import BEFORE_ALL, REPEATED, place_of, rows_since, was_touched
from market_pipeline.books.levels import ASK, BID, far_is_full, key_of, set_level
from market_pipeline.books.log import give_evidence
from market_pipeline.books.scale import NOT_REPRESENTABLE
from market_pipeline.books.soundness import Mark
from market_pipeline.books.state import HISTORY_ROWS, LATE_ROW, Proof
from market_pipeline.jit import kernel

__all__ = ["meet_old_message", "note_old_message"]

_LATE = int(Proof.LATE)
_DROP, _APPLY = 1, 2
_SUSPECTED_LOSS = int(Mark.SUSPECTED_LOSS)
_ROW_MASK = HISTORY_ROWS - 1


@kernel
def note_old_message(registers, history, deltas, bits, evidence, cursor):
    """Decides what becomes of the old message that the cursor stands before."""
    row = cursor[at.ROW]
    receipt, sequence = deltas.ts_receipt_ns[row], deltas.sequence_number[row]
    if registers[reg.FIRST_OLD] == 0:
        registers[reg.FIRST_OLD] = receipt
        registers[reg.FIRST_OLD_SEQUENCE] = sequence
    registers[reg.SKIP_RECEIPT], registers[reg.SKIP_SEQUENCE] = receipt, sequence
    registers[reg.SKIPPING] = _DROP
    # What a snapshot knew of that replaced the book since is in the book.
    is_newer = sequence > registers[reg.REPLACED_SEQUENCE]
    place = place_of(registers, history, sequence)
    if place == REPEATED:
        registers[reg.REPEATED_MESSAGES] += 1
    elif place >= 0 and is_newer:
        registers[reg.LATE_MESSAGES] += 1
        registers[reg.SKIPPING] = _APPLY
        registers[reg.LATE_FROM] = rows_since(registers, history, place)
        registers[reg.LATE_UNTIL] = registers[reg.HISTORY]
        if place < registers[reg.MESSAGES]:
            give_evidence(
                registers, evidence, cursor, _LATE, place, receipt, sequence,
                registers[reg.MESSAGES], np.int64(0),
            )  # fmt: skip
    else:
        registers[reg.STALE_MESSAGES] += 1
        # One of many is of a file that overlaps; one alone may have been the only one.
        if is_newer and (place != BEFORE_ALL or bits & _SUSPECTED_LOSS):
            registers[reg.GAP] = 1


@kernel
def meet_old_message(registers, levels, history, deltas, cursor):
    """Passes over the rows of an old message, or applies those that nothing has overtaken.

    Returns:
        False where the next row finds no room in the far arrays.
    """
    row, rows, has_room = cursor[at.ROW], deltas.sequence_number.size, True
    sequence, receipt = registers[reg.SKIP_SEQUENCE], registers[reg.SKIP_RECEIPT]
    applies = registers[reg.SKIPPING] == _APPLY
    if applies:
        registers[reg.MATCHED_MESSAGE] = -1
    while (
        row < rows
        and deltas.sequence_number[row] == sequence
        and deltas.ts_receipt_ns[row] == receipt
    ):
        size = deltas.size_lots[row]
        if applies and size == NOT_REPRESENTABLE:
            registers[reg.REFUSED_ROWS] += 1
            registers[reg.REFUSED_SINCE] += 1
        elif applies and registers[reg.HISTORY] - registers[reg.LATE_FROM] >= HISTORY_ROWS:
            # More rows than what they are compared with is remembered.
            registers[reg.GAP] = 1
            registers[reg.SKIPPING] = _DROP
            applies = False
        elif applies:
            if far_is_full(levels.far_keys, levels.far_sizes, levels.meta, 1):
                has_room = False
                break
            code = deltas.price_ticks[row] * 2 + deltas.is_bid[row]
            start, until = registers[reg.LATE_FROM], registers[reg.LATE_UNTIL]
            if not was_touched(history, code, start, until, sequence):
                side = BID if deltas.is_bid[row] else ASK
                key = key_of(side, deltas.price_ticks[row])
                ring_at = registers[reg.HISTORY] & _ROW_MASK
                history.level[ring_at] = code | LATE_ROW
                history.before[ring_at] = set_level(levels, side, key, size)
                history.late_number[ring_at] = sequence
                registers[reg.HISTORY] += 1
        row += 1
    registers[reg.ROWS] += row - cursor[at.ROW]
    cursor[at.ROW] = row
    return has_room
