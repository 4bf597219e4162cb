"""The kernels that walk over rows and count the messages that stand wrong; see `measures.ordering`.

numba infers their types; they are called by `MessageOrder` only.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from market_pipeline.jit import inlined_kernel, kernel
from market_pipeline.quality.intervals import NS_PER_HOUR

__all__ = [
    "HOURS",
    "MAX_PLACES_PER_KIND",
    "MESSAGES",
    "SEQUENCE_CHANGES",
    "SLOTS",
    "STATE_SIZE",
    "WINDOW_MESSAGES",
    "WINDOW_ROWS",
    "Disorder",
    "end_message",
    "walk",
]

MAX_PLACES_PER_KIND = 10
"""So many places of each kind of fault are kept; all are counted."""
WINDOW_MESSAGES = 1 << 16
"""A message is compared with at least so many before it."""
WINDOW_ROWS = 1 << 12
"""A message of more rows is not looked through for rows that come twice."""

# Two tables take turns: a full one is kept until the other is full too.
SLOTS = WINDOW_MESSAGES * 2
HOURS = 24

# Odd numbers without a pattern (the constants of splitmix64).
_MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)
_SECOND_KIND = np.uint64(0x9E3779B97F4A7C15)
_ONE = np.uint64(1)
_ZERO = np.uint64(0)
_HALF = np.uint64(32)
_SHIFT_1 = np.uint64(30)
_SHIFT_2 = np.uint64(27)
_SHIFT_3 = np.uint64(31)
_LAST_SLOT = np.uint64(SLOTS - 1)


class Disorder(IntEnum):
    """How a message can stand wrong."""

    UNORDERED = 0
    UNORDERED_ORIGIN = 1
    BACKWARD = 2
    DOUBLE = 3


# State of the kernel: what must be known of the message under way and of the one before.
_COUNTED = len(Disorder)
(
    MESSAGES,
    _ORIGIN,
    _RECEIPT,
    _SEQUENCE,
    SEQUENCE_CHANGES,
    _ROWS,
    _PERIOD,
    _FIRST_FILE,
    _FIRST_ROW,
    _REPEAT_FILE,
    _REPEAT_ROW,
    _IS_DISORDERED,
    _TABLE,
    _STORED,
    STATE_SIZE,
) = range(_COUNTED, _COUNTED + 15)

_UNORDERED, _UNORDERED_ORIGIN, _BACKWARD, _DOUBLE = (int(kind) for kind in Disorder)

_BEFORE_ANY = 0
_NO_PERIOD = -1


@inlined_kernel
def _mixed(bits):
    bits = (bits ^ (bits >> _SHIFT_1)) * _MULTIPLIER_1
    bits = (bits ^ (bits >> _SHIFT_2)) * _MULTIPLIER_2
    return bits ^ (bits >> _SHIFT_3)


@inlined_kernel
def _content(first, second, is_second_kind, row):
    """A hash of what a row says."""
    # Or each row would ask whether it counts from the end, which took a third of the time.
    row = np.uint64(row)
    bits = (first[row] + (_SECOND_KIND if is_second_kind[row] else _ZERO)) * _MULTIPLIER_1
    bits = ((bits ^ (bits >> _HALF)) + second[row]) * _MULTIPLIER_2
    return bits ^ (bits >> _HALF)


@kernel
def _is_stored(tables, table, key):
    slot = key & _LAST_SLOT
    while tables[table, slot] != _ZERO:
        if tables[table, slot] == key:
            return True
        slot = (slot + _ONE) & _LAST_SLOT
    return False


@kernel
def _store(tables, state, key):
    if state[_STORED] == WINDOW_MESSAGES:
        state[_TABLE] = 1 - state[_TABLE]
        state[_STORED] = 0
        for slot in range(SLOTS):
            tables[state[_TABLE], slot] = _ZERO
    slot = key & _LAST_SLOT
    while tables[state[_TABLE], slot] != _ZERO:
        slot = (slot + _ONE) & _LAST_SLOT
    tables[state[_TABLE], slot] = key
    state[_STORED] += 1


@kernel
def _note(state, places, kind, value, before, file, row):
    count = state[kind]
    if count < MAX_PLACES_PER_KIND:
        places[kind, count, 0] = file
        places[kind, count, 1] = row
        places[kind, count, 2] = state[_RECEIPT]
        places[kind, count, 3] = state[_SEQUENCE]
        places[kind, count, 4] = value
        places[kind, count, 5] = before
    state[kind] += 1
    # The exchange's own times are reported, but their order is nothing a book depends on.
    state[_IS_DISORDERED] |= kind != _UNORDERED_ORIGIN


@kernel
def end_message(state, hashes, tables, places, per_hour, day_start_ns):
    """Counts the faults of the message under way, whose last row has come."""
    if state[MESSAGES] == 0:
        return
    sequence = state[_SEQUENCE]
    content = hashes[0]
    period = state[_PERIOD]
    if period > 0 and state[_ROWS] % period == 0:
        content = hashes[1]
        for _ in range(state[_ROWS] // period - 1):
            file, row = state[_REPEAT_FILE], state[_REPEAT_ROW]
            _note(state, places, _DOUBLE, sequence, sequence, file, row)
    key = _mixed(content + _mixed(np.uint64(sequence))) | _ONE
    is_recent = _is_stored(tables, state[_TABLE], key)
    if is_recent or _is_stored(tables, 1 - state[_TABLE], key):
        file, row = state[_FIRST_FILE], state[_FIRST_ROW]
        _note(state, places, _DOUBLE, sequence, sequence, file, row)
    if not is_recent:
        _store(tables, state, key)
    if state[_IS_DISORDERED]:
        hour = (state[_RECEIPT] - day_start_ns) // NS_PER_HOUR
        per_hour[min(max(hour, 0), HOURS - 1)] += 1


@kernel
def walk(messages, first, second, is_second_kind, file, first_row, row_numbers, day_start_ns,
         state, hashes, prefix, tables, places, per_hour):  # fmt: skip
    """Takes rows into account.

    Args:
        messages: `FirstRows` of the messages that begin with one of these rows, counted from 0.
        first, second: uint64 (n,), the bits of what the rows say.
        is_second_kind: bool (n,).
        file, first_row: The number of the file, and which of its rows the first of these is.
        row_numbers: int64 (n,), in the file; empty where they follow one another.
        day_start_ns: Where the UTC day begins.
        state, hashes, prefix, tables, places, per_hour: Updated.
    """
    begin = np.int64(0)
    for message in range(messages.row.size + 1):
        is_last = message == messages.row.size
        end = first.size if is_last else messages.row[message]
        if begin < end:
            _add_rows(
                begin, end, first, second, is_second_kind, file, first_row, row_numbers,
                state, hashes, prefix,
            )  # fmt: skip
        if is_last:
            break
        end_message(state, hashes, tables, places, per_hour, day_start_ns)
        row = _number(end, first_row, row_numbers)
        _begin_message(messages, message, file, row, state, hashes, places)
        begin = end


@inlined_kernel
def _number(row, first_row, row_numbers):
    return row_numbers[row] if row_numbers.size else first_row + row


@kernel
def _begin_message(messages, message, file, row, state, hashes, places):
    origin, receipt = messages.ts_origin_ns[message], messages.ts_receipt_ns[message]
    sequence = messages.sequence_number[message]
    origin_before, state[_ORIGIN] = state[_ORIGIN], origin
    receipt_before, state[_RECEIPT] = state[_RECEIPT], receipt
    sequence_before, state[_SEQUENCE] = state[_SEQUENCE], sequence
    state[MESSAGES] += 1
    state[_IS_DISORDERED] = 0
    state[_FIRST_FILE], state[_FIRST_ROW] = file, row
    state[_ROWS], state[_PERIOD], hashes[0] = 0, _BEFORE_ANY, _ZERO
    if state[MESSAGES] == 1:
        return
    state[SEQUENCE_CHANGES] += sequence != sequence_before
    if origin < origin_before:
        _note(state, places, _UNORDERED_ORIGIN, origin, origin_before, file, row)
    if receipt < receipt_before:
        _note(state, places, _UNORDERED, receipt, receipt_before, file, row)
    if sequence < sequence_before:
        _note(state, places, _BACKWARD, sequence, sequence_before, file, row)


@inlined_kernel
def _add_rows(begin, end, first, second, is_second_kind, file, first_row, row_numbers,
              state, hashes, prefix):  # fmt: skip
    """Takes rows of the message under way: do those from some row on repeat those from the first?

    The hashes of rows are mixed already, and each multiplication waits for the one before it.
    """
    at, period, message_hash = state[_ROWS], state[_PERIOD], hashes[0]
    row = begin
    if period == _BEFORE_ANY:
        # As nearly all rows are: what repeats nothing, while there is room for it.
        if at == 0:
            prefix[0] = message_hash = _content(first, second, is_second_kind, row)
            at += 1
            row += 1
        head, stop = prefix[0], min(end, row + WINDOW_ROWS - at)
        while row < stop:
            content = _content(first, second, is_second_kind, row)
            if content == head:
                break
            prefix[np.uint64(at)] = content
            message_hash = message_hash * _MULTIPLIER_1 + content
            at += 1
            row += 1
    while row < end:
        content = _content(first, second, is_second_kind, row)
        if at < WINDOW_ROWS:
            prefix[at] = content
        if period == _BEFORE_ANY:
            if content == prefix[0]:
                period = at if at <= WINDOW_ROWS else np.int64(_NO_PERIOD)
                state[_REPEAT_FILE] = file
                state[_REPEAT_ROW] = _number(row, first_row, row_numbers)
                hashes[1] = message_hash
        elif period > 0 and content != prefix[at % period]:
            period = np.int64(_NO_PERIOD)
        message_hash = message_hash * _MULTIPLIER_1 + content
        at += 1
        row += 1
    state[_ROWS], state[_PERIOD], hashes[0] = at, period, message_hash
