"""What goes into and out of the rebuild kernel: its arrays, options and registers.

Everything is a plain array or a number in a named tuple, so that numba reads it as it is and a
rebuild can be stopped, written down and resumed.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DEPTH_LEVELS",
    "HOURLY",
    "REGISTERS",
    "BboRows",
    "Deltas",
    "DepthRows",
    "Options",
    "Repair",
    "Repairs",
    "Resync",
    "Snapshots",
    "Status",
    "as_input",
    "figures_of",
    "hourly_figures_of",
    "new_registers",
    "read_only",
]

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

    `usable` is False where the snapshot itself is not a book (crossed, unordered, off the grid).
    """

    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    usable: NDArray[np.bool_]
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]


class BboRows(NamedTuple):
    """Where the best bid and ask after each message are written; a side of size 0 is empty."""

    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]
    flags: NDArray[np.uint16]


class DepthRows(NamedTuple):
    """Where the top levels are written, shape (n, 20) a side, best first, padded with size 0."""

    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]
    flags: NDArray[np.uint16]


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
            found right again by an exam after a gap or a failed exam, or had stale crossing levels
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


class Options(NamedTuple):
    """What to emit and when to mend the book; times in ns.

    `depth_interval_ns` 0 writes depth after every message, -1 never, otherwise after the last
    message of each interval of the receipt clock; `keyframe_interval_ns` 0 never stops for a
    keyframe. A book crossed for longer than `crossed_resync_ns` is invalid; with `uncross` the
    levels that a message crossed are removed from the side that it did not move.
    `snapshot_patience_ns` is how much older than the feed a snapshot may be by the receipt clock
    before its place is no longer waited for.
    """

    depth_interval_ns: int
    keyframe_interval_ns: int
    resync: int
    crossed_resync_ns: int
    uncross: bool
    snapshot_patience_ns: int


# One exam that is told: when it was, how much differed, and the touch on either side.
_PLACE = (
    "sequence_number",
    "ts_receipt_ns",
    "levels_differing",
    *(
        f"{whose}_{side}_{part}"
        for whose in ("our", "their")
        for side in ("bid", "ask")
        for part in ("ticks", "lots")
    ),
)

REGISTERS = (
    "open",
    "open_ts_origin_ns",
    "open_ts_receipt_ns",
    "open_sequence_number",
    "seeded",
    "bid_horizon_ticks",
    "ask_horizon_ticks",
    "gap",
    "gaps_passed",
    "mended_passed",
    "refused_since_snapshot",
    "failed_exam",
    "crossed_since_ns",
    "last_ts_receipt_ns",
    "last_sequence_number",
    "book_sequence_number",
    "last_bid_ticks",
    "last_ask_ticks",
    "last_flags",
    "last_move_message",
    "rows",
    "messages",
    "gaps",
    "unknown_removals",
    "refused_rows",
    "sequence_backwards",
    "crossed_messages",
    "crossed_ns",
    "locked_messages",
    "locked_ns",
    "uncrossed_levels",
    "negative_latency_messages",
    "min_latency_ns",
    "max_latency_ns",
    "snapshots",
    "snapshots_unusable",
    "snapshots_unplaced",
    "seed_sequence_number",
    "seed_ts_receipt_ns",
    "resyncs",
    "levels_learned",
    "exams",
    "exams_failed",
    "exam_levels",
    "exam_levels_matching",
    "exam_levels_missing",
    "exam_levels_ours",
    "exam_levels_ghost",
    "exam_max_mid_deviation_half_ticks",
    "exam_size_lots",
    "exam_size_lots_carry",
    "exam_size_error_lots",
    "exam_size_error_lots_carry",
    *(f"exam_{place}_{name}" for place in ("first_failed", "worst") for name in _PLACE),
)
"""The scalars of a rebuild in the order of its int64 register array: state first, then counters."""

HOURLY = ("exams_per_hour", "exams_failed_per_hour", "exam_levels_differing_per_hour")
"""What is counted by UTC hour of receipt: 24 registers each, behind the scalars."""

(
    OPEN,
    OPEN_ORIGIN,
    OPEN_RECEIPT,
    OPEN_SEQUENCE,
    SEEDED,
    BID_HORIZON,
    ASK_HORIZON,
    GAP,
    GAPS_PASSED,
    MENDED_PASSED,
    REFUSED_SINCE,
    FAILED_EXAM,
    CROSSED_SINCE,
    LAST_RECEIPT,
    LAST_SEQUENCE,
    BOOK_SEQUENCE,
    LAST_BID,
    LAST_ASK,
    LAST_FLAGS,
    LAST_MOVE,
    ROWS,
    MESSAGES,
    GAPS,
    UNKNOWN_REMOVALS,
    REFUSED_ROWS,
    BACKWARDS,
    CROSSED_MESSAGES,
    CROSSED_NS,
    LOCKED_MESSAGES,
    LOCKED_NS,
    UNCROSSED,
    NEGATIVE_LATENCY,
    MIN_LATENCY,
    MAX_LATENCY,
    SNAPSHOTS,
    UNUSABLE,
    UNPLACED,
    SEED_SEQUENCE,
    SEED_RECEIPT,
    RESYNCS,
    LEARNED,
    EXAMS,
    EXAMS_FAILED,
    EXAM_LEVELS,
    EXAM_MATCHING,
    EXAM_MISSING,
    EXAM_OURS,
    EXAM_GHOST,
    EXAM_MID,
    EXAM_SIZE,
    EXAM_SIZE_CARRY,
    EXAM_SIZE_ERROR,
    EXAM_SIZE_ERROR_CARRY,
    EXAM_FIRST_FAILED,
) = range(len(REGISTERS) - 2 * len(_PLACE) + 1)
EXAM_WORST = EXAM_FIRST_FAILED + len(_PLACE)
PLACE_LEVELS_DIFFERING = _PLACE.index("levels_differing")

EXAMS_BY_HOUR, FAILED_BY_HOUR, DIFFERING_BY_HOUR = (
    len(REGISTERS) + 24 * k for k in range(len(HOURLY))
)

CARRY_BITS = 32
"""A sum of sizes may pass 64 bits; a register and its carry hold it exactly."""

# Moving the window costs about as much as a hundred thousand messages, so a market that jumps to
# and fro is served from the far arrays (exact, only slower) instead of moved each time.
MESSAGES_BETWEEN_MOVES = 100_000


def read_only(column: NDArray[Any]) -> NDArray[Any]:
    """A contiguous view that is not writable, which is how kernels take what they only read.

    Arrays come from files both writable and not, which are two types to numba: each would have the
    kernel compiled once more.
    """
    view = np.ascontiguousarray(column).view()
    view.flags.writeable = False
    return view


_Columns = TypeVar("_Columns", Deltas, Snapshots)


def as_input(columns: _Columns) -> _Columns:
    """The same columns as the kernel takes them."""
    views: list[Any] = [read_only(column) for column in columns]
    return type(columns)(*views)


def new_registers() -> NDArray[np.int64]:
    """The registers of a rebuild that has not begun."""
    registers = np.zeros(len(REGISTERS) + 24 * len(HOURLY), np.int64)
    registers[LAST_MOVE] = -MESSAGES_BETWEEN_MOVES
    registers[LAST_SEQUENCE] = registers[BOOK_SEQUENCE] = np.iinfo(np.int64).min
    registers[LAST_BID] = -np.iinfo(np.int64).max
    registers[LAST_ASK] = np.iinfo(np.int64).max
    registers[MIN_LATENCY] = np.iinfo(np.int64).max
    registers[MAX_LATENCY] = np.iinfo(np.int64).min
    return registers


def figures_of(registers: NDArray[np.int64]) -> dict[str, int]:
    """The scalars by name, each sum with its carry as one number."""
    figures = dict(zip(REGISTERS, registers[: len(REGISTERS)].tolist(), strict=True))
    for name in ("exam_size_lots", "exam_size_error_lots"):
        figures[name] += figures.pop(f"{name}_carry") << CARRY_BITS
    return figures


def hourly_figures_of(registers: NDArray[np.int64]) -> dict[str, list[int]]:
    """What is counted by UTC hour, by name: 24 entries each."""
    by_hour = registers[len(REGISTERS) :].reshape(len(HOURLY), 24).tolist()
    return dict(zip(HOURLY, by_hour, strict=True))
