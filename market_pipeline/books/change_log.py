"""What a replay gives: its messages, and the changes of levels that lead from book to book."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.state import Deltas, int64_columns, read_only
from market_pipeline.mapped import ColumnArray

__all__ = [
    "Change",
    "Changes",
    "LevelRows",
    "Log",
    "LoggedMessages",
    "OtherChanges",
    "enlarged",
    "room_for_changes",
    "room_for_messages",
    "room_for_other_changes",
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


class LevelRows(NamedTuple):
    """Rows that set levels, shape (n,), not writable; one of -1 lots sets none.

    Attributes:
        is_bid: bool.
        price_ticks, size_lots: int64.
    """

    is_bid: NDArray[np.bool_]
    price_ticks: NDArray[np.int64]
    size_lots: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Deltas | Changes) -> LevelRows:
        """Those of raw rows, or of logged ones."""
        steps = read_only(rows.price_ticks), read_only(rows.size_lots)
        return cls(read_only(rows.is_bid), *steps)


class OtherChanges(NamedTuple):
    """Changes of levels in the order they are to be made, each after the rows of a message.

    Attributes:
        message: int64 (n,), which of the block's messages.
        is_cleared: bool, whether all levels from a price up to another, which is in `size_lots`,
            are removed.
        is_bid: bool.
        price_ticks, size_lots: int64.
    """

    message: NDArray[np.int64]
    is_cleared: NDArray[np.bool_]
    is_bid: NDArray[np.bool_]
    price_ticks: NDArray[np.int64]
    size_lots: NDArray[np.int64]


class LoggedMessages(NamedTuple):
    """Messages in order with the touch after each, shape (n,); a side of size 0 is empty.

    `start` and `end` are where the rows, or the changes, that lead to the book after it begin and
    end; what lies between two messages is of old ones, which change nothing. `flags` are those that
    are known when the message is applied.
    """

    start: NDArray[np.int64]
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


_Columns = TypeVar("_Columns", Changes, OtherChanges)


def room_for_changes(rows: int) -> Changes:
    """Room for so many changes."""
    sides = np.empty(rows, np.int8), np.empty(rows, np.bool_)
    return Changes._make([*int64_columns(rows, 4), *sides, *int64_columns(rows, 3)])


def room_for_messages(rows: int) -> LoggedMessages:
    """Room for so many messages."""
    return LoggedMessages._make([*int64_columns(rows, 9), np.empty(rows, np.uint16)])


def room_for_other_changes(rows: int) -> OtherChanges:
    """Room for so many."""
    message, price_ticks, size_lots = int64_columns(rows, 3)
    kinds = np.empty(rows, np.bool_), np.empty(rows, np.bool_)
    return OtherChanges(message, *kinds, price_ticks, size_lots)


def enlarged(columns: _Columns, written: int) -> _Columns:
    """The same columns with twice the room; so many rows are written."""
    before: tuple[ColumnArray, ...] = columns
    room: list[ColumnArray] = [np.empty(2 * column.size, column.dtype) for column in before]
    for old, new in zip(before, room, strict=True):
        new[:written] = old[:written]
    return type(columns)._make(room)
