"""Measures a rebuilt day and validates it: one row of `quality.validation_report`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.record import RebuildRecord
from market_pipeline.books.soundness import sound_times_ns
from market_pipeline.config.instruments import Instrument
from market_pipeline.quality.figures.book import BadStampFigures, ProvenGapFigures
from market_pipeline.quality.findings import Measured, merged
from market_pipeline.quality.intervals import (
    IntArray,
    day_bounds_ns,
    listed_ns,
    ns_of,
)
from market_pipeline.quality.located import (
    bad_stamp_places,
    crossed_places,
    edge_places,
    gap_places,
    proven_places,
    skew_places,
)
from market_pipeline.quality.measure import Measure
from market_pipeline.quality.measures.crossed import BookSpans, Observed, touch_report, valid_time
from market_pipeline.quality.measures.gap import GapReport, find_gaps, proven_gaps
from market_pipeline.quality.measures.skew import bad_stamps, clock_report
from market_pipeline.quality.measures.snapshots_inside import SnapshotTouches
from market_pipeline.quality.row import ReportRow
from market_pipeline.quality.verdict import validate
from market_pipeline.sources.registry import gap_evidence

__all__ = ["BOOK_MEASURES", "BookDay", "Messages", "measure_book", "report_failure", "report_row"]


@dataclass(frozen=True, slots=True, eq=False)
class Messages:
    """The times and numbers of a day's messages as in `books.bbo`, shape (messages,) each.

    Attributes:
        ts_origin_ns, ts_receipt_ns, sequence_number: int64.
        flags: uint16.
    """

    ts_origin_ns: IntArray
    ts_receipt_ns: IntArray
    sequence_number: IntArray
    flags: NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True, eq=False)
class BookDay:
    """What there is of a rebuilt day, each part read when the first measurement asks for it.

    Attributes:
        instrument: With its thresholds.
        day: The UTC day.
        read_messages: The messages; there must be one.
        read_spans: When which flags stood against the book.
        read_snapshots: The snapshots beside the messages; None if there are none.
        trade_origin_ns, trade_receipt_ns: int64, shape (trades,); empty without trades.
    """

    instrument: Instrument
    day: date
    read_messages: Callable[[], Messages]
    read_spans: Callable[[], BookSpans]
    trade_origin_ns: IntArray
    trade_receipt_ns: IntArray
    read_snapshots: Callable[[], Iterable[SnapshotTouches]] | None = None

    @property
    def listed_ns(self) -> tuple[int, int]:
        """From when until when of the day the instrument is listed."""
        return listed_ns(self.instrument, self.day)

    @cached_property
    def messages(self) -> Messages:
        """The messages.

        Raises:
            ValueError: If there is none. Such a day is a `MissingDataError` of the source.
        """
        messages = self.read_messages()
        if not len(messages.ts_receipt_ns):
            raise ValueError("a day without a message has no book: report it as missing data")
        return messages

    @cached_property
    def spans(self) -> BookSpans:
        """When which flags stood against the book."""
        return self.read_spans()

    @cached_property
    def gaps(self) -> GapReport:
        """What is missing of the day."""
        messages = self.messages
        return find_gaps(
            ts_receipt_ns=self._sound(messages.ts_receipt_ns, BookFlag.BAD_TS_RECEIPT),
            ts_origin_ns=self._sound(messages.ts_origin_ns, BookFlag.BAD_TS_ORIGIN),
            sequence_number=messages.sequence_number,
            trade_receipt_ns=self.trade_receipt_ns,
            trade_origin_ns=self.trade_origin_ns,
            day=self.day,
            rule=self.instrument.gap_rule,
            snapshots=self.read_snapshots,
            listed_ns=self.listed_ns,
        )

    @cached_property
    def observed(self) -> Observed:
        """When the day was observed."""
        return Observed(self.gaps.first_ns, self.gaps.last_ns, self.gaps.not_observed)

    def _sound(self, ts_ns: IntArray, flag: BookFlag) -> IntArray:
        """The times, in place of each bad one the sound one before it."""
        return sound_times_ns(ts_ns, (self.messages.flags & np.uint16(flag)) != 0)


def measure_book(book: BookDay) -> Measured:
    """Every figure of the book, and the places it is wrong at; see `BOOK_MEASURES`.

    What one measurement raises is a finding of its own, and its figures are None.
    """
    named = f"{book.instrument.id} {book.day}"
    return merged([measure.of(book, named) for measure in BOOK_MEASURES])


def report_row(
    instrument: Instrument, day: date, measured: Measured, *, as_of_ns: int
) -> ReportRow:
    """The validated row of a rebuilt day.

    Args:
        instrument: With its thresholds.
        day: The UTC day.
        measured: All that was measured of it.
        as_of_ns: When the verdict is given; see `verdict.condition`.
    """
    row = ReportRow(
        exchange=instrument.venue,
        symbol=instrument.symbol,
        dt=day,
        outcome="rebuilt",
        **_listing(instrument, day),
        unmeasured_checks=tuple(measured.unmeasured),
        unmeasured_errors=tuple(measured.unmeasured.values()),
        **measured.columns,
    )
    return validate(row, instrument.thresholds, as_of_ns=as_of_ns)


def _listing(instrument: Instrument, day: date) -> dict[str, Any]:
    """What the instruments file says of when messages are expected."""
    return {
        "expected_seconds": instrument.expected_seconds(day),
        "listed_ns": None if instrument.listed is None else ns_of(instrument.listed),
        "delisted_ns": None if instrument.delisted is None else ns_of(instrument.delisted),
    }


# --- the measurements -------------------------------------------------------------------------


def _gaps(book: BookDay) -> Measured:
    gaps, messages = book.gaps, book.messages
    return Measured((gaps.figures,), list(gap_places(gaps, messages.sequence_number)))


def _proven_gaps(book: BookDay) -> Measured:
    evidence = gap_evidence(book.instrument.source)
    marked, suspected = book.spans.of(BookFlag.GAP), book.gaps.not_observed
    proven = proven_gaps(evidence, marked, suspected, book.listed_ns)
    return Measured((ProvenGapFigures(proven_gap_count=len(proven)),), list(proven_places(proven)))


def _cover(book: BookDay) -> Measured:
    gaps, messages = book.gaps, book.messages
    tolerance = book.instrument.thresholds.edge_tolerance_seconds
    return Measured(
        (gaps.cover,),
        list(edge_places(gaps, messages.sequence_number, book.listed_ns, tolerance)),
    )


def _clocks(book: BookDay) -> Measured:
    messages, thresholds = book.messages, book.instrument.thresholds
    clocks = clock_report(
        ts_origin_ns=messages.ts_origin_ns,
        ts_receipt_ns=messages.ts_receipt_ns,
        flags=messages.flags,
        day=book.day,
        step_warn_ms=thresholds.step_warn_ms,
    )
    return Measured(
        (clocks.figures,),
        list(
            skew_places(
                clocks,
                messages.ts_origin_ns,
                messages.ts_receipt_ns,
                messages.sequence_number,
                thresholds,
            )
        ),
    )


def _bad_stamps(book: BookDay) -> Measured:
    messages = book.messages
    bad = bad_stamps(messages.flags)
    places = list(bad_stamp_places(bad, messages.ts_receipt_ns, messages.sequence_number))
    figures = BadStampFigures(
        bad_receipt_stamps=bad.receipt_count,
        bad_origin_stamps=bad.origin_count,
        first_bad_stamp=places[0].value if places else None,
    )
    return Measured((figures,), places)


def _touch(book: BookDay) -> Measured:
    touch = touch_report(book.spans, book.observed, day_start_ns=day_bounds_ns(book.day)[0])
    return Measured((touch.figures,), list(crossed_places(touch)))


def _valid_time(book: BookDay) -> Measured:
    begin_ns, end_ns = book.listed_ns
    return Measured((valid_time(book.spans, book.observed, expected_ns=end_ns - begin_ns),))


BOOK_MEASURES: tuple[Measure[BookDay], ...] = (
    Measure("gaps", ("gap", "ordering"), _gaps),
    Measure("proven gaps", ("gap",), _proven_gaps),
    Measure("cover of the day", ("completeness",), _cover),
    Measure("clocks", ("skew",), _clocks),
    Measure("bad stamps", ("skew",), _bad_stamps),
    Measure("crossed time", ("crossed",), _touch),
    Measure("valid time", ("completeness", "snapshot_match"), _valid_time),
)
"""What is measured of a rebuilt book, each apart from the others."""


# --- days without a book ----------------------------------------------------------------------


def report_failure(
    record: RebuildRecord,
    instrument: Instrument,
    *,
    measured: Measured,
    as_of_ns: int,
    vendor_lag_seconds: int,
) -> ReportRow:
    """The validated row of a day that could not be rebuilt.

    Args:
        record: That it could not be rebuilt, and why.
        instrument: With its thresholds.
        measured: What is known of the day nevertheless.
        as_of_ns, vendor_lag_seconds: See `verdict.condition`.
    """
    row = ReportRow(
        exchange=record.exchange,
        symbol=record.symbol,
        dt=record.dt,
        outcome=record.outcome,
        failure_kind=record.failure_kind,
        failure=record.failure,
        **_listing(instrument, record.dt),
        unmeasured_checks=tuple(measured.unmeasured),
        unmeasured_errors=tuple(measured.unmeasured.values()),
        **measured.columns | {"code_version": record.code_version},
    )
    return validate(
        row, instrument.thresholds, as_of_ns=as_of_ns, vendor_lag_seconds=vendor_lag_seconds
    )
