"""What goes into and out of the rebuild kernel: its arrays and options.

Everything is a plain array or a number in a named tuple, so that numba reads it as it is and a
rebuild can be stopped, written down and resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DEPTH_LEVELS",
    "BboRows",
    "Deltas",
    "DepthRows",
    "Evidence",
    "Feed",
    "History",
    "Marks",
    "Options",
    "Outputs",
    "Proof",
    "Repair",
    "Repairs",
    "Resync",
    "Snapshots",
    "Status",
    "as_input",
    "int64_columns",
    "new_history",
    "read_only",
    "room_for_bbo",
    "room_for_depth",
    "rows_behind",
]

_Scalar = TypeVar("_Scalar", bound=np.generic)
_Made = TypeVar("_Made")

DEPTH_LEVELS = 20


class Status(IntEnum):
    """Why `advance` returned."""

    DONE = 0
    NEEDS_ROWS = 1
    NEEDS_SNAPSHOTS = 2
    OUTPUT_FULL = 3
    KEYFRAME_DUE = 4
    NEEDS_WINDOW = 5
    SNAPSHOT_DUE = 6
    MESSAGE = 7


class Resync(IntEnum):
    """When a snapshot after the seed replaces the book inside its window."""

    NEVER = 0
    WHEN_INVALID = 1
    ALWAYS = 2


class Deltas(NamedTuple):
    """Delta rows in feed order, shape (n,); a message is the rows of equal sequence and receipt.

    `size_lots` 0 removes the level; -1 marks a row that could not be represented and is refused.
    """

    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    is_bid: NDArray[np.bool_]
    price_ticks: NDArray[np.int64]
    size_lots: NDArray[np.int64]


class Snapshots(NamedTuple):
    """Snapshots in feed order: n of them, up to `levels` a side, best first, padded with size 0.

    Attributes:
        ts_receipt_ns: Sound receipt times (see `books.soundness`).
        usable: False where the snapshot itself is not a book (crossed, unordered, off the grid).
        placeable: False where its number contradicts those around it, or had passed already.
        epoch: How often the numbers began anew before it.
        content: A hash of its levels.
    """

    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    usable: NDArray[np.bool_]
    placeable: NDArray[np.bool_]
    epoch: NDArray[np.int64]
    content: NDArray[np.int64]
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]


class Marks(NamedTuple):
    """The messages of a batch that something is to be done about, shape (n,), int64.

    Attributes:
        row: Their first rows, counted over all rows of the feed, ascending.
        bits: `soundness.Mark`.
    """

    row: NDArray[np.int64]
    bits: NDArray[np.int64]


class Feed(NamedTuple):
    """What the kernel reads.

    Attributes:
        deltas, marks, snapshots: A batch each.
        gap_rows: int64, ascending, counted over all rows of the feed: the first rows of messages
            before which others are lost.
        recovered_rows: int64, the same where a snapshot right before the message leads to it.
        final: Whether no rows come after these, so that the last message is complete.
        more_snapshots: Whether the feed has snapshots after these.
    """

    deltas: Deltas
    marks: Marks
    snapshots: Snapshots
    gap_rows: NDArray[np.int64]
    recovered_rows: NDArray[np.int64]
    final: bool
    more_snapshots: bool


class BboRows(NamedTuple):
    """Where the best bid and ask after each message are written; a side of size 0 is empty.

    `verified` is filled in by `books.lookback`, which also adds to the flags.
    """

    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]
    flags: NDArray[np.uint16]
    verified: NDArray[np.bool_]


class DepthRows(NamedTuple):
    """Where the top levels are written, shape (n, 20) a side, best first, padded with size 0.

    `message` is the row of the same message in the BBO rows, counted over the feed; the confirmed
    levels of a side are its first ones, as far as a snapshot has shown all there is.
    """

    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]
    flags: NDArray[np.uint16]
    verified: NDArray[np.bool_]
    message: NDArray[np.int64]
    bid_levels_confirmed: NDArray[np.int8]
    ask_levels_confirmed: NDArray[np.int8]


class Repair(IntEnum):
    """What changed the book, or the trust in it, besides its messages."""

    SEED = 1
    RESYNC = 2
    CONFIRMED = 3
    UNCROSS = 4


class Repairs(NamedTuple):
    """Where each repair is written, shape (n,), int64, in the order they happened.

    Attributes:
        kind: A `Repair`: the book was seeded from a snapshot, replaced inside a snapshot's window,
            found right again by a match after a gap or a mismatch, or had stale crossing levels
            removed.
        message: How many messages had been closed before; the repair shows in that row (from 0).
        ts_receipt_ns, sequence_number: Of the snapshot, or of the message that crossed the book.
        levels: Levels set (SEED, RESYNC), equal (CONFIRMED) or removed (UNCROSS).
        low_ticks, high_ticks: The prices between which the book was changed or confirmed.
    """

    kind: NDArray[np.int64]
    message: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    levels: NDArray[np.int64]
    low_ticks: NDArray[np.int64]
    high_ticks: NDArray[np.int64]


class Proof(IntEnum):
    """What a piece of evidence says of the book."""

    MATCH = 1
    ADOPTED = 2
    MISMATCH = 3
    EXPLAINED = 4
    LATE = 5


class Evidence(NamedTuple):
    """Where each piece of evidence is written, shape (n,), int64, in the order it was met.

    Attributes:
        kind: A `Proof`: a snapshot agreed with the book, or the chain of ids proves it; the book
            was seeded or replaced from a snapshot; a snapshot disagreed; the snapshots that
            disagreed since the last `MATCH` or `ADOPTED` turned out to be misplaced or stale; a
            message came late, so that earlier rows lacked it.
        message: The rows before this one are concerned; of `LATE`, those from it on.
        ts_receipt_ns, sequence_number: Of the snapshot or message.
        levels, differing: How many levels were compared, and of these how many differ; of `LATE`,
            `levels` is the message it came before.
    """

    kind: NDArray[np.int64]
    message: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    levels: NDArray[np.int64]
    differing: NDArray[np.int64]


class Outputs(NamedTuple):
    """Where the kernel writes."""

    bbo: BboRows
    depth: DepthRows
    repairs: Repairs
    evidence: Evidence


class History(NamedTuple):
    """What the kernel remembers of what it did: rings of the latest rows, messages and snapshots.

    Attributes:
        level, before, after: int64 (`HISTORY_ROWS`,): of each row applied, its price in ticks times
            two plus one for a bid, the size there before it, and once it is taken back the size
            to go forward to. A row of a message that came late has `LATE_ROW` added to its level.
        late_number: int64 (`HISTORY_ROWS`,): of each such row, the sequence number of its message.
        number, position: int64 (`HISTORY_MESSAGES`,): of each message, its sequence number and how
            many rows had been applied before it.
        content: int64 (`HISTORY_SNAPSHOTS`,): hashes of the snapshots that were met.
        bid_price_ticks, bid_size_lots, ask_price_ticks, ask_size_lots: int64 (1, levels), the
            snapshot that disagreed and waits for the next messages.
        own_price_ticks, own_size_lots: int64 (2, levels), bids and asks of the book as it was when
            the latest snapshot was met.
    """

    level: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    late_number: NDArray[np.int64]
    number: NDArray[np.int64]
    position: NDArray[np.int64]
    content: NDArray[np.int64]
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]
    own_price_ticks: NDArray[np.int64]
    own_size_lots: NDArray[np.int64]


HISTORY_ROWS = 1 << 10
LATE_ROW = 1 << 62
HISTORY_MESSAGES = 1 << 10
HISTORY_SNAPSHOTS = 1 << 8


class Options(NamedTuple):
    """What to emit and when to repair the book; times in ns.

    `depth_interval_ns` 0 writes depth after every message, -1 never, otherwise after the last
    message of each interval of the receipt clock; `keyframe_interval_ns` 0 never stops for a
    keyframe. A book crossed for longer than `crossed_resync_ns` is invalid; with `uncross` the
    levels that a message crossed are removed from the side that it did not move.
    `snapshot_patience_ns` is how much older than the feed a snapshot may be by the receipt clock
    before its place is no longer waited for. Messages received before `day_start_ns`, or at
    `day_end_ns` or later, are none of the day. With `ids_prove` the ids link each message to the
    one before, so that the book is proven up to the next lost message. When it `is_logged` the
    kernel stops after every message up to which something else than messages changed the book, and
    after the one that the cursor names, before the next snapshot is met.
    """

    depth_interval_ns: int
    keyframe_interval_ns: int
    resync: int
    crossed_resync_ns: int
    uncross: bool
    snapshot_patience_ns: int
    day_start_ns: int
    day_end_ns: int
    ids_prove: bool
    is_logged: bool = False


def read_only(column: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """A contiguous view that is not writable, which is how kernels take what they only read.

    Arrays come from files both writable and not, which are two types to numba: each would have the
    kernel compiled once more.
    """
    view = np.ascontiguousarray(column).view()
    view.flags.writeable = False
    return view


def rows_behind(
    make: Callable[[Iterable[Any]], _Made], first: Sequence[Any], then: Sequence[Any]
) -> _Made:
    """The rows of two tuples of equal columns, one behind the other.

    `make` is the `_make` of their type: what a checker takes the columns of a tuple to have in
    common depends on the order in which it comes to modules.
    """
    return make(np.concatenate(pair) for pair in zip(first, then, strict=True))


_Columns = TypeVar("_Columns", Deltas, Marks, Snapshots)


def as_input(columns: _Columns) -> _Columns:
    """The same columns as the kernel takes them.

    The levels of snapshots are writable, as are those that it holds itself: what compares and loads
    levels is compiled for both at once.
    """
    return type(columns)._make(
        np.require(column, requirements=["C", "W"]) if column.ndim == 2 else read_only(column)
        for column in columns
    )


def int64_columns(rows: int, count: int) -> list[NDArray[np.int64]]:
    """So many arrays of so many rows, with anything in them."""
    return [np.empty(rows, np.int64) for _ in range(count)]


def room_for_bbo(rows: int) -> BboRows:
    """Room for so many BBO rows."""
    trust = np.empty(rows, np.uint16), np.zeros(rows, np.bool_)
    return BboRows._make([*int64_columns(rows, 7), *trust])


def room_for_depth(rows: int) -> DepthRows:
    """Room for so many depth rows."""
    return DepthRows._make(
        [
            *int64_columns(rows, 3),
            *(np.empty((rows, DEPTH_LEVELS), np.int64) for _ in range(4)),
            np.empty(rows, np.uint16),
            np.zeros(rows, np.bool_),
            *int64_columns(rows, 1),
            *(np.empty(rows, np.int8) for _ in range(2)),
        ]
    )


def new_history(levels: int = DEPTH_LEVELS) -> History:
    """The memory of a rebuild that has not begun; it can hold a snapshot of so many levels."""
    return History._make(
        [
            *(np.zeros(HISTORY_ROWS, np.int64) for _ in range(4)),
            *(np.zeros(HISTORY_MESSAGES, np.int64) for _ in range(2)),
            np.zeros(HISTORY_SNAPSHOTS, np.int64),
            *(np.zeros((1, levels), np.int64) for _ in range(4)),
            *(np.zeros((2, levels), np.int64) for _ in range(2)),
        ]
    )
