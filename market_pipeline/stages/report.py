"""Measures and judges the instruments of a day: a verdict row for each, and the places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import polars as pl

from market_pipeline.errors import MarketPipelineError
from market_pipeline.instruments import Instrument
from market_pipeline.lake.layout import Warehouse
from market_pipeline.quality.evaluate import evaluate
from market_pipeline.quality.findings import Finding, Measured, merged
from market_pipeline.quality.intervals import IntArray
from market_pipeline.quality.precision import PrecisionLoss, PrecisionReport
from market_pipeline.quality.report import BookEvidence, build_report, report_failure
from market_pipeline.quality.row import ReportRow
from market_pipeline.settings import Settings
from market_pipeline.stages.bars import measure_bars
from market_pipeline.stages.delivery import measure_delivery
from market_pipeline.stages.exam import measure_exam
from market_pipeline.stages.instrument import DayOfRaw
from market_pipeline.stages.joint import measure_joint
from market_pipeline.stages.judged import PublishedBooks, RebuiltDayOf
from market_pipeline.stages.places import with_places
from market_pipeline.stages.profile import measure_profile
from market_pipeline.stages.rows import count_rows, of_instrument, read_rows
from market_pipeline.stages.spans import read_spans, with_evidence
from market_pipeline.stages.trade_through import measure_trade_through
from market_pipeline.stages.twin import measure_twin

__all__ = ["JudgedDay", "report_day"]

_MESSAGES = ("ts_origin_ns", "ts_receipt_ns", "sequence_number")
"""What the report takes of every message: 24 bytes."""
_BATCH_ROWS = 1 << 17
_NO_TIMES: IntArray = np.empty(0, dtype=np.int64)
_MEASUREMENTS = (measure_exam, measure_trade_through, measure_bars, measure_joint, measure_twin)


@dataclass(frozen=True, slots=True)
class JudgedDay:
    """One instrument's day with its verdict, and the places where it is wrong."""

    row: ReportRow
    findings: list[Finding]

    def finding_records(self) -> list[dict[str, Any]]:
        """The places as rows of `quality.findings`."""
        row = self.row
        identity = {"exchange": row.exchange, "symbol": row.symbol, "dt": row.dt}
        return [identity | finding.as_record() for finding in self.findings]


def report_day(
    raw: DayOfRaw,
    instruments: Sequence[Instrument],
    books: PublishedBooks,
    settings: Settings,
    warehouse: Warehouse,
    *,
    as_of_ns: int,
) -> list[JudgedDay]:
    """The verdicts of a day, one per instrument in the order given.

    Args:
        raw: The day's registered raw objects and their profiles.
        instruments: Whose days to judge.
        books: What was published of the day.
        settings: How much to look at, and how long after the day's end its data is due.
        warehouse: Where the day before is published.
        as_of_ns: When the verdict is given: a day without data is pending until it is due.
    """
    return [
        _judge_instrument(raw, instrument, books, settings, warehouse, as_of_ns=as_of_ns)
        for instrument in instruments
    ]


def _judge_instrument(
    raw: DayOfRaw,
    instrument: Instrument,
    books: PublishedBooks,
    settings: Settings,
    warehouse: Warehouse,
    *,
    as_of_ns: int,
) -> JudgedDay:
    rebuild = books.rebuilds.filter(of_instrument(instrument))
    record: dict[str, Any] = {
        "outcome": "no_data",
        "failure_kind": "MissingDataError",
        "failure": "The book of this day was not rebuilt. Materialize the books of this day.",
        "code_version": None,
    }
    if rebuild.height:
        record = rebuild.row(0, named=True)
    day = RebuiltDayOf(instrument, raw, record, books, settings, warehouse)
    profile = merged([measure_profile(day), measure_delivery(day)])
    if record["outcome"] == "rebuilt":
        try:
            # Without the files that the book was made of and beside, nothing can be judged.
            trades, _, _ = day.trades, day.delta_files, day.snapshot_files
        except MarketPipelineError as error:
            record |= {
                "outcome": "quarantined",
                "failure_kind": type(error).__name__,
                "failure": str(error),
            }
    if record["outcome"] != "rebuilt":
        row = report_failure(
            instrument,
            raw.day,
            outcome=record["outcome"],
            failure_kind=record["failure_kind"],
            failure=record["failure"],
            code_version=record["code_version"],
            columns=profile.columns,
            as_of_ns=as_of_ns,
            vendor_lag_seconds=int(settings.vendor_lag_hours * 3600),
        )
        return JudgedDay(row, _of_failed_checks(row, instrument, profile.findings))
    strategy = Measured({name: record[name] for name in ("strategy", "strategy_reason")})
    measured = merged([profile, strategy, *(measure(day) for measure in _MEASUREMENTS)])
    row, findings = build_report(
        instrument,
        raw.day,
        _evidence(record, trades=None if trades is None else len(trades.ts_origin_ns)),
        **_messages(books.bbo, instrument),
        spans=read_spans(day),
        trade_origin_ns=_NO_TIMES if trades is None else trades.ts_origin_ns,
        trade_receipt_ns=_NO_TIMES if trades is None else trades.ts_receipt_ns,
        measured=measured,
        as_of_ns=as_of_ns,
    )
    findings = _of_failed_checks(row, instrument, findings)
    return JudgedDay(row, with_places(with_evidence(findings, day), day))


def _of_failed_checks(
    row: ReportRow, instrument: Instrument, findings: list[Finding]
) -> list[Finding]:
    """Those that are against the day: what a threshold tolerates is counted, not shown."""
    outcomes = evaluate(row, instrument.thresholds)
    failed = {said.check.name for said in outcomes if not said.passed}
    return [finding for finding in findings if finding.check in failed]


def _messages(bbo: pl.LazyFrame, instrument: Instrument) -> dict[str, IntArray]:
    """The times and sequence numbers of an instrument's messages, by column."""
    count = count_rows(bbo, instrument)
    columns = {name: np.empty(count, np.int64) for name in _MESSAGES}
    filled = 0
    for rows in read_rows(bbo, instrument, list(columns), _BATCH_ROWS):
        for name, values in columns.items():
            values[filled : filled + rows.height] = rows[name].to_numpy()
        filled += rows.height
    return columns


def _evidence(record: Mapping[str, Any], *, trades: int | None) -> BookEvidence:
    tick, lot = Decimal(record["tick"]), Decimal(record["lot"])
    seed = record["seed_sequence_number"]
    examined = bool(record["exams"])
    return BookEvidence(
        seed=None
        if seed is None
        else f"{record['seed']}, sequence number {seed}".replace("_", " "),
        rows=record["rows"],
        snapshots=record["snapshots"],
        trades=trades,
        unknown_removals=record["unknown_removals"],
        exam_snapshots=record["exams"],
        exam_matching_share=(
            _share(record["exam_levels_matching"], record["exam_levels"]) if examined else None
        ),
        max_mid_deviation_ticks=record["max_mid_deviation_ticks"],
        ghost_share=(
            _share(record["exam_levels_ghost"], record["exam_levels_ours"]) if examined else None
        ),
        known_low_price=record["known_low_price"],
        known_high_price=record["known_high_price"],
        tick=tick,
        lot=lot,
        tick_inferred=record["tick_inferred"],
        lot_inferred=record["lot_inferred"],
        price_precision=_precision(record, "price", tick),
        size_precision=_precision(record, "size", lot),
        input_sha256=tuple(record["input_sha256"]),
        code_version=record["code_version"],
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _precision(
    record: Mapping[str, Any], column: Literal["price", "size"], step: Decimal
) -> PrecisionReport:
    places = zip(
        record[f"{column}_loss_files"],
        record[f"{column}_loss_rows"],
        record[f"{column}_loss_values"],
        strict=True,
    )
    first = tuple(PrecisionLoss.at(file, row, value, step) for file, row, value in places)
    return PrecisionReport(column, step, record[f"{column}_losses"], first)
