"""The scalars of a rebuild: their order in the kernel's register array, and their names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["HOURLY", "REGISTERS", "figures_of", "hourly_figures_of", "new_registers"]

# One mismatch: when it was, how much differed, and the touch on either side.
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
    "recovered_passed",
    "refused_since_snapshot",
    "snapshot_mismatch",
    "crossed_since_ns",
    "last_ts_receipt_ns",
    "last_ts_origin_ns",
    "last_sequence_number",
    "book_sequence_number",
    "last_bid_ticks",
    "last_ask_ticks",
    "last_flags",
    "last_move_message",
    "depth_time_ns",
    "keyframe_time_ns",
    "skipping",
    "skip_ts_receipt_ns",
    "skip_sequence_number",
    "late_from",
    "late_until",
    "leading_bad",
    "replaced_sequence_number",
    "once_flags",
    "epoch",
    "history_rows",
    "history_valid_from",
    "history_first_message",
    "history_snapshots",
    "last_anchor",
    "soft_doubts",
    "hard_doubts",
    "misplaced_run",
    "misplaced_lag",
    "stale_run",
    "stale_book",
    "stale_lag",
    "pending",
    "pending_message",
    "pending_back",
    "pending_in_step",
    "pending_ts_receipt_ns",
    "pending_sequence_number",
    "matched_message",
    "matched_sequence_number",
    "last_compared_ns",
    "uncompared_since_ns",
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
    "snapshots_uncompared",
    "first_uncompared_ns",
    "longest_uncompared_duration_ns",
    "longest_uncompared_ns",
    "snapshots_bad_number",
    "snapshots_passed",
    "snapshots_never_reached",
    "snapshots_off_number",
    "snapshots_misplaced",
    "first_misplaced_ns",
    "first_misplaced_sequence_number",
    "snapshots_stale",
    "first_stale_ns",
    "first_stale_sequence_number",
    "stale_messages",
    "repeated_messages",
    "late_messages",
    "first_old_ns",
    "first_old_sequence_number",
    "restarts",
    "first_restart_ns",
    "split_messages",
    "first_split_ns",
    "bad_sequences",
    "first_bad_sequence_ns",
    "bad_receipt_stamps",
    "bad_origin_stamps",
    "outside_day_messages",
    "seed_sequence_number",
    "seed_ts_receipt_ns",
    "resyncs",
    "levels_learned",
    "snapshots_compared",
    "snapshots_mismatched",
    "snapshot_levels",
    "snapshot_levels_matching",
    "snapshot_levels_missing",
    "snapshot_levels_ours",
    "snapshot_levels_ghost",
    "snapshot_max_mid_deviation_half_ticks",
    "snapshot_size_lots",
    "snapshot_size_lots_carry",
    "snapshot_size_error_lots",
    "snapshot_size_error_lots_carry",
    *(f"{place}_mismatch_{name}" for place in ("first", "worst") for name in _PLACE),
)
"""The scalars of a rebuild in the order of its int64 register array: state first, then counters."""

HOURLY = (
    "snapshots_compared_per_hour",
    "snapshots_mismatched_per_hour",
    "snapshot_levels_differing_per_hour",
)
"""What is counted by UTC hour of receipt: 24 registers each, behind the scalars."""

# In the order of `REGISTERS`.
(
    OPEN, OPEN_ORIGIN, OPEN_RECEIPT, OPEN_SEQUENCE, SEEDED, BID_HORIZON, ASK_HORIZON, GAP,
    GAPS_PASSED, RECOVERED_PASSED, REFUSED_SINCE, SNAPSHOT_MISMATCH, CROSSED_SINCE, LAST_RECEIPT,
    LAST_ORIGIN, LAST_SEQUENCE, BOOK_SEQUENCE, LAST_BID, LAST_ASK, LAST_FLAGS, LAST_MOVE,
    DEPTH_TIME, KEYFRAME_TIME, SKIPPING, SKIP_RECEIPT, SKIP_SEQUENCE, LATE_FROM, LATE_UNTIL,
    LEADING_BAD, REPLACED_SEQUENCE, ONCE_FLAGS, EPOCH, HISTORY, VALID_FROM, FIRST_MESSAGE,
    HISTORY_CONTENTS, LAST_ANCHOR, SOFT_DOUBTS, HARD_DOUBTS, MISPLACED_RUN, MISPLACED_LAG,
    STALE_RUN, STALE_BOOK, STALE_LAG, PENDING, PENDING_MESSAGE, PENDING_BACK, PENDING_IN_STEP,
    PENDING_RECEIPT, PENDING_SEQUENCE, MATCHED_MESSAGE, MATCHED_SEQUENCE, LAST_COMPARED,
    UNCOMPARED_SINCE, ROWS, MESSAGES, GAPS, UNKNOWN_REMOVALS, REFUSED_ROWS, BACKWARDS,
    CROSSED_MESSAGES, CROSSED_NS, LOCKED_MESSAGES, LOCKED_NS, UNCROSSED, NEGATIVE_LATENCY,
    MIN_LATENCY, MAX_LATENCY, SNAPSHOTS, UNUSABLE, UNPLACED, UNCOMPARED, FIRST_UNCOMPARED,
    LONGEST_UNCOMPARED_DURATION, LONGEST_UNCOMPARED, BAD_NUMBER, PASSED, NEVER_REACHED,
    OFF_NUMBER, MISPLACED, FIRST_MISPLACED, FIRST_MISPLACED_SEQUENCE, STALE, FIRST_STALE,
    FIRST_STALE_SEQUENCE, STALE_MESSAGES, REPEATED_MESSAGES, LATE_MESSAGES, FIRST_OLD,
    FIRST_OLD_SEQUENCE, RESTARTS, FIRST_RESTART, SPLIT_MESSAGES, FIRST_SPLIT, BAD_SEQUENCES,
    FIRST_BAD_SEQUENCE, BAD_RECEIPT_STAMPS, BAD_ORIGIN_STAMPS, OUTSIDE_DAY, SEED_SEQUENCE,
    SEED_RECEIPT, RESYNCS, LEARNED, SNAPSHOTS_COMPARED, SNAPSHOTS_MISMATCHED, SNAPSHOT_LEVELS,
    SNAPSHOT_MATCHING, SNAPSHOT_MISSING, SNAPSHOT_OURS, SNAPSHOT_GHOST, SNAPSHOT_MID,
    SNAPSHOT_SIZE, SNAPSHOT_SIZE_CARRY, SNAPSHOT_SIZE_ERROR, SNAPSHOT_SIZE_ERROR_CARRY,
    FIRST_MISMATCH,
) = range(len(REGISTERS) - 2 * len(_PLACE) + 1)  # fmt: skip
WORST_MISMATCH = FIRST_MISMATCH + len(_PLACE)
PLACE_LEVELS_DIFFERING = _PLACE.index("levels_differing")

COMPARED_BY_HOUR, MISMATCHED_BY_HOUR, DIFFERING_BY_HOUR = (
    len(REGISTERS) + 24 * k for k in range(len(HOURLY))
)

CARRY_BITS = 32
"""A sum of sizes may pass 64 bits; a register and its carry hold it exactly."""

# Moving the window costs about as much as a hundred thousand messages, so a market that jumps to
# and fro is served from the far arrays (exact, only slower) instead of moved each time.
MESSAGES_BETWEEN_MOVES = 100_000


def new_registers() -> NDArray[np.int64]:
    """The registers of a rebuild that has not begun."""
    registers = np.zeros(len(REGISTERS) + 24 * len(HOURLY), np.int64)
    registers[LAST_MOVE] = -MESSAGES_BETWEEN_MOVES
    for number in (LAST_SEQUENCE, BOOK_SEQUENCE, REPLACED_SEQUENCE):
        registers[number] = np.iinfo(np.int64).min
    registers[MATCHED_MESSAGE] = -1
    registers[LAST_BID] = -np.iinfo(np.int64).max
    registers[LAST_ASK] = np.iinfo(np.int64).max
    registers[MIN_LATENCY] = np.iinfo(np.int64).max
    registers[MAX_LATENCY] = np.iinfo(np.int64).min
    return registers


def figures_of(registers: NDArray[np.int64]) -> dict[str, int]:
    """The scalars by name, each sum with its carry as one number."""
    figures = dict(zip(REGISTERS, registers[: len(REGISTERS)].tolist(), strict=True))
    for name in ("snapshot_size_lots", "snapshot_size_error_lots"):
        figures[name] += figures.pop(f"{name}_carry") << CARRY_BITS
    return figures


def hourly_figures_of(registers: NDArray[np.int64]) -> dict[str, list[int]]:
    """What is counted by UTC hour, by name: 24 entries each."""
    by_hour = registers[len(REGISTERS) :].reshape(len(HOURLY), 24).tolist()
    return dict(zip(HOURLY, by_hour, strict=True))
