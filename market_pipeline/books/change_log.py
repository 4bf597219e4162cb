"""The log of a replay: its messages, and the changes of levels that lead from book to book."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.state import int64_columns

__all__ = [
    "Change",
    "Changes",
    "Log",
    "LoggedMessages",
    "room_for_changes",
    "room_for_messages",
]


class Change(IntEnum):
    """Where a change of the book comes from."""

    MESSAGE = 0
    OLD_MESSAGE = 1
    REFUSED = 2
    REPAIR = 3
    CLEARED = 4


class Changes(NamedTuple):
    """Changes of levels in the order they are to be made, shape (n,).

    Attributes:
        ts_origin_ns, ts_receipt_ns, sequence_number: int64, of the message, or of the raw row.
        feed_row: int64, the raw row it is, counted over the rows of the day; -1 for none.
        kind: int8, a `Change`: a row of the message itself; a row of an old message, which changes
            nothing; a row that is not on the grid, which changes nothing either; what a snapshot, a
            policy or a late message changed; in a log of levels only, the removal of all levels
            from a price up to another, which is in `size_lots`, before the repairs that set them.
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
    """Where messages and their changes are written.

    With `levels_only` the changes have kind, side, price and size, which lead to the same book, and
    no room for the rest. What was there before is not asked, so no second book is needed for it.
    """

    messages: LoggedMessages
    changes: Changes
    levels_only: bool = False


def room_for_changes(rows: int, *, levels_only: bool = False) -> Changes:
    """Room for so many changes."""
    sides, others = (np.empty(rows, np.int8), np.empty(rows, np.bool_)), 0 if levels_only else rows
    levels = int64_columns(rows, 2)
    return Changes._make([*int64_columns(others, 4), *sides, *levels, *int64_columns(others, 1)])


def room_for_messages(rows: int) -> LoggedMessages:
    """Room for so many messages."""
    return LoggedMessages._make([*int64_columns(rows, 8), np.empty(rows, np.uint16)])
