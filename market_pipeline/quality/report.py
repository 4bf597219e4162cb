"""Measures a rebuilt day and judges it: one row of `quality.validation_report`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from market_pipeline.books.flags import BookFlag
from market_pipeline.instruments import Instrument
from market_pipeline.quality.crossed import BookSpans, Observed, touch_report, valid_time
from market_pipeline.quality.findings import Finding, Measured, merged
from market_pipeline.quality.gaps import GapRule, find_gaps, gap_evidence, proven_gaps
from market_pipeline.quality.intervals import IntArray, day_bounds_ns
from market_pipeline.quality.located import (
    crossed_places,
    edge_places,
    gap_places,
    precision_places,
    skew_places,
)
from market_pipeline.quality.precision import PrecisionReport
from market_pipeline.quality.row import Outcome, ReportRow
from market_pipeline.quality.skew import clock_report
from market_pipeline.quality.verdict import judge

__all__ = ["BookEvidence", "build_report", "report_failure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BookEvidence:
    """What the rebuild of one instrument's day counted along the way.

    Attributes:
        seed: What the book was seeded from, as text; None for a cold start.
        rows, snapshots: Raw delta rows and raw snapshot rows read.
        trades: Trades read; None if there was no trades file.
        unknown_removals: Removals of a price that the book did not hold; normal.
        exam_snapshots: Later snapshots compared; the figures below are None if it is 0.
        exam_matching_share, ghost_share: See `lake_and_book_rules`; between 0 and 1.
        max_mid_deviation_ticks: Largest absolute difference of the mid.
        known_low_price, known_high_price: The confirmed horizon at the day's end.
        tick, lot: The steps of that day; `…_inferred` if from its data.
        price_precision, size_precision: The values that are not on them.
        input_sha256: Of every raw file read, in order.
    """

    seed: str | None
    rows: int
    snapshots: int
    trades: int | None
    unknown_removals: int
    exam_snapshots: int
    exam_matching_share: float | None
    max_mid_deviation_ticks: float | None
    ghost_share: float | None
    known_low_price: float | None
    known_high_price: float | None
    tick: Decimal
    lot: Decimal
    tick_inferred: bool
    lot_inferred: bool
    price_precision: PrecisionReport
    size_precision: PrecisionReport
    input_sha256: tuple[str, ...]
    code_version: str


def build_report(
    instrument: Instrument,
    day: date,
    evidence: BookEvidence,
    *,
    ts_origin_ns: IntArray,
    ts_receipt_ns: IntArray,
    sequence_number: IntArray,
    spans: BookSpans,
    trade_origin_ns: IntArray,
    trade_receipt_ns: IntArray,
    measured: Measured,
    as_of_ns: int,
) -> tuple[ReportRow, list[Finding]]:
    """Measures and judges one rebuilt day; the places it is wrong at come with its row.

    Args:
        instrument: With its thresholds.
        day: The UTC day.
        evidence: What the rebuild counted.
        ts_origin_ns, ts_receipt_ns, sequence_number: int64, shape (messages,), as in `books.bbo`.
        spans: When which flags stood against the book.
        trade_origin_ns, trade_receipt_ns: int64, shape (trades,); empty without trades.
        measured: What was measured of the day elsewhere.
        as_of_ns: When the verdict is given; see `verdict.condition`.

    Raises:
        ValueError: If there is no message. Such a day is a `MissingDataError` of the source.
    """
    gaps = find_gaps(
        ts_receipt_ns=ts_receipt_ns,
        ts_origin_ns=ts_origin_ns,
        sequence_number=sequence_number,
        trade_receipt_ns=trade_receipt_ns,
        trade_origin_ns=trade_origin_ns,
        day=day,
        rule=GapRule.from_thresholds(instrument.thresholds),
    )
    observed = Observed(int(ts_receipt_ns[0]), int(ts_receipt_ns.max()), gaps.not_observed)
    touch = touch_report(spans, observed, day_start_ns=day_bounds_ns(day)[0])
    valid = valid_time(spans, observed)
    proven = proven_gaps(gap_evidence(instrument.source), spans.of(BookFlag.GAP), gaps.not_observed)
    clocks = clock_report(
        ts_origin_ns=ts_origin_ns,
        ts_receipt_ns=ts_receipt_ns,
        day=day,
        step_warn_ms=instrument.thresholds.step_warn_ms,
    )
    precision = _first_precision_report(evidence)
    largest_step = clocks.largest_step
    row = ReportRow(
        exchange=instrument.venue,
        symbol=instrument.symbol,
        dt=day,
        outcome="rebuilt",
        seed=evidence.seed,
        rows=evidence.rows,
        messages=len(ts_receipt_ns),
        snapshots=evidence.snapshots,
        trades=evidence.trades,
        first_message_ns=int(ts_receipt_ns.min()),
        last_message_ns=int(ts_receipt_ns.max()),
        observed_seconds=valid.observed_seconds,
        valid_seconds=valid.valid_seconds,
        invalid_seconds=valid.invalid_seconds,
        not_seeded_seconds=valid.seconds_by_flag[BookFlag.NOT_SEEDED],
        after_gap_seconds=valid.seconds_by_flag[BookFlag.GAP],
        stale_seconds=valid.seconds_by_flag[BookFlag.STALE],
        failed_exam_seconds=valid.seconds_by_flag[BookFlag.FAILED_EXAM],
        precision_loss_seconds=valid.seconds_by_flag[BookFlag.PRECISION_LOSS],
        gap_count=gaps.count,
        gap_seconds=gaps.seconds,
        longest_gap_seconds=gaps.longest_seconds,
        longest_gap_ns=gaps.longest[0] if gaps.longest else None,
        first_gap_ns=gaps.first[0] if gaps.first else None,
        gap_threshold_seconds=gaps.threshold_seconds,
        gap_starts_ns=tuple(gaps.spans[:, 0].tolist()),
        gap_ends_ns=tuple(gaps.spans[:, 1].tolist()),
        gap_trades=tuple(gaps.spans[:, 2].tolist()),
        gaps_per_hour=gaps.per_hour,
        proven_gap_count=len(proven),
        quiet_count=len(gaps.quiet_spans),
        quiet_seconds=gaps.quiet_seconds,
        longest_quiet_seconds=gaps.longest_quiet_seconds,
        longest_quiet_ns=gaps.longest_quiet[0] if gaps.longest_quiet else None,
        quiet_starts_ns=tuple(gaps.quiet_spans[:, 0].tolist()),
        quiet_ends_ns=tuple(gaps.quiet_spans[:, 1].tolist()),
        head_gap_seconds=gaps.head_seconds,
        tail_gap_seconds=gaps.tail_seconds,
        sequence_backwards=gaps.sequence_backwards,
        first_sequence_backwards_ns=gaps.sequence_backwards_first_ns,
        crossed_count=touch.crossed_count,
        crossed_seconds=touch.crossed_seconds,
        longest_crossed_seconds=touch.crossed_longest_seconds,
        longest_crossed_ns=touch.crossed_longest_ns,
        crossed_seconds_per_hour=touch.crossed_seconds_per_hour,
        first_crossed_ns=touch.crossed_first_ns,
        locked_count=touch.locked_count,
        locked_seconds=touch.locked_seconds,
        skew_p001_ms=clocks.p001_ms,
        skew_p01_ms=clocks.p01_ms,
        skew_p50_ms=clocks.p50_ms,
        skew_p99_ms=clocks.p99_ms,
        skew_p999_ms=clocks.p999_ms,
        skew_p50_ms_per_hour=clocks.p50_ms_per_hour,
        worst_skew_ms=clocks.worst_ms,
        worst_skew_ns=clocks.worst_receipt_ns,
        negative_latency_share=clocks.negative_share,
        clock_drift_ppm=clocks.drift_ppm,
        clock_steps=len(clocks.steps),
        largest_clock_step_ms=largest_step.size_ms if largest_step else None,
        largest_clock_step_ns=largest_step.ts_receipt_ns if largest_step else None,
        first_clock_step_ns=clocks.steps[0].ts_receipt_ns if clocks.steps else None,
        origin_granularity_us=clocks.origin_granularity_us,
        receipt_granularity_us=clocks.receipt_granularity_us,
        price_precision_losses=evidence.price_precision.losses,
        size_precision_losses=evidence.size_precision.losses,
        first_precision_file=precision.first[0].file if precision else None,
        first_precision_row=precision.first[0].row if precision else None,
        first_precision_column=precision.column if precision else None,
        first_precision_value=precision.first[0].value if precision else None,
        unknown_removals=evidence.unknown_removals,
        exam_snapshots=evidence.exam_snapshots,
        exam_matching_share=evidence.exam_matching_share,
        max_mid_deviation_ticks=evidence.max_mid_deviation_ticks,
        ghost_share=evidence.ghost_share,
        longest_reconvergence_seconds=valid.longest_reconvergence_seconds,
        known_low_price=evidence.known_low_price,
        known_high_price=evidence.known_high_price,
        tick=format(evidence.tick, "f"),
        lot=format(evidence.lot, "f"),
        tick_inferred=evidence.tick_inferred,
        lot_inferred=evidence.lot_inferred,
        input_sha256=evidence.input_sha256,
        code_version=evidence.code_version,
        **measured.columns,
    )
    thresholds = instrument.thresholds
    found = [
        *gap_places(gaps, proven, sequence_number),
        *edge_places(gaps, ts_receipt_ns, sequence_number, day, thresholds.edge_tolerance_seconds),
        *skew_places(clocks, ts_origin_ns, ts_receipt_ns, sequence_number, thresholds),
        *precision_places((evidence.price_precision, evidence.size_precision)),
        *crossed_places(touch),
    ]
    findings = merged([measured, Measured(findings=found)]).findings
    return judge(row, thresholds, as_of_ns=as_of_ns), findings


def report_failure(
    instrument: Instrument,
    day: date,
    *,
    outcome: Outcome,
    failure_kind: str,
    failure: str,
    code_version: str | None,
    columns: Mapping[str, Any],
    as_of_ns: int,
    vendor_lag_seconds: int,
) -> ReportRow:
    """The judged row of a day that could not be rebuilt.

    Args:
        instrument, day: What could not be rebuilt.
        outcome: "no_data" if there was nothing, "quarantined" if what was there cannot be used.
        failure_kind, failure: The class and the text of the error.
        code_version: Of the code that tried; None if none did.
        columns: What is known of the day nevertheless.
        as_of_ns, vendor_lag_seconds: See `verdict.condition`.
    """
    row = ReportRow(
        exchange=instrument.venue,
        symbol=instrument.symbol,
        dt=day,
        outcome=outcome,
        failure_kind=failure_kind,
        failure=failure,
        code_version=code_version,
        **columns,
    )
    return judge(
        row, instrument.thresholds, as_of_ns=as_of_ns, vendor_lag_seconds=vendor_lag_seconds
    )


def _first_precision_report(evidence: BookEvidence) -> PrecisionReport | None:
    reports = (evidence.price_precision, evidence.size_precision)
    return next((report for report in reports if report.losses), None)
