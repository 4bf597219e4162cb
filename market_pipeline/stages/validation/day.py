"""Measures and validates the instruments of a day: a verdict row for each, and the places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from market_pipeline.books.record import RebuildRecord
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.errors import MarketPipelineError, error_text, is_of_machine
from market_pipeline.quality.evaluate import evaluate
from market_pipeline.quality.findings import FINDINGS, Finding, FindingRow, Measured, merged
from market_pipeline.quality.intervals import IntArray
from market_pipeline.quality.measure import Measure, not_measured
from market_pipeline.quality.measures.snapshots_inside import SnapshotTouches
from market_pipeline.quality.report import BookDay, measure_book, report_failure, report_row
from market_pipeline.quality.row import VALIDATION_REPORT, ReportRow
from market_pipeline.shown import shown_logger
from market_pipeline.stages.published_rows import records_of
from market_pipeline.stages.rebuild.gap_scan import snapshot_touches
from market_pipeline.stages.validation.bars import measure_bars
from market_pipeline.stages.validation.context import InstrumentDay, PublishedBooks
from market_pipeline.stages.validation.day_boundary import measure_day_boundary
from market_pipeline.stages.validation.delivery import measure_delivery
from market_pipeline.stages.validation.identity import measure_identity
from market_pipeline.stages.validation.intervals import read_spans, with_evidence
from market_pipeline.stages.validation.locate import with_places
from market_pipeline.stages.validation.lookups import Lookups
from market_pipeline.stages.validation.ordering import measure_ordering
from market_pipeline.stages.validation.precision import (
    measure_precision,
    measure_snapshot_precision,
)
from market_pipeline.stages.validation.raw_profile import measure_profile
from market_pipeline.stages.validation.rebuild import measure_rebuild
from market_pipeline.stages.validation.reference_replay import measure_reference_replay
from market_pipeline.stages.validation.snapshot_match import measure_snapshot_match
from market_pipeline.stages.validation.trade_through import measure_trade_through
from market_pipeline.telemetry.traces.work import failed, working

__all__ = ["DAY_MEASURES", "LOCATORS", "RAW_MEASURES", "ValidatedDay", "report_day"]

_NO_TIMES: IntArray = np.empty(0, dtype=np.int64)
_LOG = shown_logger(__name__)

RAW_MEASURES: tuple[Measure[InstrumentDay], ...] = (
    Measure(
        "profiles of the raw tables", ("schema", "domain", "ordering", "precision"), measure_profile
    ),
    Measure("delivery", ("delivery",), measure_delivery),
    Measure("identity", ("identity",), measure_identity),
)
"""What is measured of a day also where no book could be rebuilt."""

DAY_MEASURES: tuple[Measure[InstrumentDay], ...] = (
    Measure("what the rebuild read", ("completeness",), measure_rebuild),
    Measure("snapshot_match", ("snapshot_match",), measure_snapshot_match),
    Measure("order of messages", ("ordering",), measure_ordering),
    Measure("trades outside the book", ("trade_through",), measure_trade_through),
    Measure("bars", ("bars",), measure_bars),
    Measure("day_boundary", ("day_boundary",), measure_day_boundary),
    Measure("reference_replay", ("reference_replay",), measure_reference_replay),
    Measure("precision", ("precision",), measure_precision),
    Measure("precision of snapshots", ("precision",), measure_snapshot_precision),
)
"""What is measured of a rebuilt day beside `quality.report.BOOK_MEASURES`."""

LOCATORS: tuple[Callable[[list[Finding], InstrumentDay], list[Finding]], ...] = (
    with_evidence,
    with_places,
)
"""What makes findings tell more of where and why, one after the other."""


@dataclass(frozen=True, slots=True)
class ValidatedDay:
    """One instrument's day with its verdict, and the places where it is wrong."""

    row: ReportRow
    findings: list[Finding]

    @property
    def finding_rows(self) -> list[FindingRow]:
        """The places as rows of `quality.findings`."""
        row = self.row
        return [
            FindingRow.taken_from(each, exchange=row.exchange, symbol=row.symbol, dt=row.dt)
            for each in self.findings
        ]


def report_day(
    lookups: Lookups,
    instruments: Sequence[Instrument],
    books: PublishedBooks,
    settings: Settings,
    *,
    as_of_ns: int,
) -> list[ValidatedDay]:
    """The verdicts of a day, one per instrument in the order given.

    Args:
        lookups: The day's registered raw objects, and where the day before is published.
        instruments: Whose days to validate.
        books: What was published of the day.
        settings: How much to look at, and how long after the day's end its data is due.
        as_of_ns: When the verdict is given: a day without data is pending until it is due.
    """
    validated = []
    for instrument in instruments:
        with working("instrument", instrument=instrument.id):
            validated.append(_validated(lookups, instrument, books, settings, as_of_ns=as_of_ns))
    return validated


def _validated(
    lookups: Lookups,
    instrument: Instrument,
    books: PublishedBooks,
    settings: Settings,
    *,
    as_of_ns: int,
) -> ValidatedDay:
    """One instrument's verdict, whatever goes wrong with it; no other one sees anything of that."""
    try:
        validated = _validate_instrument(lookups, instrument, books, settings, as_of_ns=as_of_ns)
        # A value that fits no column must not show when the rows of all are written.
        VALIDATION_REPORT.arrow([validated.row])
        FINDINGS.arrow(validated.finding_rows)
    except Exception as error:
        if is_of_machine(error):
            raise
        failed(error)
        _LOG.exception("%s %s could not be validated", instrument.id, lookups.raw.day)
        failure = f"The day could not be validated: {error_text(error)}. See the log of the run."
        record = RebuildRecord(
            exchange=instrument.venue,
            symbol=instrument.symbol,
            dt=lookups.raw.day,
            outcome="quarantined",
            failure_kind=type(error).__name__,
            failure=failure,
        )
        row = report_failure(
            record,
            instrument,
            measured=Measured(),
            as_of_ns=as_of_ns,
            vendor_lag_seconds=int(settings.vendor_lag_hours * 3600),
        )
        return ValidatedDay(row, [Finding(check="completeness", place="first", note=failure)])
    return validated


def _validate_instrument(
    lookups: Lookups,
    instrument: Instrument,
    books: PublishedBooks,
    settings: Settings,
    *,
    as_of_ns: int,
) -> ValidatedDay:
    blank = RebuildRecord(
        exchange=instrument.venue,
        symbol=instrument.symbol,
        dt=lookups.raw.day,
        outcome="no_data",
        failure_kind="MissingDataError",
        failure="The book of this day was not rebuilt. Materialize the books of this day.",
    )
    record = next(iter(records_of(books.rebuilds, instrument, RebuildRecord)), blank)
    day = InstrumentDay(instrument, lookups, record, books, settings)
    measured = _of_all(RAW_MEASURES, day)
    if record.outcome == "rebuilt":
        record = _unless_unreadable(record, day)
    if record.outcome != "rebuilt":
        row = report_failure(
            record,
            instrument,
            measured=measured,
            as_of_ns=as_of_ns,
            vendor_lag_seconds=int(settings.vendor_lag_hours * 3600),
        )
        return ValidatedDay(row, _of_failed_checks(row, instrument, measured.findings))
    trades = day.trades
    book = BookDay(
        instrument=instrument,
        day=day.day,
        read_messages=lambda: day.book_messages,
        read_spans=lambda: read_spans(day),
        trade_origin_ns=_NO_TIMES if trades is None else trades.ts_origin_ns,
        trade_receipt_ns=_NO_TIMES if trades is None else trades.ts_receipt_ns,
        read_snapshots=_snapshots_beside(day),
    )
    measured = merged([measured, _of_all(DAY_MEASURES, day), measure_book(book)])
    row = report_row(instrument, day.day, measured, as_of_ns=as_of_ns)
    located = _located(_of_failed_checks(row, instrument, measured.findings), day)
    if located.unmeasured:
        measured = merged([replace(measured, findings=[]), located])
        row = report_row(instrument, day.day, measured, as_of_ns=as_of_ns)
    return ValidatedDay(row, located.findings)


def _unless_unreadable(record: RebuildRecord, day: InstrumentDay) -> RebuildRecord:
    """The record; as of a day that cannot be used where the files that the book was made of, and
    those beside, cannot be read: then nothing can be validated.
    """
    try:
        _ = day.trades, day.delta_files, day.snapshot_files
    except Exception as error:
        if is_of_machine(error):
            raise
        _LOG.info("%s %s: its raw files", day.instrument.id, day.day, exc_info=True)
        ours = isinstance(error, MarketPipelineError)
        failure = str(error) if ours else error_text(error)
        return replace(
            record, outcome="quarantined", failure_kind=type(error).__name__, failure=failure
        )
    return record


def _of_all(measures: Sequence[Measure[InstrumentDay]], day: InstrumentDay) -> Measured:
    named = f"{day.instrument.id} {day.day}"
    return merged([measure.of(day, named) for measure in measures])


def _located(findings: list[Finding], day: InstrumentDay) -> Measured:
    """The findings with all that is known of where they are.

    If that cannot be found out they stay as they are, and their checks have failed for it: who is
    to look at a day must be able to see where.
    """
    failed: list[Measured] = []
    for locate in LOCATORS:
        try:
            findings = locate(findings, day)
        except Exception as error:
            if is_of_machine(error):
                raise
            _LOG.exception("%s %s: places", day.instrument.id, day.day)
            checks = list(dict.fromkeys(finding.check for finding in findings))
            text = f"its places could not be found: {error_text(error)}"
            failed.append(not_measured(checks, text))
    return merged([Measured(findings=findings), *failed])


def _of_failed_checks(
    row: ReportRow, instrument: Instrument, findings: list[Finding]
) -> list[Finding]:
    """Those that are against the day: what a threshold tolerates is counted, not shown."""
    outcomes = evaluate(row, instrument.thresholds)
    failed = {outcome.check.name for outcome in outcomes if not outcome.passed}
    return [finding for finding in findings if finding.check in failed]


def _snapshots_beside(day: InstrumentDay) -> Callable[[], Iterable[SnapshotTouches]] | None:
    """Reads the snapshots of a day; None if there are none, or if they are its messages."""
    if day.record.is_of_snapshots or not day.snapshot_files:
        return None
    return lambda: snapshot_touches(day.snapshot_files)
