"""What each message changed in the book, as a log that a book without any rule replays.

What the rows of messages set is written down, and done to a second book that has nothing but the
log. After each message before which something else changed the first book (a snapshot, a policy, a
message that came late), the rebuild kernel is stopped, the two are compared there, and the
difference is written down too. So the log leads to the rebuilt book after every message, by
construction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books import cursor as at
from market_pipeline.books import registers as reg
from market_pipeline.books.change_log import Change
from market_pipeline.books.entry_points import call_at
from market_pipeline.books.levels import ASK, BID, far_is_full, key_of, set_level
from market_pipeline.books.other_changes import changed_range, is_late, know, settled
from market_pipeline.books.scale import NOT_REPRESENTABLE
from market_pipeline.books.state import Status
from market_pipeline.books.walk import level_at_or_after
from market_pipeline.jit import inlined_kernel, kernel

__all__ = [
    "CHANGES",
    "GROUP",
    "MESSAGES",
    "ROW",
    "START",
    "log_messages",
    "new_place",
]

# Entries of a place: how many changes and messages are written, where the changes of the message
# under way begin, how many of the batch's rows are written, how many messages of all, why the
# rebuild stopped last, how many of its rows of `books.bbo` are written, whether any row of the next
# one is, and where that message's own begin.
CHANGES, MESSAGES, GROUP, ROW, LOGGED, STOPPED, _CLOSED, _IS_UNDER_WAY, START = range(9)

_MESSAGE = int(Status.MESSAGE)
_OUTPUT_FULL = int(Status.OUTPUT_FULL)
_NEEDS_WINDOW = int(Status.NEEDS_WINDOW)
_OF_MESSAGE = int(Change.MESSAGE)
_OLD = int(Change.OLD_MESSAGE)
_REFUSED = int(Change.REFUSED)
_REPAIR = int(Change.REPAIR)


def new_place(registers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place at the beginning of a log, of a rebuild with these registers."""
    place = np.zeros(9, np.int64)
    place[LOGGED] = registers[reg.MESSAGES]
    place[STOPPED] = _MESSAGE
    return place


@kernel
def log_messages(
    address, registers, levels, history, feed, cursor, options, outputs,
    shadow, log, known, place, until,
):  # fmt: skip
    """As `kernel.advance`, and logs what each message did; returns the `Status` of the stop.

    It stops with `MESSAGE` after the message that makes `until` of them, and with `OUTPUT_FULL`
    where the log must be emptied, or enlarged if nothing in it is of an earlier message.

    Args:
        address: That of `advance`.
        registers, levels, history, feed, cursor, outputs: As for `advance`; what is written to the
            outputs is passed over.
        options: With `is_logged`.
        shadow: The book that the log leads to, updated.
        log: `Log`, filled from the place on.
        known: int64, that of `other_changes.new_known`, updated.
        place: int64, that of `new_place`, updated.
        until: After how many messages to stop.
    """
    messages = log.messages
    while True:
        # Nothing is lost of what was done before a stop: each step is done again until it is whole.
        status = _take_rows(
            registers, levels, feed.deltas, cursor, outputs.bbo, shadow, log, known, place
        )
        if status != _MESSAGE:
            return status
        cursor[at.BBO_ROW :] = 0
        place[_CLOSED] = 0
        if place[LOGGED] == until:
            # Why the rebuild stopped it is asked for again.
            return _MESSAGE
        status = place[STOPPED]
        if status not in (_MESSAGE, _OUTPUT_FULL):
            place[STOPPED] = _MESSAGE
            return status
        room = messages.end.size - place[MESSAGES]
        if room == 0:
            return _OUTPUT_FULL
        cursor[at.UNTIL] = min(until, place[LOGGED] + room)
        cursor[at.SETTLED] = settled(known)
        place[STOPPED] = call_at(
            address, registers, levels, history, feed, cursor, options, outputs
        )


@kernel
def _take_rows(registers, levels, deltas, cursor, bbo, shadow, log, known, place):
    """Logs the rows that were met last, and the messages that they closed.

    A row that is neither of the next message closed nor of the one that is open is of an old one.
    Returns `MESSAGE`, or what is needed before it can go on.
    """
    sequences, receipts, changes = deltas.sequence_number, deltas.ts_receipt_ns, log.changes
    end, closed = cursor[at.ROW], cursor[at.BBO_ROW]
    fed = registers[reg.ROWS] - end
    row, n = place[ROW], place[_CLOSED]
    status = _MESSAGE
    while True:
        has_next = n < closed or registers[reg.OPEN] != 0
        if n < closed:
            sequence, receipt = bbo.sequence_number[n], bbo.ts_receipt_ns[n]
        else:
            sequence, receipt = registers[reg.OPEN_SEQUENCE], registers[reg.OPEN_RECEIPT]
        is_own = has_next and row < end and sequences[row] == sequence and receipts[row] == receipt
        if n < closed and place[_IS_UNDER_WAY] != 0 and not is_own:
            if n + 1 == closed and place[STOPPED] == _MESSAGE:
                place[ROW] = row
                left = sequences.size - row
                status = _settle(registers, levels, shadow, log, known, place, left)
                if status != _MESSAGE:
                    break
            _close_message(bbo, n, log.messages, place)
            n += 1
            continue
        if row == end:
            break
        if is_own and far_is_full(shadow.far_keys, shadow.far_sizes, shadow.meta, 1):
            status = _NEEDS_WINDOW
            break
        _log_row(deltas, row, is_own, shadow, changes, place[CHANGES], fed + row)
        if is_own and place[_IS_UNDER_WAY] == 0:
            place[_IS_UNDER_WAY], place[START] = 1, place[CHANGES]
        place[CHANGES] += 1
        row += 1
    place[ROW], place[_CLOSED] = row, n
    return status


@inlined_kernel
def _log_row(deltas, row, is_own, shadow, changes, n, feed_row):
    """Sets the shadow's level as a row of a message that is not old does, and logs the row."""
    size, price, is_bid = deltas.size_lots[row], deltas.price_ticks[row], deltas.is_bid[row]
    kind, before = _OF_MESSAGE, np.int64(-1)
    if size == NOT_REPRESENTABLE:
        kind = _REFUSED
    elif not is_own:
        kind = _OLD
    else:
        side = BID if is_bid else ASK
        before = set_level(shadow, side, key_of(side, price), size)
    changes.ts_origin_ns[n] = deltas.ts_origin_ns[row]
    changes.ts_receipt_ns[n] = deltas.ts_receipt_ns[row]
    changes.sequence_number[n] = deltas.sequence_number[row]
    changes.feed_row[n] = feed_row
    changes.kind[n] = kind
    changes.is_bid[n] = is_bid
    changes.price_ticks[n] = price
    changes.size_lots[n] = size
    changes.before_lots[n] = before


@kernel
def _close_message(bbo, row, messages, place):
    n = place[MESSAGES]
    messages.start[n], messages.end[n] = place[START], place[CHANGES]
    messages.ts_origin_ns[n] = bbo.ts_origin_ns[row]
    messages.ts_receipt_ns[n] = bbo.ts_receipt_ns[row]
    messages.sequence_number[n] = bbo.sequence_number[row]
    messages.bid_price_ticks[n] = bbo.bid_price_ticks[row]
    messages.bid_size_lots[n] = bbo.bid_size_lots[row]
    messages.ask_price_ticks[n] = bbo.ask_price_ticks[row]
    messages.ask_size_lots[n] = bbo.ask_size_lots[row]
    messages.flags[n] = bbo.flags[row]
    place[MESSAGES] = n + 1
    place[LOGGED] += 1
    place[GROUP] = place[CHANGES]
    place[_IS_UNDER_WAY] = 0


@kernel
def _settle(registers, levels, shadow, log, known, place, rows):
    """Logs what else than its rows changed the book up to the message that was closed last.

    `rows` of the batch are not yet logged. Returns `MESSAGE`, or what is needed before it can go
    on: what it did is not found again.
    """
    changes = log.changes
    if is_late(registers, known):
        for n in range(place[GROUP], place[CHANGES]):
            if changes.kind[n] == _OLD:
                side = BID if changes.is_bid[n] else ASK
                key = key_of(side, changes.price_ticks[n])
                status = _level_off(registers, levels, shadow, log, place, rows, side, key, key)
                if status != _MESSAGE:
                    return status
    for side in (BID, ASK):
        first, last = changed_range(registers, known, levels, side)
        status = _level_off(registers, levels, shadow, log, place, rows, side, first, last)
        if status != _MESSAGE:
            return status
    know(registers, known)
    return _MESSAGE


@kernel
def _level_off(registers, levels, shadow, log, place, rows, side, first, last):
    """Sets the shadow's levels between two keys to those of the book, and logs where they differ.

    Room in the log for the batch's other rows is left.
    """
    changes = log.changes
    key, room = first, changes.kind.size - rows
    while key <= last:
        ours, our_size = level_at_or_after(levels, side, key)
        theirs, their_size = level_at_or_after(shadow, side, key)
        has_ours = our_size > 0 and ours <= last
        has_theirs = their_size > 0 and theirs <= last
        if not (has_ours or has_theirs):
            break
        if not has_theirs or (has_ours and ours < theirs):
            key, their_size = ours, np.int64(0)
        elif not has_ours or theirs < ours:
            key, our_size = theirs, np.int64(0)
        else:
            key = ours
        if our_size != their_size:
            if place[CHANGES] >= room:
                return _OUTPUT_FULL
            if far_is_full(shadow.far_keys, shadow.far_sizes, shadow.meta, 1):
                return _NEEDS_WINDOW
            set_level(shadow, side, key, our_size)
            _write_repair(registers, changes, place[CHANGES], side, key, our_size, their_size)
            place[CHANGES] += 1
        key += 1
    return _MESSAGE


@inlined_kernel
def _write_repair(registers, changes, n, side, key, size, before):
    """Logs after which message something else changed a level, and from what."""
    changes.ts_origin_ns[n] = registers[reg.OPEN_ORIGIN]
    changes.ts_receipt_ns[n] = registers[reg.OPEN_RECEIPT]
    changes.sequence_number[n] = registers[reg.OPEN_SEQUENCE]
    changes.feed_row[n] = -1
    changes.kind[n] = _REPAIR
    changes.is_bid[n] = side == BID
    changes.price_ticks[n] = key_of(side, key)
    changes.size_lots[n] = size
    changes.before_lots[n] = before
