"""What each message changed in the book, as a log that a book without any rule replays.

What the rows of messages set is written down, and done to a second book that has nothing but the
log. After each message before which something else changed the first book (a snapshot, a policy, a
message that came late), the rebuild kernel is stopped, the two are compared there, and the
difference is written down too. Where nobody asks what changed, there is no second book, and a range
that may differ is written down whole. So the log leads to the rebuilt book after every message, by
construction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books import cursor as at
from market_pipeline.books import registers as reg
from market_pipeline.books.change_log import Change
from market_pipeline.books.kernel import advance
from market_pipeline.books.levels import ASK, BID, far_is_full, key_of, set_level
from market_pipeline.books.scale import NOT_REPRESENTABLE
from market_pipeline.books.state import Status
from market_pipeline.books.walk import best_level, level_at_or_after
from market_pipeline.jit import inlined_kernel, kernel

__all__ = [
    "CHANGES",
    "GROUP",
    "MESSAGES",
    "ROW",
    "log_messages",
    "new_place",
]

# Entries of a place: how many changes and messages are written, where the changes of the message
# under way begin, how many of the batch's rows are written, how many messages of all, why the
# rebuild stopped last, how many of its rows of `books.bbo` are written, whether any row of the next
# one is; then what its registers were after the last message that it was stopped for.
CHANGES, MESSAGES, GROUP, ROW, LOGGED, STOPPED, _CLOSED, _IS_UNDER_WAY = range(8)
_SEEDED, _RESYNCS, _LEARNED, _UNCROSSED, _LATE, _BID_HORIZON, _ASK_HORIZON = range(8, 15)

_MESSAGE = int(Status.MESSAGE)
_OUTPUT_FULL = int(Status.OUTPUT_FULL)
_NEEDS_WINDOW = int(Status.NEEDS_WINDOW)
_OF_MESSAGE = int(Change.MESSAGE)
_OLD = int(Change.OLD_MESSAGE)
_REFUSED = int(Change.REFUSED)
_REPAIR = int(Change.REPAIR)
_CLEARED = int(Change.CLEARED)
_FROM_BEST = np.int64(-(2**62))
_TO_LAST = np.int64(2**62)


def new_place(registers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place at the beginning of a log, of a rebuild with these registers."""
    place = np.zeros(15, np.int64)
    place[LOGGED] = registers[reg.MESSAGES]
    place[STOPPED] = _MESSAGE
    _know(registers, place)
    return place


@kernel
def log_messages(
    registers, levels, history, feed, cursor, options, outputs, shadow, log, place, until
):  # fmt: skip
    """As `kernel.advance`, and logs what each message did; returns the `Status` of the stop.

    It stops with `MESSAGE` after the message that makes `until` of them, and with `OUTPUT_FULL`
    where the log must be emptied, or enlarged if nothing in it is of an earlier message.

    Args:
        registers, levels, history, feed, cursor, outputs: As for `advance`; what is written to the
            outputs is passed over.
        options: With `is_logged`.
        shadow: The book that the log leads to, updated; any, where it is of levels only.
        log: `Log`, filled from the place on.
        place: int64, that of `new_place`, updated.
        until: After how many messages to stop.
    """
    messages = log.messages
    while True:
        # Nothing is lost of what was done before a stop: each step is done again until it is whole.
        status = _take_rows(registers, levels, feed.deltas, cursor, outputs.bbo, shadow, log, place)
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
        cursor[at.SETTLED] = _settled(place)
        place[STOPPED] = advance(registers, levels, history, feed, cursor, options, outputs)


@kernel
def _take_rows(registers, levels, deltas, cursor, bbo, shadow, log, place):
    """Logs the rows that were met last, and the messages that they closed.

    A row that is neither of the next message closed nor of the one that is open is of an old one.
    Returns `MESSAGE`, or what is needed before it can go on.
    """
    sequences, receipts, changes = deltas.sequence_number, deltas.ts_receipt_ns, log.changes
    levels_only = log.levels_only
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
                written = place[CHANGES]
                status = _settle(registers, levels, shadow, log, place, left)
                if status != _MESSAGE:
                    if levels_only:
                        # All of it is logged again.
                        place[CHANGES] = written
                    break
            _close_message(bbo, n, log.messages, place)
            n += 1
            continue
        if row == end:
            break
        if levels_only:
            logged = _log_levels(
                sequences, receipts, deltas.is_bid, deltas.price_ticks, deltas.size_lots,
                row, end, is_own, changes.kind, changes.is_bid, changes.price_ticks,
                changes.size_lots, place[CHANGES],
            )  # fmt: skip
        else:
            logged = 1
            if is_own and far_is_full(shadow.far_keys, shadow.far_sizes, shadow.meta, 1):
                status = _NEEDS_WINDOW
                break
            _log_row(deltas, row, is_own, shadow, changes, place[CHANGES], fed + row)
        place[CHANGES] += logged
        if is_own:
            place[_IS_UNDER_WAY] = 1
        row += logged
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


@inlined_kernel
def _log_levels(
    sequences, receipts, is_bid, prices, new_sizes, row, end, is_own,
    kinds, sides, prices_logged, sizes_logged, n,
):  # fmt: skip
    """Logs what a row and those after it of the same message do to the book; how many they are."""
    first, sequence, receipt = row, sequences[row], receipts[row]
    kind = _OF_MESSAGE if is_own else _OLD
    while row < end and sequences[row] == sequence and receipts[row] == receipt:
        size = new_sizes[row]
        kinds[n] = _REFUSED if size == NOT_REPRESENTABLE else kind
        sides[n], prices_logged[n], sizes_logged[n] = is_bid[row], prices[row], size
        n += 1
        row += 1
    return row - first


@kernel
def _close_message(bbo, row, messages, place):
    n = place[MESSAGES]
    messages.end[n] = place[CHANGES]
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
def _settle(registers, levels, shadow, log, place, rows):
    """Logs what else than its rows changed the book up to the message that was closed last.

    `rows` of the batch are not yet logged. Returns `MESSAGE`, or what is needed before it can go
    on: what it did is not found again.
    """
    changes = log.changes
    if registers[reg.LATE_MESSAGES] != place[_LATE]:
        # A late message sets those of its levels that nothing has overtaken.
        for n in range(place[GROUP], place[CHANGES]):
            if changes.kind[n] == _OLD:
                side = BID if changes.is_bid[n] else ASK
                key = key_of(side, changes.price_ticks[n])
                status = _level_off(registers, levels, shadow, log, place, rows, side, key, key)
                if status != _MESSAGE:
                    return status
    resyncs = registers[reg.RESYNCS] - place[_RESYNCS]
    learned = registers[reg.LEARNED] != place[_LEARNED]
    for side in (BID, ASK):
        horizon = key_of(side, registers[reg.BID_HORIZON if side == BID else reg.ASK_HORIZON])
        known = key_of(side, place[_BID_HORIZON if side == BID else _ASK_HORIZON])
        first, last = _TO_LAST, _FROM_BEST
        if registers[reg.SEEDED] != place[_SEEDED] or resyncs > 1 or (resyncs > 0 and learned):
            first, last = _FROM_BEST, _TO_LAST
        elif resyncs > 0:
            first, last = _FROM_BEST, horizon
        elif learned:
            first, last = known, horizon
        if registers[reg.UNCROSSED] != place[_UNCROSSED]:
            # Those removed lie before what is the best level now.
            best, size = best_level(levels, side)
            first, last = _FROM_BEST, max(last, best) if size > 0 else _TO_LAST
        status = _level_off(registers, levels, shadow, log, place, rows, side, first, last)
        if status != _MESSAGE:
            return status
    _know(registers, place)
    return _MESSAGE


@kernel
def _know(registers, place):
    """Keeps what tells, after the next message, whether something else changed the book."""
    place[_SEEDED] = registers[reg.SEEDED]
    place[_RESYNCS] = registers[reg.RESYNCS]
    place[_LEARNED] = registers[reg.LEARNED]
    place[_UNCROSSED] = registers[reg.UNCROSSED]
    place[_LATE] = registers[reg.LATE_MESSAGES]
    place[_BID_HORIZON] = registers[reg.BID_HORIZON]
    place[_ASK_HORIZON] = registers[reg.ASK_HORIZON]


@kernel
def _settled(place):
    """The `other_changes` that are logged."""
    return place[_SEEDED] + place[_RESYNCS] + place[_LEARNED] + place[_UNCROSSED] + place[_LATE]


@kernel
def _level_off(registers, levels, shadow, log, place, rows, side, first, last):
    """Sets the shadow's levels between two keys to those of the book, and logs where they differ.

    Without a shadow all of them are logged. Room in the log for the batch's other rows is left.
    """
    changes = log.changes
    key, room = first, changes.kind.size - rows
    if log.levels_only and first <= last:
        if place[CHANGES] >= room:
            return _OUTPUT_FULL
        _write_level(changes, place[CHANGES], _CLEARED, side, first, key_of(side, last))
        place[CHANGES] += 1
    while key <= last:
        ours, our_size = level_at_or_after(levels, side, key)
        theirs, their_size = ours, np.int64(0)
        if not log.levels_only:
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
            if not log.levels_only:
                if far_is_full(shadow.far_keys, shadow.far_sizes, shadow.meta, 1):
                    return _NEEDS_WINDOW
                set_level(shadow, side, key, our_size)
                _write_source(registers, changes, place[CHANGES], their_size)
            _write_level(changes, place[CHANGES], _REPAIR, side, key, our_size)
            place[CHANGES] += 1
        key += 1
    return _MESSAGE


@inlined_kernel
def _write_source(registers, changes, n, before):
    """Logs after which message something else changed a level, and from what."""
    changes.ts_origin_ns[n] = registers[reg.OPEN_ORIGIN]
    changes.ts_receipt_ns[n] = registers[reg.OPEN_RECEIPT]
    changes.sequence_number[n] = registers[reg.OPEN_SEQUENCE]
    changes.feed_row[n] = -1
    changes.before_lots[n] = before


@inlined_kernel
def _write_level(changes, n, kind, side, key, size):
    changes.kind[n] = kind
    changes.is_bid[n] = side == BID
    changes.price_ticks[n] = key_of(side, key)
    changes.size_lots[n] = size
