"""The row of `quality.validation_report`: every column, its type and one sentence, in one place."""

# ruff: noqa: RUF009 - `_required` and `_column` make dataclass fields, which is what belongs there.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any, Literal

from market_pipeline.warehouse.tables import Column, Table

__all__ = ["VALIDATION_REPORT", "Condition", "Outcome", "ReportRow"]

Condition = Literal["available", "degraded", "pending", "missing"]
Outcome = Literal["rebuilt", "no_data", "quarantined"]


def _required(sql_type: str, description: str) -> Any:
    return field(metadata={"type": sql_type, "description": description})


def _column(sql_type: str, description: str, default: object = None) -> Any:
    return field(default=default, metadata={"type": sql_type, "description": description})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow:
    """One row of `quality.validation_report`; the fields are its columns, in order.

    None is SQL's null. Every figure is None for a day that was not rebuilt.
    """

    exchange: str = _required("VARCHAR", "Venue, upper case.")
    symbol: str = _required("VARCHAR", "Symbol at the venue, upper case.")
    dt: date = _required("DATE", "UTC day of receipt.")
    condition: Condition | None = _column("VARCHAR", "available, degraded, pending or missing.")
    reasons: tuple[str, ...] = _column(
        "VARCHAR[]", "One sentence per reason; empty if available.", ()
    )
    warnings: tuple[str, ...] = _column(
        "VARCHAR[]", "Failed checks that do not change the condition.", ()
    )
    unmeasured_checks: tuple[str, ...] = _column(
        "VARCHAR[]", "Checks whose figures could not be measured; each has failed.", ()
    )
    unmeasured_errors: tuple[str, ...] = _column(
        "VARCHAR[]", "The error that each of these checks met.", ()
    )
    thresholds: str | None = _column(
        "VARCHAR", "The thresholds that the verdict was given by, a JSON object."
    )
    outcome: Outcome = _required("VARCHAR", "rebuilt, no_data (no file or no row) or quarantined.")
    failure_kind: str | None = _column("VARCHAR", "Class of the error; null if rebuilt.")
    failure: str | None = _column(
        "VARCHAR", "The error with file, row and next step; null if rebuilt."
    )
    seed: str | None = _column("VARCHAR", "What the book was seeded from; null if from nothing.")
    strategy: str | None = _column(
        "VARCHAR", "full_deltas, or snapshots_only where no delta could be used."
    )
    strategy_reason: str | None = _column("VARCHAR", "Why that one, in a sentence.")
    rows: int | None = _column("BIGINT", "Raw delta rows read.")
    messages: int | None = _column("BIGINT", "Messages applied, each one row of books.bbo.")
    snapshots: int | None = _column("BIGINT", "Raw snapshot rows read.")
    trades: int | None = _column("BIGINT", "Trades read; null if there was no trades file.")
    first_message_ns: int | None = _column("BIGINT", "Receipt time of the first message, ns UTC.")
    last_message_ns: int | None = _column("BIGINT", "Receipt time of the last message, ns UTC.")
    observed_seconds: float | None = _column(
        "DOUBLE", "First to last message, without gaps and holes."
    )
    missing_seconds: float | None = _column(
        "DOUBLE", "Seconds of the UTC day that were not observed."
    )
    valid_seconds: float | None = _column("DOUBLE", "Observed seconds in which the book was valid.")
    verified_seconds: float | None = _column(
        "DOUBLE", "Valid seconds between two pieces of evidence that agree."
    )
    unverified_seconds: float | None = _column(
        "DOUBLE", "Valid seconds in which nothing could have shown a wrong book."
    )
    unconfirmed_seconds: float | None = _column(
        "DOUBLE", "Valid seconds with a touch beyond the levels any snapshot confirmed."
    )
    invalid_seconds: float | None = _column(
        "DOUBLE", "Observed seconds invalid, crossed time aside."
    )
    not_seeded_seconds: float | None = _column(
        "DOUBLE", "Observed seconds before the first snapshot."
    )
    after_gap_seconds: float | None = _column(
        "DOUBLE", "Observed seconds from a gap to the next anchor."
    )
    stale_seconds: float | None = _column("DOUBLE", "Observed seconds with a stale book.")
    snapshot_mismatch_seconds: float | None = _column(
        "DOUBLE", "Observed seconds after a mismatch."
    )
    precision_loss_seconds: float | None = _column(
        "DOUBLE", "Observed seconds after a refused value."
    )
    unsound_seconds: float | None = _column(
        "DOUBLE", "Observed seconds of messages with a stamp or number that others contradict."
    )
    gap_count: int | None = _column(
        "BIGINT", "Suspected gaps: silences while the market went on, and outages."
    )
    gap_seconds: float | None = _column("DOUBLE", "Their total length.")
    longest_gap_seconds: float | None = _column("DOUBLE", "Length of the longest; 0 without one.")
    longest_gap_ns: int | None = _column(
        "BIGINT", "Start of the longest, ns UTC; null without one."
    )
    first_gap_ns: int | None = _column("BIGINT", "Start of the first, ns UTC; null without one.")
    gap_threshold_seconds: float | None = _column("DOUBLE", "A silence had to be longer than this.")
    gap_starts_ns: tuple[int, ...] | None = _column("BIGINT[]", "Start of every gap, ns UTC.")
    gap_ends_ns: tuple[int, ...] | None = _column("BIGINT[]", "End of every gap, ns UTC.")
    gap_trades: tuple[int, ...] | None = _column("BIGINT[]", "Trades inside every gap.")
    gap_snapshots: tuple[int, ...] | None = _column(
        "BIGINT[]", "Snapshots inside every gap that show a changed book."
    )
    outage_count: int | None = _column("BIGINT", "Gaps that nothing but their length shows.")
    outage_seconds: float | None = _column("DOUBLE", "Their total length.")
    outage_factor: float | None = _column(
        "DOUBLE", "An outage had to be so many times as long as usual around it; null if unknown."
    )
    gaps_per_hour: tuple[int, ...] | None = _column(
        "BIGINT[]", "Gaps that began in each UTC hour, 24 entries."
    )
    proven_gap_count: int | None = _column(
        "BIGINT", "Gaps that ids prove; 0 where the source has none."
    )
    quiet_count: int | None = _column("BIGINT", "Long silences that are no gaps.")
    quiet_seconds: float | None = _column("DOUBLE", "Their total length.")
    longest_quiet_seconds: float | None = _column("DOUBLE", "Length of the longest; 0 without one.")
    longest_quiet_ns: int | None = _column(
        "BIGINT", "Start of the longest, ns UTC; null without one."
    )
    quiet_starts_ns: tuple[int, ...] | None = _column(
        "BIGINT[]", "Start of every quiet hole, ns UTC."
    )
    quiet_ends_ns: tuple[int, ...] | None = _column("BIGINT[]", "End of every quiet hole, ns UTC.")
    head_gap_seconds: float | None = _column("DOUBLE", "From the day's start to the first message.")
    tail_gap_seconds: float | None = _column("DOUBLE", "From the last message to the day's end.")
    sequence_backwards: int | None = _column(
        "BIGINT", "Messages whose sequence number went backwards."
    )
    first_sequence_backwards_ns: int | None = _column("BIGINT", "The first of them, ns UTC.")
    unordered_messages: int | None = _column(
        "BIGINT", "Messages received before the one they stand behind."
    )
    duplicate_messages: int | None = _column("BIGINT", "Messages that came before already.")
    stale_messages: int | None = _column(
        "BIGINT", "Messages older than what is remembered; not applied."
    )
    repeated_messages: int | None = _column(
        "BIGINT", "Messages whose number came before; not applied again."
    )
    late_messages: int | None = _column(
        "BIGINT", "Messages behind later ones; applied where none had overtaken them."
    )
    sequence_restarts: int | None = _column("BIGINT", "Times the sequence numbers began anew.")
    split_messages: int | None = _column("BIGINT", "Messages that are only a part of the next one.")
    bad_sequences: int | None = _column(
        "BIGINT", "Messages whose sequence number contradicts those around them."
    )
    first_old_ns: int | None = _column(
        "BIGINT", "Receipt time of the first of these three, ns UTC."
    )
    first_restart_ns: int | None = _column("BIGINT", "Receipt time of the first restart, ns UTC.")
    first_split_ns: int | None = _column("BIGINT", "Receipt time of the first split one, ns UTC.")
    first_bad_sequence_ns: int | None = _column(
        "BIGINT", "Receipt time of the first bad number, ns UTC."
    )
    unordered_per_hour: tuple[int, ...] | None = _column(
        "BIGINT[]", "Unordered, double and backward messages by UTC hour."
    )
    unreadable_tables: int | None = _column(
        "BIGINT", "Raw tables with a file that cannot be read, or has other columns."
    )
    first_unreadable_table: str | None = _column("VARCHAR", "The error of the first of them.")
    delivery_remarks: tuple[str, ...] | None = _column(
        "VARCHAR[]", "What speaks against raw objects at the store; null if the lake is a folder."
    )
    domain_violations: int | None = _column(
        "BIGINT", "Raw values outside their domain, of all tables."
    )
    first_domain_violation: str | None = _column(
        "VARCHAR", "The first, with file, row, column and value."
    )
    deltas_outside_day: int | None = _column("BIGINT", "Delta rows received outside the UTC day.")
    snapshots_outside_day: int | None = _column(
        "BIGINT", "Snapshot rows received outside the UTC day."
    )
    trades_outside_day: int | None = _column("BIGINT", "Trades received outside the UTC day.")
    outside_day_share: float | None = _column(
        "DOUBLE", "The largest share of these in a table's rows."
    )
    outside_day_table: str | None = _column(
        "VARCHAR", "That table: deltas, snapshots or trades; null if all rows are inside."
    )
    outside_day: date | None = _column("DATE", "The UTC day that most of its rows outside are of.")
    earliest_outside_ns: int | None = _column(
        "BIGINT", "Earliest receipt time of the rows outside, ns UTC."
    )
    latest_outside_ns: int | None = _column(
        "BIGINT", "Latest receipt time of the rows outside, ns UTC."
    )
    files_outside_day: tuple[str, ...] | None = _column(
        "VARCHAR[]", "Raw files most of whose rows are outside; null if all rows are inside."
    )
    files_twice: int | None = _column("BIGINT", "Raw files with the bytes of another of the day.")
    trade_files_twice: int | None = _column("BIGINT", "Of these, trades.")
    first_file_twice: str | None = _column("VARCHAR", "The first of these, and the other.")
    files_elsewhere: int | None = _column(
        "BIGINT", "Raw files whose bytes another day, instrument or table has too."
    )
    files_elsewhere_doubtful: int | None = _column(
        "BIGINT", "Of these, files that neither times nor prices show to belong here."
    )
    first_file_elsewhere: str | None = _column(
        "VARCHAR", "The first of these, doubtful ones before others, and the other place."
    )
    first_price: float | None = _column(
        "DOUBLE", "Median of the day's first prices, of snapshots the mids."
    )
    price_day_before: float | None = _column(
        "DOUBLE", "Mid of the closing book of the day before, or its last raw prices."
    )
    price_day_before_apart: float | None = _column(
        "DOUBLE", "How many times the larger of both is the smaller."
    )
    price_tables_apart: float | None = _column(
        "DOUBLE", "The same between two raw tables of the day, the median over hours."
    )
    price_tables: str | None = _column("VARCHAR", "The two tables that are farthest apart.")
    foreign_price_table: str | None = _column(
        "VARCHAR", "The table that stands alone with its prices; null without one."
    )
    crossed_count: int | None = _column("BIGINT", "Runs of messages that left the book crossed.")
    crossed_seconds: float | None = _column("DOUBLE", "Observed seconds with a crossed book.")
    longest_crossed_seconds: float | None = _column("DOUBLE", "Length of the longest run.")
    longest_crossed_ns: int | None = _column("BIGINT", "Start of the longest run, ns UTC.")
    crossed_seconds_per_hour: tuple[float, ...] | None = _column(
        "DOUBLE[]", "Crossed seconds in each UTC hour, 24 entries."
    )
    first_crossed_ns: int | None = _column("BIGINT", "Start of the first run, ns UTC.")
    locked_count: int | None = _column("BIGINT", "Runs of messages that left the book locked.")
    locked_seconds: float | None = _column("DOUBLE", "Observed seconds with a locked book.")
    skew_p001_ms: float | None = _column("DOUBLE", "0.1 % quantile of receipt minus origin time.")
    skew_p01_ms: float | None = _column("DOUBLE", "1 % quantile of receipt minus origin time.")
    skew_p50_ms: float | None = _column("DOUBLE", "Median of receipt minus origin time.")
    skew_p99_ms: float | None = _column("DOUBLE", "99 % quantile of receipt minus origin time.")
    skew_p999_ms: float | None = _column("DOUBLE", "99.9 % quantile of receipt minus origin time.")
    skew_p50_ms_per_hour: tuple[float | None, ...] | None = _column(
        "DOUBLE[]", "Median by UTC hour; null without messages."
    )
    worst_skew_ms: float | None = _column("DOUBLE", "The one farthest from the median.")
    worst_skew_ns: int | None = _column("BIGINT", "Receipt time of that message, ns UTC.")
    negative_latency_share: float | None = _column(
        "DOUBLE", "Share of messages received before sent."
    )
    bad_receipt_stamps: int | None = _column(
        "BIGINT", "Messages whose receipt time contradicts those around them."
    )
    bad_origin_stamps: int | None = _column(
        "BIGINT", "Messages whose exchange time contradicts those around them."
    )
    first_bad_stamp: str | None = _column(
        "VARCHAR", "The first of both, by its clock and sequence number; null without one."
    )
    clock_drift_ppm: float | None = _column(
        "DOUBLE", "Gain of the receipt clock; null if too short or not to be told."
    )
    clock_drift_remark: str | None = _column(
        "VARCHAR", "What was left out of the drift, or why there is none; null if nothing."
    )
    clock_steps: int | None = _column("BIGINT", "Sudden shifts of one clock against the other.")
    largest_clock_step_ms: float | None = _column(
        "DOUBLE", "The largest, with its sign; null without one."
    )
    largest_clock_step_ns: int | None = _column("BIGINT", "Its receipt time, ns UTC.")
    first_clock_step_ns: int | None = _column("BIGINT", "Receipt time of the first, ns UTC.")
    origin_granularity_us: int | None = _column("BIGINT", "Step of the exchange's clock.")
    receipt_granularity_us: int | None = _column("BIGINT", "Step of the receipt clock.")
    price_precision_losses: int | None = _column(
        "BIGINT", "Prices that are not on the tick, or too large for their float to tell."
    )
    size_precision_losses: int | None = _column(
        "BIGINT", "Sizes that are not on the lot, or too large for their float to tell."
    )
    first_precision_file: str | None = _column(
        "VARCHAR", "File of the first loss, prices before sizes."
    )
    first_precision_row: int | None = _column("BIGINT", "Its zero-based row.")
    first_precision_column: str | None = _column("VARCHAR", "price or size.")
    first_precision_value: float | None = _column("DOUBLE", "The value as the vendor wrote it.")
    snapshot_precision_losses: int | None = _column(
        "BIGINT", "Such values of snapshots, which are not used; null on a day of snapshots."
    )
    first_snapshot_precision_loss: str | None = _column(
        "VARCHAR", "The first of these, with column, value, file and row."
    )
    unknown_removals: int | None = _column("BIGINT", "Removals of a price the book did not hold.")
    snapshots_compared: int | None = _column(
        "BIGINT", "Later snapshots compared with the rebuilt book."
    )
    snapshots_uncompared: int | None = _column(
        "BIGINT", "Snapshots after the seed that were compared with nothing."
    )
    uncompared_share: float | None = _column(
        "DOUBLE", "Share of the later snapshots; null without one."
    )
    uncompared_reasons: str | None = _column("VARCHAR", "Why, in a sentence.")
    first_uncompared_ns: int | None = _column("BIGINT", "Receipt time of the first, ns UTC.")
    longest_uncompared_seconds: float | None = _column(
        "DOUBLE", "Longest time from one compared snapshot to the next while others came."
    )
    longest_uncompared_ns: int | None = _column("BIGINT", "Its start, ns UTC.")
    snapshots_misplaced: int | None = _column(
        "BIGINT", "Snapshots that disagree at their number and agree at a neighbour of it."
    )
    first_misplaced_ns: int | None = _column("BIGINT", "Receipt time of the first of them, ns UTC.")
    snapshots_off_number: int | None = _column(
        "BIGINT", "Compared snapshots whose number is not that of a message."
    )
    snapshots_stale: int | None = _column(
        "BIGINT", "Snapshots that disagree and repeat the content of an earlier one."
    )
    first_stale_ns: int | None = _column("BIGINT", "Receipt time of the first of them, ns UTC.")
    snapshot_matching_share: float | None = _column(
        "DOUBLE", "Share of their levels equal in price and size."
    )
    max_mid_deviation_ticks: float | None = _column(
        "DOUBLE", "Largest difference of the mid to them."
    )
    ghost_share: float | None = _column(
        "DOUBLE", "Share of our levels in their window they do not hold."
    )
    missing_share: float | None = _column(
        "DOUBLE", "Share of their levels in the known window we do not hold."
    )
    snapshot_size_error: float | None = _column(
        "DOUBLE", "Size differences of all levels over the snapshots' sizes."
    )
    snapshots_mismatched: int | None = _column(
        "BIGINT", "Compared snapshots with a level other than ours."
    )
    first_mismatch_ns: int | None = _column("BIGINT", "Receipt time of the first of them, ns UTC.")
    snapshots_compared_per_hour: tuple[int, ...] | None = _column(
        "BIGINT[]", "Compared snapshots in each UTC hour, 24 entries."
    )
    snapshots_mismatched_per_hour: tuple[int, ...] | None = _column(
        "BIGINT[]", "Mismatches in each UTC hour."
    )
    snapshot_levels_differing_per_hour: tuple[int, ...] | None = _column(
        "BIGINT[]", "Levels that differed in each UTC hour."
    )
    longest_reconvergence_seconds: float | None = _column(
        "DOUBLE", "Longest time from a mismatch to a right book."
    )
    day_boundary_levels: int | None = _column(
        "BIGINT", "Levels compared across midnight; null without yesterday's closing book."
    )
    day_boundary_mismatch_share: float | None = _column("DOUBLE", "Share of them that differ.")
    day_boundary_mid_deviation_ticks: float | None = _column(
        "DOUBLE", "Difference of the mid across midnight."
    )
    day_boundary_pause_seconds: float | None = _column(
        "DOUBLE", "From yesterday's last message to today's first."
    )
    day_boundary_problem: str | None = _column(
        "VARCHAR", "Why the two days do not join, levels aside; null if they do."
    )
    trades_compared: int | None = _column(
        "BIGINT", "Taker orders (prints of one side and time) held against valid books."
    )
    trades_unplaced: int | None = _column(
        "BIGINT", "Trades whose exchange time contradicts those around them; not compared."
    )
    trades_through: int | None = _column("BIGINT", "Of these, printed outside the book.")
    worst_trade_through_ticks: float | None = _column(
        "DOUBLE", "Farthest of them from the touch, in ticks."
    )
    first_trade_through_ns: int | None = _column(
        "BIGINT", "Receipt time of the first of them, ns UTC."
    )
    trade_through_per_hour: tuple[int, ...] | None = _column(
        "BIGINT[]", "Orders outside the book in each UTC hour."
    )
    worst_trade_through_minute_share: float | None = _column(
        "DOUBLE", "Largest share of them in a minute; null if none has 20 orders."
    )
    worst_trade_through_minute_ns: int | None = _column(
        "BIGINT", "Start of that minute of receipt, ns UTC."
    )
    reference_minutes: int | None = _column("BIGINT", "Minutes rebuilt by the reference replay.")
    reference_messages: int | None = _column("BIGINT", "Messages compared in them.")
    reference_differing_messages: int | None = _column(
        "BIGINT", "Of these, with another book or flag."
    )
    reference_first_difference: str | None = _column(
        "VARCHAR", "The first of them: time, sequence number, ours and the replay's."
    )
    bars: int | None = _column("BIGINT", "Minute bars of trades; null without a trades file.")
    bar_violations: int | None = _column("BIGINT", "Bars that violate a rule, each counted once.")
    missing_bars: int | None = _column(
        "BIGINT", "Minutes without a trade between the first and the last bar."
    )
    first_bar_violation_ns: int | None = _column("BIGINT", "Start of the first such bar, ns UTC.")
    known_low_price: float | None = _column("DOUBLE", "Lowest price that a snapshot confirmed.")
    known_high_price: float | None = _column("DOUBLE", "Highest price that a snapshot confirmed.")
    tick: str | None = _column("VARCHAR", "Tick of that day, an exact decimal.")
    lot: str | None = _column("VARCHAR", "Lot of that day, an exact decimal.")
    tick_inferred: bool | None = _column("BOOLEAN", "The tick was inferred from the day's prices.")
    lot_inferred: bool | None = _column("BOOLEAN", "The lot was inferred from the day's sizes.")
    tick_seen: str | None = _column("VARCHAR", "Coarsest tick of the prices, outliers apart.")
    lot_seen: str | None = _column("VARCHAR", "Coarsest lot of the sizes, outliers apart.")
    tick_day_before: str | None = _column(
        "VARCHAR", "The tick_seen of the day before; null if unknown."
    )
    lot_day_before: str | None = _column(
        "VARCHAR", "The lot_seen of the day before; null if unknown."
    )
    step_change: str | None = _column(
        "VARCHAR", "How they changed overnight or during the day; null if chance explains it."
    )
    input_sha256: tuple[str, ...] | None = _column(
        "VARCHAR[]", "SHA-256 of every raw file read, in order."
    )
    code_version: str | None = _column("VARCHAR", "Version of the code that built the row.")

    @property
    def instrument_id(self) -> str:
        """The instrument as VENUE:SYMBOL."""
        return f"{self.exchange}:{self.symbol}"

    def as_record(self) -> dict[str, Any]:
        """The row as a dict of columns, lists in place of tuples."""
        record = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in record.items()
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ReportRow:
        """The row back from a dict of columns, as read from DuckDB, Polars or Arrow.

        Columns that this version does not know are left out; those it misses are None.
        """
        known = _NAMES & record.keys()
        values: dict[str, Any] = {name: record[name] for name in known}
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = tuple(value)
        return cls(**values)


_NAMES = frozenset(each.name for each in fields(ReportRow))

VALIDATION_REPORT = Table(
    schema="quality",
    name="validation_report",
    description=(
        "One row per configured instrument and UTC day: whether the rebuilt book can be used, why "
        "not, and every figure behind that. Figures are null where no book could be rebuilt."
    ),
    columns=tuple(Column(name=each.name, **each.metadata) for each in fields(ReportRow)),
    storage="duckdb",
)
