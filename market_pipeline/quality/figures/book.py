"""Figures of the rebuilt book itself: its time, gaps, clocks, values and touch."""

from __future__ import annotations

from dataclasses import dataclass

from market_pipeline.warehouse.records import Columns, figure

__all__ = [
    "AppliedOrderFigures",
    "BadStampFigures",
    "CoverFigures",
    "CrossedFigures",
    "GapFigures",
    "PrecisionFigures",
    "ProvenGapFigures",
    "RebuildFigures",
    "SkewFigures",
    "ValidTimeFigures",
]


@dataclass(frozen=True, kw_only=True)
class RebuildFigures(Columns):
    """What the rebuild of a day read, and by which steps."""

    seed: str | None = figure("What the book was seeded from; null if from nothing.")
    strategy: str | None = figure("full_deltas, or snapshots_only where no delta could be used.")
    strategy_reason: str | None = figure("Why that one, in a sentence.")
    rows: int | None = figure("Raw delta rows read.")
    snapshots: int | None = figure("Raw snapshot rows read.")
    trades: int | None = figure("Trades read; null if there was no trades file.")
    unknown_removals: int | None = figure("Removals of a price the book did not hold.")
    known_low_price: float | None = figure("Lowest price that a snapshot confirmed.")
    known_high_price: float | None = figure("Highest price that a snapshot confirmed.")
    tick: str | None = figure("Tick of that day, an exact decimal.")
    lot: str | None = figure("Lot of that day, an exact decimal.")
    tick_inferred: bool | None = figure("The tick was inferred from the day's prices.")
    lot_inferred: bool | None = figure("The lot was inferred from the day's sizes.")
    input_sha256: tuple[str, ...] | None = figure("SHA-256 of every raw file read, in order.")
    code_version: str | None = figure("Version of the code that built the row.")


@dataclass(frozen=True, kw_only=True)
class CoverFigures(Columns):
    """Which part of the UTC day messages cover."""

    messages: int | None = figure("Messages applied, each one row of books.bbo.")
    first_message_ns: int | None = figure("Receipt time of the first message, ns UTC.")
    last_message_ns: int | None = figure("Receipt time of the last message, ns UTC.")
    quiet_count: int | None = figure("Long silences that are no gaps.")
    quiet_seconds: float | None = figure("Their total length.")
    longest_quiet_seconds: float | None = figure("Length of the longest; 0 without one.")
    longest_quiet_ns: int | None = figure("Start of the longest, ns UTC; null without one.")
    quiet_starts_ns: tuple[int, ...] | None = figure("Start of every quiet hole, ns UTC.")
    quiet_ends_ns: tuple[int, ...] | None = figure("End of every quiet hole, ns UTC.")
    head_gap_seconds: float | None = figure("From the day's start to the first message.")
    tail_gap_seconds: float | None = figure("From the last message to the day's end.")


@dataclass(frozen=True, kw_only=True)
class ValidTimeFigures(Columns):
    """How much of a day's observed time the book was valid, and why not."""

    observed_seconds: float | None = figure(
        "First to last message while listed, without gaps and holes."
    )
    missing_seconds: float | None = figure("Expected seconds that were not observed.")
    valid_seconds: float | None = figure("Observed seconds in which the book was valid.")
    verified_seconds: float | None = figure(
        "Valid seconds between two pieces of evidence that agree."
    )
    unverified_seconds: float | None = figure(
        "Valid seconds in which nothing could have shown a wrong book."
    )
    unconfirmed_seconds: float | None = figure(
        "Valid seconds with a touch beyond the levels any snapshot confirmed."
    )
    invalid_seconds: float | None = figure("Observed seconds invalid, crossed time aside.")
    not_seeded_seconds: float | None = figure("Observed seconds before the first snapshot.")
    after_gap_seconds: float | None = figure("Observed seconds from a gap to the next anchor.")
    stale_seconds: float | None = figure("Observed seconds with a stale book.")
    snapshot_mismatch_seconds: float | None = figure("Observed seconds after a mismatch.")
    precision_loss_seconds: float | None = figure("Observed seconds after a refused value.")
    unsound_seconds: float | None = figure(
        "Observed seconds of messages with a stamp or number that others contradict."
    )
    longest_reconvergence_seconds: float | None = figure(
        "Longest time from a mismatch to a right book."
    )


@dataclass(frozen=True, kw_only=True)
class GapFigures(Columns):
    """The suspected gaps of a day."""

    gap_count: int | None = figure(
        "Suspected gaps: silences while the market went on, and outages."
    )
    gap_seconds: float | None = figure("Their total length.")
    longest_gap_seconds: float | None = figure("Length of the longest; 0 without one.")
    longest_gap_ns: int | None = figure("Start of the longest, ns UTC; null without one.")
    first_gap_ns: int | None = figure("Start of the first, ns UTC; null without one.")
    gap_threshold_seconds: float | None = figure("A silence had to be longer than this.")
    gap_starts_ns: tuple[int, ...] | None = figure("Start of every gap, ns UTC.")
    gap_ends_ns: tuple[int, ...] | None = figure("End of every gap, ns UTC.")
    gap_trades: tuple[int, ...] | None = figure("Trades inside every gap.")
    gap_snapshots: tuple[int, ...] | None = figure(
        "Snapshots inside that show a changed book; 0 where trades show the gap."
    )
    outage_count: int | None = figure("Gaps that nothing but their length shows.")
    outage_seconds: float | None = figure("Their total length.")
    outage_factor: float | None = figure(
        "An outage had to be so many times as long as usual around it; null if unknown."
    )
    gaps_per_hour: tuple[int, ...] | None = figure("Gaps that began in each UTC hour, 24 entries.")
    sequence_backwards: int | None = figure("Messages whose sequence number went backwards.")
    first_sequence_backwards_ns: int | None = figure("The first of them, ns UTC.")


@dataclass(frozen=True, kw_only=True)
class ProvenGapFigures(Columns):
    """The gaps that ids prove."""

    proven_gap_count: int | None = figure("Gaps that ids prove; 0 where the source has none.")


@dataclass(frozen=True, kw_only=True)
class AppliedOrderFigures(Columns):
    """What the rebuild made of messages that stand wrong in their feed."""

    stale_messages: int | None = figure("Messages older than what is remembered; not applied.")
    repeated_messages: int | None = figure("Messages whose number came before; not applied again.")
    late_messages: int | None = figure(
        "Messages behind later ones; applied where none had overtaken them."
    )
    sequence_restarts: int | None = figure("Times the sequence numbers began anew.")
    split_messages: int | None = figure("Messages that are only a part of the next one.")
    bad_sequences: int | None = figure(
        "Messages whose sequence number contradicts those around them."
    )
    first_old_ns: int | None = figure("Receipt time of the first of these three, ns UTC.")
    first_restart_ns: int | None = figure("Receipt time of the first restart, ns UTC.")
    first_split_ns: int | None = figure("Receipt time of the first split one, ns UTC.")
    first_bad_sequence_ns: int | None = figure("Receipt time of the first bad number, ns UTC.")


@dataclass(frozen=True, kw_only=True)
class CrossedFigures(Columns):
    """How often and how long the touch was crossed or locked."""

    crossed_count: int | None = figure("Runs of messages that left the book crossed.")
    crossed_seconds: float | None = figure("Observed seconds with a crossed book.")
    longest_crossed_seconds: float | None = figure("Length of the longest run.")
    longest_crossed_ns: int | None = figure("Start of the longest run, ns UTC.")
    crossed_seconds_per_hour: tuple[float, ...] | None = figure(
        "Crossed seconds in each UTC hour, 24 entries."
    )
    first_crossed_ns: int | None = figure("Start of the first run, ns UTC.")
    locked_count: int | None = figure("Runs of messages that left the book locked.")
    locked_seconds: float | None = figure("Observed seconds with a locked book.")


@dataclass(frozen=True, kw_only=True)
class SkewFigures(Columns):
    """Receipt time minus origin time over a day, and how the clocks run."""

    skew_p001_ms: float | None = figure("0.1 % quantile of receipt minus origin time.")
    skew_p01_ms: float | None = figure("1 % quantile of receipt minus origin time.")
    skew_p50_ms: float | None = figure("Median of receipt minus origin time.")
    skew_p99_ms: float | None = figure("99 % quantile of receipt minus origin time.")
    skew_p999_ms: float | None = figure("99.9 % quantile of receipt minus origin time.")
    skew_p50_ms_per_hour: tuple[float | None, ...] | None = figure(
        "Median by UTC hour; null without messages."
    )
    worst_skew_ms: float | None = figure("The one farthest from the median.")
    worst_skew_ns: int | None = figure("Receipt time of that message, ns UTC.")
    negative_latency_share: float | None = figure("Share of messages received before sent.")
    clock_drift_ppm: float | None = figure(
        "Gain of the receipt clock; null if too short or unknown."
    )
    clock_drift_remark: str | None = figure(
        "What was left out of the drift, or why there is none; null if nothing."
    )
    clock_steps: int | None = figure("Sudden shifts of one clock against the other.")
    largest_clock_step_ms: float | None = figure("The largest, with its sign; null without one.")
    largest_clock_step_ns: int | None = figure("Its receipt time, ns UTC.")
    first_clock_step_ns: int | None = figure("Receipt time of the first, ns UTC.")
    origin_granularity_us: int | None = figure("Step of the exchange's clock.")
    receipt_granularity_us: int | None = figure("Step of the receipt clock.")


@dataclass(frozen=True, kw_only=True)
class BadStampFigures(Columns):
    """Messages of which a stamp means nothing."""

    bad_receipt_stamps: int | None = figure(
        "Messages whose receipt time contradicts those around them."
    )
    bad_origin_stamps: int | None = figure(
        "Messages whose exchange time contradicts those around them."
    )
    first_bad_stamp: str | None = figure(
        "The first of both, by its clock and sequence number; null without one."
    )


@dataclass(frozen=True, kw_only=True)
class PrecisionFigures(Columns):
    """Values that are not on the tick or lot."""

    price_precision_losses: int | None = figure(
        "Prices that are not on the tick, or too large for their float to tell."
    )
    size_precision_losses: int | None = figure(
        "Sizes that are not on the lot, or too large for their float to tell."
    )
    first_precision_file: str | None = figure("File of the first loss, prices before sizes.")
    first_precision_row: int | None = figure("Its zero-based row.")
    first_precision_column: str | None = figure("price or size.")
    first_precision_value: float | None = figure("The value as the vendor wrote it.")
