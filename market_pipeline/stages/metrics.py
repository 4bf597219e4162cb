"""Computes the per-minute metrics of a day's instruments from what was published of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from market_pipeline.books.scale import scales_of
from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import MarketPipelineError, error_text, is_of_machine
from market_pipeline.metrics.minute import BBO_COLUMNS, BOOK_METRICS, DEPTH_COLUMNS, minute_metrics
from market_pipeline.quality.evaluate import evaluate, thresholds_in_force
from market_pipeline.quality.row import ReportRow
from market_pipeline.shown import shown_logger
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline.stages.published_rows import read_rows, records_of
from market_pipeline.stages.raw.objects import RawObjects

__all__ = ["MetricsDay", "metrics_day"]

_BBO_BATCH_ROWS = 1 << 17
_DEPTH_BATCH_ROWS = 1 << 16
_LOG = shown_logger(__name__)


@dataclass(frozen=True, slots=True)
class MetricsDay:
    """The metrics of a day's instruments.

    Attributes:
        rows: Rows of `metrics.book_metrics`.
        without: By instrument id, why one with a rebuilt book has none.
        failed: Ids of those among them that may have them when the day is run again, though nothing
            they are made of changes.
    """

    rows: pl.DataFrame
    without: dict[str, str]
    failed: frozenset[str]


def metrics_day(
    day: date,
    instruments: Sequence[Instrument],
    reports: pl.DataFrame,
    bbo: pl.LazyFrame,
    depth: pl.LazyFrame,
    trades: RawObjects,
    scratch: Path | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> MetricsDay:
    """The rows of `metrics.book_metrics` of a day.

    An instrument without a rebuilt book has none, and neither has one whose book a check says must
    not be used (`Check.withholds_metrics`), nor one whose gaps could not be measured; gaps and
    quiet holes, as the day's report located them, count as time without a book. Whatever goes wrong
    with one instrument, the others have theirs.

    Args:
        day: The UTC day.
        instruments: Whose metrics to compute.
        reports: The day's rows of `quality.validation_report`.
        bbo, depth: The day's rows of `books.bbo` and `books.depth`.
        trades: The day's registered trades.
        scratch: Where they are mapped from, see `read_trades`.
        warn: Called with the instrument that has no metrics though it has a book, and why.
    """
    frames = [BOOK_METRICS.frame([])]
    without: dict[str, str] = {}
    failed = set()
    for instrument in instruments:
        try:
            rows = _metrics_of(instrument, day, reports, bbo, depth, trades, scratch)
            if isinstance(rows, str):
                without[instrument.id] = rows
            elif rows is not None:
                # Rows of other types must not show when those of all are put together.
                frames.append(pl.concat([frames[0], rows]))
        except Exception as error:
            if is_of_machine(error):
                raise
            failed.add(instrument.id)
            if isinstance(error, MarketPipelineError):
                without[instrument.id] = str(error)
            else:
                _LOG.exception("%s %s: metrics", instrument.id, day)
                without[instrument.id] = f"{error_text(error)}. See the log of the run."
    for name, reason in without.items():
        warn(f"{name} has no metrics: {reason}")
    return MetricsDay(pl.concat(frames), without, frozenset(failed))


def _metrics_of(
    instrument: Instrument,
    day: date,
    reports: pl.DataFrame,
    bbo: pl.LazyFrame,
    depth: pl.LazyFrame,
    trades: RawObjects,
    scratch: Path | None,
) -> pl.DataFrame | str | None:
    """An instrument's rows; None without a book, and in words why there are none in spite of it."""
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
    tick, lot = scales_of(row.tick, row.lot)
    files, _ = trades.files_if_any(instrument)
    return minute_metrics(
        read_rows(bbo, instrument, BBO_COLUMNS, _BBO_BATCH_ROWS),
        read_rows(depth, instrument, DEPTH_COLUMNS, _DEPTH_BATCH_ROWS),
        read_trades(files, scratch) if files else None,
        instrument=instrument,
        day=day,
        tick=tick.step,
        lot=lot.step,
        not_observed=spans,
    )
