"""Measures the rebuilt books of a day that may be used, each apart from the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Generic, TypeVar

import numpy as np
import polars as pl

from market_pipeline.books.scale import Scale, scales_of
from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import MarketPipelineError, error_text, is_of_machine
from market_pipeline.quality.evaluate import evaluate, thresholds_in_force
from market_pipeline.quality.intervals import IntArray
from market_pipeline.quality.row import ReportRow
from market_pipeline.shown import shown_logger
from market_pipeline.stages.published_rows import records_of
from market_pipeline.telemetry.traces.work import failed, working

__all__ = ["Measured", "MeasuredBook", "make_each", "measure_each"]

_LOG = shown_logger(__name__)
_Made = TypeVar("_Made")
_Book = TypeVar("_Book")


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredBook:
    """A rebuilt book that may be used.

    Attributes:
        tick, lot: Of that day.
        not_observed: Its gaps and quiet holes, as the day's report located them; shape (k, 2).
    """

    tick: Scale
    lot: Scale
    not_observed: IntArray


@dataclass(frozen=True, slots=True)
class Measured(Generic[_Made]):
    """What was made of a day's books.

    Attributes:
        made: By instrument id.
        without: By id, why nothing was made of one that has a rebuilt book.
        failed: Ids of those among them that may come out when the day is run again, though nothing
            they are made of changes.
    """

    made: dict[str, _Made] = field(default_factory=dict)
    without: dict[str, str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)


def measure_each(
    day: date,
    instruments: Sequence[Instrument],
    reports: pl.DataFrame,
    make: Callable[[Instrument, MeasuredBook], _Made],
    what: str,
    warn: Callable[[str], None],
) -> Measured[_Made]:
    """Makes something of each book that may be used; whatever goes wrong, the others have theirs.

    Nothing is made without a rebuilt book, of one that a check says must not be used
    (`Check.withholds_metrics`), or of one whose gaps could not be measured.

    Args:
        day: The UTC day.
        instruments: Of which books.
        reports: The day's rows of `quality.validation_report`.
        make: Makes it.
        what: What is made, for a person.
        warn: Called with the instrument of which nothing is made though it has a book, and why.
    """
    return make_each(day, instruments, partial(_book_of, reports), make, what, warn)


def make_each(
    day: date,
    instruments: Sequence[Instrument],
    book_of: Callable[[Instrument], _Book | str | None],
    make: Callable[[Instrument, _Book], _Made],
    what: str,
    warn: Callable[[str], None],
) -> Measured[_Made]:
    """As `measure_each`, of the books that `book_of` gives: None for none, a text for why not."""
    measured: Measured[_Made] = Measured()
    for instrument in instruments:
        with working("instrument", instrument=instrument.id):
            try:
                book = book_of(instrument)
                if isinstance(book, str):
                    measured.without[instrument.id] = book
                elif book is not None:
                    measured.made[instrument.id] = make(instrument, book)
            except Exception as error:
                if is_of_machine(error):
                    raise
                failed(error)
                measured.failed.add(instrument.id)
                if isinstance(error, MarketPipelineError):
                    measured.without[instrument.id] = str(error)
                else:
                    _LOG.exception("%s %s: %s", instrument.id, day, what)
                    measured.without[instrument.id] = (
                        f"{error_text(error)}. See the log of the run."
                    )
    for name, reason in measured.without.items():
        warn(f"{name} has no {what}: {reason}")
    return measured


def _book_of(reports: pl.DataFrame, instrument: Instrument) -> MeasuredBook | str | None:
    """An instrument's book; None without one, and in words why it may not be used."""
    row = next(iter(records_of(reports, instrument, ReportRow)), None)
    if row is None or row.outcome != "rebuilt":
        return None
    withheld = [
        outcome.summary
        for outcome in evaluate(row, thresholds_in_force(row, instrument.thresholds))
        if outcome.withholds_metrics
    ]
    if withheld:
        return " ".join(withheld)
    edges = (row.gap_starts_ns, row.gap_ends_ns, row.quiet_starts_ns, row.quiet_ends_ns)
    if any(each is None for each in edges):
        return "Its gaps could not be measured, so nobody knows when there was a book."
    gap_starts, gap_ends, quiet_starts, quiet_ends = (each or () for each in edges)
    holes = zip(gap_starts + quiet_starts, gap_ends + quiet_ends, strict=True)
    spans = np.array(sorted(holes), np.int64).reshape(-1, 2)
    return MeasuredBook(*scales_of(row.tick, row.lot), spans)
