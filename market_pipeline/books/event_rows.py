"""The rows of the event stream: trades, deltas, snapshots and clears in one order.

A reader that has nothing but these rows holds, whenever the book is valid, the book of `books.bbo`:
what is invalid begins with a clear and goes on flagged, and once the book is valid again a clear
and the whole book follow, so nothing leads across.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.change_log import Change
from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.levels import ASK, BID, far_is_full, key_of, set_level
from market_pipeline.books.walk import best_level, level_at_or_after
from market_pipeline.jit import inlined_kernel, kernel

__all__ = [
    "ACTIONS",
    "BLOCK_DONE",
    "BOOK_FULL",
    "COUNT",
    "ENDED",
    "KINDS",
    "MESSAGE",
    "NEXT_CHANGE",
    "ROWS_FULL",
    "SIDES",
    "TRADE",
    "EventRows",
    "TradeFeed",
    "new_event_place",
    "room_for_events",
    "write_events",
    "write_trades",
]

KINDS = ("trade", "delta", "snapshot", "clear")
ACTIONS = ("T", "A", "M", "C", "R", "N")
SIDES = ("N", "B", "A")

_TRADE, _DELTA, _SNAPSHOT, _CLEAR = range(4)
_T, _ADD, _MODIFY, _CANCEL, _RESET, _NONE = range(6)
_NO_SIDE, _BID_SIDE, _ASK_SIDE = range(3)

F_LAST, F_SNAPSHOT, F_MBP, F_BAD_TS_RECV, F_MAYBE_BAD_BOOK = 128, 32, 16, 8, 4
"""DBN's flag bits that are set here; TOB (64) never is, because the rows are of the full book."""

_INVALID = int(INVALIDATING)
_BAD_RECEIPT = int(BookFlag.BAD_TS_RECEIPT)
_OLD = int(Change.OLD_MESSAGE)
_REFUSED = int(Change.REFUSED)
_REPAIR = int(Change.REPAIR)

BLOCK_DONE, ROWS_FULL, BOOK_FULL, ENDED = range(4)
# Entries of a place: the next trade, message and change; how far that message is written; whether
# a reader has the book (-1: whatever it had); side and key the whole book is written from; rows
# written; the last change to write of the message; the flags and the clock of the message before.
(
    TRADE, MESSAGE, NEXT_CHANGE, _PHASE, _HAS_BOOK, _SIDE, _KEY, COUNT, _LAST, _BOOK_FLAGS, _CLOCK,
) = range(11)  # fmt: skip
_TRADES_FIRST, _CHANGES, _BOOK_CLEAR, _BOOK, _CLOSED = range(5)
_FROM_BEST = np.int64(-(2**62))


class EventRows(NamedTuple):
    """Rows in order, shape (n,); -1 in `file_row` and `message` is none.

    Attributes:
        kind, action, side: int8, positions in `KINDS`, `ACTIONS`, `SIDES`.
        flags: uint16, DBN's bits.
        book_flags: uint16, `BookFlag`, of the message; of a trade, of the message before it.
        clock_ns: int64, the receipt clock that never runs back.
        ts_origin_ns, ts_receipt_ns, sequence_number, file_row, message: int64.
        price_ticks, size_lots: int64; -1 where it is not on the grid. Not written of trades.
    """

    kind: NDArray[np.int8]
    action: NDArray[np.int8]
    side: NDArray[np.int8]
    flags: NDArray[np.uint16]
    book_flags: NDArray[np.uint16]
    clock_ns: NDArray[np.int64]
    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    file_row: NDArray[np.int64]
    message: NDArray[np.int64]
    price_ticks: NDArray[np.int64]
    size_lots: NDArray[np.int64]


class TradeFeed(NamedTuple):
    """The trades of a day in file order, shape (n,), and `order`, int32, that of receipt."""

    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    is_buy: NDArray[np.bool_]
    order: NDArray[np.int32]


def new_event_place(trade: int) -> NDArray[np.int64]:
    """The place at the beginning of a day, before a trade in the order of receipt."""
    place = np.zeros(11, np.int64)
    place[TRADE], place[_HAS_BOOK], place[_CLOCK] = trade, -1, -(2**63)
    return place


def room_for_events(rows: int) -> EventRows:
    """Room for so many rows."""
    codes = [np.empty(rows, np.int8) for _ in range(3)]
    flags = [np.empty(rows, np.uint16) for _ in range(2)]
    return EventRows._make([*codes, *flags, *(np.empty(rows, np.int64) for _ in range(8))])


@kernel
def write_events(
    messages, changes, clock_ns, first, trades, levels, rows, place, from_ns, until_ns
):  # fmt: skip
    """Writes the events of a block of messages, from the place on, and says why it stopped.

    Args:
        messages, changes, clock_ns: Those of a `Replayed`.
        first: The number of its first message in the day.
        trades: `TradeFeed`.
        levels: The book before the place's next change, updated.
        rows: `EventRows`, filled from the place on.
        place: int64, that of `new_event_place`, updated.
        from_ns, until_ns: Of the clock: earlier messages are not shown, later ones end it.

    Returns:
        `BLOCK_DONE`; `ROWS_FULL`; `BOOK_FULL` for want of room in the far arrays; `ENDED`.
    """
    while place[MESSAGE] < messages.end.size:
        n = place[MESSAGE]
        now_ns = clock_ns[n]
        if now_ns >= until_ns:
            return ENDED
        is_shown = now_ns >= from_ns
        book_flags = np.int64(messages.flags[n])
        is_valid = book_flags & _INVALID == 0
        flags = F_MBP | (0 if is_valid else F_MAYBE_BAD_BOOK)
        if book_flags & _BAD_RECEIPT:
            flags |= F_BAD_TS_RECV
        times = messages.ts_origin_ns[n], messages.ts_receipt_ns[n], messages.sequence_number[n]
        head = book_flags, now_ns, first + n
        needs_book = is_shown and is_valid and place[_HAS_BOOK] != 1
        if place[_PHASE] == _TRADES_FIRST:
            if is_shown and not write_trades(trades, rows, place, now_ns):
                return ROWS_FULL
            if is_shown and not is_valid and place[_HAS_BOOK] != 0:
                if place[COUNT] == rows.kind.size:
                    return ROWS_FULL
                _write(rows, place, _CLEAR, _RESET, _NO_SIDE, flags, head, times, -1, 0, 0)
                place[_HAS_BOOK] = 0
            place[_LAST] = _last_shown(changes, place[NEXT_CHANGE], messages.end[n], place)
            place[_PHASE] = _CHANGES
        if place[_PHASE] == _CHANGES:
            ends = place[_LAST] if is_shown and not needs_book else np.int64(-1)
            status = _write_changes(
                changes, messages.end[n], levels, rows, place, flags, head, is_shown, ends
            )
            if status != BLOCK_DONE:
                return status
            place[_PHASE] = _BOOK_CLEAR if needs_book else _CLOSED
        if place[_PHASE] != _CLOSED and not _write_book(
            levels, rows, place, flags | F_SNAPSHOT, head, times
        ):
            return ROWS_FULL
        place[MESSAGE] = n + 1
        place[_PHASE] = _TRADES_FIRST
        place[_BOOK_FLAGS], place[_CLOCK] = book_flags, now_ns
    if place[NEXT_CHANGE] >= changes.kind.size or place[_HAS_BOOK] < 0:
        return BLOCK_DONE
    # Rows of old messages behind the last message.
    head = place[_BOOK_FLAGS], place[_CLOCK], np.int64(-1)
    flags = F_MBP | (F_MAYBE_BAD_BOOK if place[_BOOK_FLAGS] & _INVALID else 0)
    end = np.int64(changes.kind.size)
    return _write_changes(changes, end, levels, rows, place, flags, head, True, end - 1)


@kernel
def write_trades(trades, rows, place, upto_ns):
    """Writes the trades received up to a time; False where there is no room for all."""
    while place[TRADE] < trades.order.size:
        trade = np.int64(trades.order[place[TRADE]])
        receipt_ns = trades.ts_receipt_ns[trade]
        if receipt_ns > upto_ns:
            return True
        if place[COUNT] == rows.kind.size:
            return False
        flags = F_LAST | (F_MAYBE_BAD_BOOK if place[_HAS_BOOK] != 1 else 0)
        side = _BID_SIDE if trades.is_buy[trade] else _ASK_SIDE
        head = place[_BOOK_FLAGS], receipt_ns, np.int64(-1)
        times = trades.ts_origin_ns[trade], receipt_ns, np.int64(-1)
        _write(rows, place, _TRADE, _T, side, flags, head, times, trade, 0, 0)
        place[TRADE] += 1
    return True


@kernel
def _last_shown(changes, start, end, place):
    """The last of some changes that is written: repairs only to a reader who has the book."""
    last = end - 1
    while last >= start and changes.kind[last] == _REPAIR and place[_HAS_BOOK] != 1:
        last -= 1
    return last


@kernel
def _write_changes(changes, end, levels, rows, place, flags, head, is_shown, ends):
    """Makes the changes up to one and writes them; `ends` is the last row of the event, or -1."""
    while place[NEXT_CHANGE] < end:
        n = place[NEXT_CHANGE]
        kind, size, price = changes.kind[n], changes.size_lots[n], changes.price_ticks[n]
        is_written = is_shown and (kind != _REPAIR or place[_HAS_BOOK] == 1)
        if is_written and place[COUNT] == rows.kind.size:
            return ROWS_FULL
        side = BID if changes.is_bid[n] else ASK
        action = _NONE
        if kind not in (_OLD, _REFUSED):
            if far_is_full(levels.far_keys, levels.far_sizes, levels.meta, 1):
                return BOOK_FULL
            before = set_level(levels, side, key_of(side, price), size)
            action = _CANCEL if size == 0 else (_MODIFY if before > 0 else _ADD)
        if is_written:
            times = changes.ts_origin_ns[n], changes.ts_receipt_ns[n], changes.sequence_number[n]
            is_repair = kind == _REPAIR
            row_flags = flags | (F_LAST if n == ends else 0) | (F_SNAPSHOT if is_repair else 0)
            _write(
                rows, place, _SNAPSHOT if is_repair else _DELTA, action,
                _BID_SIDE if side == BID else _ASK_SIDE, row_flags, head, times,
                changes.feed_row[n], price, size,
            )  # fmt: skip
        place[NEXT_CHANGE] = n + 1
    return BLOCK_DONE


@kernel
def _write_book(levels, rows, place, flags, head, times):
    """Writes a clear and the whole book, best first, bids first; False for want of room."""
    if place[_PHASE] == _BOOK_CLEAR:
        if place[COUNT] == rows.kind.size:
            return False
        _, bid_size = best_level(levels, BID)
        _, ask_size = best_level(levels, ASK)
        last = F_LAST if bid_size + ask_size == 0 else 0
        cleared = (flags ^ F_SNAPSHOT) | last
        _write(rows, place, _CLEAR, _RESET, _NO_SIDE, cleared, head, times, -1, 0, 0)
        place[_PHASE], place[_SIDE], place[_KEY] = _BOOK, BID, _FROM_BEST
    while place[_SIDE] <= ASK:
        side = place[_SIDE]
        key, size = level_at_or_after(levels, side, place[_KEY])
        if size == 0:
            place[_SIDE], place[_KEY] = side + 1, _FROM_BEST
            continue
        if place[COUNT] == rows.kind.size:
            return False
        _, more = level_at_or_after(levels, side, key + 1)
        if more == 0 and side == BID:
            _, more = best_level(levels, ASK)
        row_flags = flags | (F_LAST if more == 0 else 0)
        _write(
            rows, place, _SNAPSHOT, _ADD, _BID_SIDE if side == BID else _ASK_SIDE,
            row_flags, head, times, -1, key_of(side, key), size,
        )  # fmt: skip
        place[_KEY] = key + 1
    place[_HAS_BOOK] = 1
    return True


@inlined_kernel
def _write(rows, place, kind, action, side, flags, head, times, file_row, price, size):
    n = place[COUNT]
    rows.kind[n] = kind
    rows.action[n] = action
    rows.side[n] = side
    rows.flags[n] = flags
    rows.book_flags[n] = head[0]
    rows.clock_ns[n] = head[1]
    rows.message[n] = head[2]
    rows.ts_origin_ns[n] = times[0]
    rows.ts_receipt_ns[n] = times[1]
    rows.sequence_number[n] = times[2]
    rows.file_row[n] = file_row
    rows.price_ticks[n] = price
    rows.size_lots[n] = size
    place[COUNT] = n + 1
