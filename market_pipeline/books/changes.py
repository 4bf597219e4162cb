"""What each message changed in the book, as a log that a book without any rule replays.

The rebuild kernel is stopped after every message. What its rows set is written down, and done to a
second book that has nothing but the log; where something else changed the first book meanwhile (a
snapshot, a policy, a message that came late), the two are compared there, and the difference is
written down too. So the log leads to the rebuilt book after every message, by construction.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books import cursor as at
from market_pipeline.books import registers as reg
from market_pipeline.books.kernel import advance
from market_pipeline.books.levels import ASK, BID, far_is_full, key_of, set_level
from market_pipeline.books.scale import NOT_REPRESENTABLE
from market_pipeline.books.state import Status, int64_columns
from market_pipeline.books.walk import best_level, level_at_or_after
from market_pipeline.jit import inlined_kernel, kernel

__all__ = [
    "CHANGES",
    "GROUP",
    "MESSAGES",
    "ROW",
    "Change",
    "Changes",
    "Log",
    "LoggedMessages",
    "log_messages",
    "new_place",
    "room_for_changes",
    "room_for_messages",
]


class Change(IntEnum):
    """Where a change of the book comes from."""

    MESSAGE = 0
    OLD_MESSAGE = 1
    REFUSED = 2
    REPAIR = 3


class Changes(NamedTuple):
    """Changes of levels in the order they are to be made, shape (n,).

    Attributes:
        ts_origin_ns, ts_receipt_ns, sequence_number: int64, of the message, or of the raw row.
        feed_row: int64, the raw row it is, counted over the rows of the day; -1 for none.
        kind: int8, a `Change`: a row of the message itself; a row of an old message, which changes
            nothing; a row that is not on the grid, which changes nothing either; what a snapshot, a
            policy or a late message changed.
        is_bid: bool.
        price_ticks, size_lots, before_lots: int64, the level's size after and before it; of those
            that change nothing, as the raw row has it, -1 where it is not on the grid.
    """

    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    feed_row: NDArray[np.int64]
    kind: NDArray[np.int8]
    is_bid: NDArray[np.bool_]
    price_ticks: NDArray[np.int64]
    size_lots: NDArray[np.int64]
    before_lots: NDArray[np.int64]


class LoggedMessages(NamedTuple):
    """Messages in order with the touch after each, shape (n,); a side of size 0 is empty.

    `end` is where the changes of each end; they begin where those of the one before do. `flags` are
    those that are known when the message is applied.
    """

    end: NDArray[np.int64]
    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]
    flags: NDArray[np.uint16]


class Log(NamedTuple):
    """Where messages and their changes are written."""

    messages: LoggedMessages
    changes: Changes


# Entries of a place: how many changes and messages are written, where the changes of the message
# under way begin, how many of the batch's rows are written, how many messages of all, why the
# rebuild stopped last; then what its registers were after the last message.
CHANGES, MESSAGES, GROUP, ROW, LOGGED, STOPPED = range(6)
_SEEDED, _RESYNCS, _LEARNED, _UNCROSSED, _LATE, _BID_HORIZON, _ASK_HORIZON = range(6, 13)

_MESSAGE = int(Status.MESSAGE)
_OUTPUT_FULL = int(Status.OUTPUT_FULL)
_NEEDS_WINDOW = int(Status.NEEDS_WINDOW)
_OF_MESSAGE = int(Change.MESSAGE)
_OLD = int(Change.OLD_MESSAGE)
_REFUSED = int(Change.REFUSED)
_REPAIR = int(Change.REPAIR)
_FROM_BEST = np.int64(-(2**62))
_TO_LAST = np.int64(2**62)


def new_place(registers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place at the beginning of a log, of a rebuild with these registers."""
    place = np.zeros(13, np.int64)
    place[LOGGED] = registers[reg.MESSAGES]
    place[STOPPED] = _MESSAGE
    _know(registers, place)
    return place


def room_for_changes(rows: int) -> Changes:
    """Room for so many changes."""
    sides = np.empty(rows, np.int8), np.empty(rows, np.bool_)
    return Changes._make([*int64_columns(rows, 4), *sides, *int64_columns(rows, 3)])


def room_for_messages(rows: int) -> LoggedMessages:
    """Room for so many messages."""
    return LoggedMessages._make([*int64_columns(rows, 8), np.empty(rows, np.uint16)])


@kernel
def log_messages(
    registers, levels, history, feed, cursor, options, outputs, shadow, log, place, until
):  # fmt: skip
    """As `kernel.advance`, message by message, and logs what each did; returns the stop's `Status`.

    It stops with `MESSAGE` after the message that makes `until` of them, and with `OUTPUT_FULL`
    where the log must be emptied, or enlarged if nothing in it is of an earlier message.

    Args:
        registers, levels, history, feed, cursor, outputs: As for `advance`; what is written to the
            outputs is passed over.
        options: With `each_message`.
        shadow: The book that the log leads to, updated.
        log: `Log`, filled from the place on.
        place: int64, that of `new_place`, updated.
        until: After how many messages to stop.
    """
    messages = log.messages
    while True:
        # Nothing is lost of what was done before a stop: each step is done again until it is whole.
        if not _take_rows(registers, feed.deltas, cursor, shadow, log.changes, place):
            return _NEEDS_WINDOW
        if registers[reg.MESSAGES] > place[LOGGED]:
            rows = feed.deltas.sequence_number.size
            status = _settle(registers, levels, shadow, log.changes, place, rows)
            if status != _MESSAGE:
                return status
            _close_message(registers, outputs.bbo, messages, place)
            if place[LOGGED] == until:
                # Why the rebuild stopped it is asked for again.
                return _MESSAGE
        status = place[STOPPED]
        if status != _MESSAGE:
            place[STOPPED] = _MESSAGE
            return status
        if place[MESSAGES] == messages.end.size:
            return _OUTPUT_FULL
        cursor[at.BBO_ROW :] = 0
        place[STOPPED] = advance(registers, levels, history, feed, cursor, options, outputs)


@kernel
def _take_rows(registers, deltas, cursor, shadow, changes, place):
    """Logs the rows that were met last; False where the shadow has no room for one.

    Those of the message that is closed or open are the last of them; others are of old messages.
    """
    sequences, receipts = deltas.sequence_number, deltas.ts_receipt_ns
    row, end = place[ROW], cursor[at.ROW]
    if row == end:
        return True
    sequence, receipt = registers[reg.OPEN_SEQUENCE], registers[reg.OPEN_RECEIPT]
    own = end
    if registers[reg.OPEN] != 0 or registers[reg.MESSAGES] > place[LOGGED]:
        while own > row and sequences[own - 1] == sequence and receipts[own - 1] == receipt:
            own -= 1
    fed = registers[reg.ROWS] - end
    while row < end:
        size, price = deltas.size_lots[row], deltas.price_ticks[row]
        side = BID if deltas.is_bid[row] else ASK
        kind, before = _OF_MESSAGE, np.int64(-1)
        if size == NOT_REPRESENTABLE:
            kind = _REFUSED
        elif row < own:
            kind = _OLD
        else:
            if far_is_full(shadow.far_keys, shadow.far_sizes, shadow.meta, 1):
                return False
            before = set_level(shadow, side, key_of(side, price), size)
        n = place[CHANGES]
        changes.ts_origin_ns[n] = deltas.ts_origin_ns[row]
        changes.ts_receipt_ns[n] = receipts[row]
        changes.sequence_number[n] = sequences[row]
        changes.feed_row[n] = fed + row
        changes.kind[n] = kind
        changes.is_bid[n] = side == BID
        changes.price_ticks[n] = price
        changes.size_lots[n] = size
        changes.before_lots[n] = before
        place[CHANGES] = n + 1
        row += 1
        place[ROW] = row
    return True


@kernel
def _close_message(registers, bbo, messages, place):
    n = place[MESSAGES]
    messages.end[n] = place[CHANGES]
    messages.ts_origin_ns[n] = bbo.ts_origin_ns[0]
    messages.ts_receipt_ns[n] = bbo.ts_receipt_ns[0]
    messages.sequence_number[n] = bbo.sequence_number[0]
    messages.bid_price_ticks[n] = bbo.bid_price_ticks[0]
    messages.bid_size_lots[n] = bbo.bid_size_lots[0]
    messages.ask_price_ticks[n] = bbo.ask_price_ticks[0]
    messages.ask_size_lots[n] = bbo.ask_size_lots[0]
    messages.flags[n] = bbo.flags[0]
    place[MESSAGES] = n + 1
    place[LOGGED] += 1
    place[GROUP] = place[CHANGES]


@kernel
def _settle(registers, levels, shadow, changes, place, rows):
    """Logs what else than its rows changed the book up to the message that was closed.

    Returns `MESSAGE`, or what is needed before it can go on: what it did is not found again.
    """
    if registers[reg.LATE_MESSAGES] != place[_LATE]:
        # A late message sets those of its levels that nothing has overtaken.
        for n in range(place[GROUP], place[CHANGES]):
            if changes.kind[n] == _OLD:
                side = BID if changes.is_bid[n] else ASK
                key = key_of(side, changes.price_ticks[n])
                status = _level_off(registers, levels, shadow, changes, place, rows, side, key, key)
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
        status = _level_off(registers, levels, shadow, changes, place, rows, side, first, last)
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
def _level_off(registers, levels, shadow, changes, place, rows, side, first, last):
    """Sets the shadow's levels between two keys to those of the book, and logs where they differ.

    Room in the log for the batch's other rows is left.
    """
    key, room = first, changes.kind.size - (rows - place[ROW])
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
            _write_repair(registers, changes, place, side, key, our_size, their_size)
        key += 1
    return _MESSAGE


@inlined_kernel
def _write_repair(registers, changes, place, side, key, size, before):
    n = place[CHANGES]
    changes.ts_origin_ns[n] = registers[reg.OPEN_ORIGIN]
    changes.ts_receipt_ns[n] = registers[reg.OPEN_RECEIPT]
    changes.sequence_number[n] = registers[reg.OPEN_SEQUENCE]
    changes.feed_row[n] = -1
    changes.kind[n] = _REPAIR
    changes.is_bid[n] = side == BID
    changes.price_ticks[n] = key_of(side, key)
    changes.size_lots[n] = size
    changes.before_lots[n] = before
    place[CHANGES] = n + 1
