"""How an instrument's day was rebuilt: a row of `books.rebuilds`, of which the rest is made."""

# ruff: noqa: RUF009 - `table_column` and `figure` make dataclass fields, which is what belongs there.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from market_pipeline.warehouse.records import Columns, Identity, figure, table_column

if TYPE_CHECKING:
    from market_pipeline.books.scale import Scale

__all__ = ["KernelFigures", "Outcome", "RebuildRecord"]

Outcome = Literal["rebuilt", "no_data", "quarantined"]


@dataclass(frozen=True, kw_only=True)
class _Rules(Columns):
    """What became of the day, and by which rules."""

    outcome: Outcome = table_column("rebuilt, no_data (nothing there) or quarantined.")
    failure_kind: str | None = figure("Class of the error; null if rebuilt.")
    failure: str | None = figure("The error in full; null if rebuilt.")
    strategy: str | None = figure("full_deltas, snapshots_only (a row per snapshot) or none.")
    strategy_reason: str | None = figure("Why that one, in a sentence.")
    policies: str | None = figure("The instrument's policies in force, a JSON object.")
    tick: str | None = figure("Tick of that day, an exact decimal.")
    lot: str | None = figure("Lot of that day, an exact decimal.")
    tick_inferred: bool | None = figure("The tick was inferred from the day's prices.")
    lot_inferred: bool | None = figure("The lot was inferred from the day's sizes.")


@dataclass(frozen=True, kw_only=True)
class KernelFigures(Columns):
    """What a rebuild counted and located: its registers in the units of the table."""

    rows: int | None = figure("Delta rows applied or refused.")
    messages: int | None = figure("Messages, each one row of books.bbo.")
    snapshots: int | None = figure("Snapshots met.")
    snapshots_unusable: int | None = figure("Snapshots that are no book (crossed, off grid).")
    snapshots_unplaced: int | None = figure("Snapshots whose number never came or had passed.")
    snapshots_uncompared: int | None = figure("Snapshots after the seed compared with nothing.")
    first_uncompared_ns: int | None = figure("Receipt time of the first of them, ns UTC.")
    longest_uncompared_seconds: float | None = figure(
        "Longest time from one compared snapshot to the next while others came."
    )
    longest_uncompared_ns: int | None = figure("When that time began, ns UTC.")
    uncompared_reasons: str | None = figure("Why they were not compared; null if all were.")
    snapshots_off_number: int | None = figure(
        "Compared snapshots whose number is not that of a message."
    )
    snapshots_misplaced: int | None = figure(
        "Snapshots that disagree at their number and agree at a neighbouring message."
    )
    first_misplaced_ns: int | None = figure("Receipt time of the first of them, ns UTC.")
    first_misplaced_sequence_number: int | None = figure("Its sequence number.")
    snapshots_stale: int | None = figure(
        "Snapshots that disagree and repeat the content of an earlier one."
    )
    first_stale_ns: int | None = figure("Receipt time of the first of them, ns UTC.")
    first_stale_sequence_number: int | None = figure("Its sequence number.")
    repeated_messages: int | None = figure("Messages whose number came before; not applied.")
    late_messages: int | None = figure("Messages applied late, as far as none had overtaken them.")
    stale_messages: int | None = figure("Messages older than what is remembered; not applied.")
    first_old_ns: int | None = figure("Receipt time of the first of these three, ns UTC.")
    first_old_sequence_number: int | None = figure("Its sequence number.")
    restarts: int | None = figure("Times the sequence numbers began anew.")
    first_restart_ns: int | None = figure("Receipt time of the first, ns UTC.")
    split_messages: int | None = figure("Messages that are only a part of the next one.")
    first_split_ns: int | None = figure("Receipt time of the first, ns UTC.")
    bad_sequences: int | None = figure("Messages with a number that others contradict.")
    first_bad_sequence_ns: int | None = figure("Receipt time of the first, ns UTC.")
    bad_receipt_stamps: int | None = figure(
        "Messages whose receipt time contradicts those around it."
    )
    bad_origin_stamps: int | None = figure(
        "Messages whose exchange time contradicts those around it."
    )
    outside_day_messages: int | None = figure("Messages received outside the UTC day.")
    seed: str | None = figure("What the day began with: first_snapshot or previous_close.")
    seed_sequence_number: int | None = figure("Its sequence number; null if there was none.")
    seed_ts_receipt_ns: int | None = figure("Its receipt time, ns UTC.")
    seed_refused: str | None = figure("Why the previous close was not used, if asked for.")
    resyncs: int | None = figure("Times a later snapshot replaced the book in its window.")
    levels_learned: int | None = figure(
        "Levels beyond the horizon learned from snapshots that matched."
    )
    gaps: int | None = figure("Messages before which others are lost, suspected or proven.")
    crossed_messages: int | None = figure("Rows of books.bbo with the bid above the ask.")
    crossed_seconds: float | None = figure("Time from such rows to the next ones.")
    locked_messages: int | None = figure("Rows of books.bbo with the bid equal to the ask.")
    locked_seconds: float | None = figure("Time from such rows to the next ones.")
    uncrossed_levels: int | None = figure("Stale levels removed by the policy uncross.")
    min_latency_ms: float | None = figure("Smallest receipt minus exchange time of a message.")
    max_latency_ms: float | None = figure("Largest receipt minus exchange time of a message.")
    negative_latency_messages: int | None = figure("Messages received before they were sent.")
    unknown_removals: int | None = figure("Removals of a price the book did not hold.")
    snapshots_compared: int | None = figure(
        "Later snapshots compared at their own sequence number."
    )
    snapshots_mismatched: int | None = figure("Of these, with a level other than ours.")
    first_mismatch_ns: int | None = figure("Receipt time of the first of them, ns UTC.")
    first_mismatch_sequence_number: int | None = figure("Its sequence number.")
    first_mismatch_levels_differing: int | None = figure("Levels that differed in it.")
    first_mismatch_ours: str | None = figure("Our best bid and ask then, with sizes.")
    first_mismatch_theirs: str | None = figure("Those of the snapshot.")
    worst_mismatch_ns: int | None = figure(
        "Receipt time of the mismatch with the largest difference of the mid, then of levels."
    )
    worst_mismatch_sequence_number: int | None = figure("Its sequence number.")
    worst_mismatch_levels_differing: int | None = figure("Levels that differed in it.")
    worst_mismatch_ours: str | None = figure("Our best bid and ask then, with sizes.")
    worst_mismatch_theirs: str | None = figure("Those of the snapshot.")
    snapshot_levels: int | None = figure("Snapshot levels compared, within the known horizon.")
    snapshot_levels_matching: int | None = figure("Of these, equal in price and size.")
    snapshot_levels_missing: int | None = figure("Of these, not in our book.")
    snapshot_levels_ours: int | None = figure("Our levels in the snapshots' windows.")
    snapshot_levels_ghost: int | None = figure("Of these, not in the snapshot.")
    snapshot_size_error: float | None = figure(
        "Size differences of all levels over the snapshots' sizes."
    )
    max_mid_deviation_ticks: float | None = figure("Largest difference of the mid to a snapshot's.")
    snapshots_compared_per_hour: tuple[int, ...] | None = figure(
        "Compared snapshots in each UTC hour, 24 entries."
    )
    snapshots_mismatched_per_hour: tuple[int, ...] | None = figure("Mismatches in each UTC hour.")
    snapshot_levels_differing_per_hour: tuple[int, ...] | None = figure(
        "Levels that differed in each UTC hour."
    )
    known_low_price: float | None = figure("Lowest confirmed price; null without a snapshot.")
    known_high_price: float | None = figure("Highest confirmed price; null without a snapshot.")
    price_losses: int | None = figure("Prices that are not on the tick.")
    size_losses: int | None = figure("Sizes that are not on the lot.")
    price_loss_files: tuple[str, ...] | None = figure("Files of the first ten of these prices.")
    price_loss_rows: tuple[int, ...] | None = figure("Their rows.")
    price_loss_values: tuple[float, ...] | None = figure("Their values.")
    size_loss_files: tuple[str, ...] | None = figure("Files of the first ten of these sizes.")
    size_loss_rows: tuple[int, ...] | None = figure("Their rows.")
    size_loss_values: tuple[float, ...] | None = figure("Their values.")


@dataclass(frozen=True, kw_only=True)
class _Bytes(Columns):
    """What was read and what came out."""

    streamed_row_groups: int | None = figure("Raw row groups too large to be decoded whole.")
    bytes_in_flight: int | None = figure("Most decoded bytes of raw rows held at once.")
    input_sha256: tuple[str, ...] | None = figure("SHA-256 of the raw files read, in order.")
    output_sha256: str | None = figure("SHA-256 over those of the published books.bbo files.")
    code_version: str | None = figure("Version of the code that rebuilt the day.")


@dataclass(frozen=True, kw_only=True)
class RebuildRecord(Identity, _Rules, KernelFigures, _Bytes):
    """One row of `books.rebuilds`; the fields are its columns.

    A figure is None for a day that was not rebuilt, and where an earlier version did not have it.
    """

    @property
    def is_of_snapshots(self) -> bool:
        """Whether the day is published from its snapshots, a row for each, and not rebuilt."""
        return self.strategy == "snapshots_only"

    @property
    def scales(self) -> tuple[Scale, Scale]:
        """The tick and the lot of a day that was rebuilt."""
        # It imports the compiler, which those who read rows need not wait for.
        from market_pipeline.books.scale import scales_of  # noqa: PLC0415

        return scales_of(self.tick, self.lot)
