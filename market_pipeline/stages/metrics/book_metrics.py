"""Computes the per-minute metrics of a day's instruments from what was published of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from market_pipeline.config.instruments import Instrument
from market_pipeline.metrics.minute import BBO_COLUMNS, DEPTH_COLUMNS, minute_metrics
from market_pipeline.metrics.tables import BOOK_METRICS
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline.stages.metrics.measured import MeasuredBook, measure_each
from market_pipeline.stages.published_rows import read_rows
from market_pipeline.stages.raw.objects import RawObjects
from market_pipeline.warehouse.read import DayRows

__all__ = ["MetricsDay", "metrics_day"]

_BBO_BATCH_ROWS = 1 << 17
_DEPTH_BATCH_ROWS = 1 << 16


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
    bbo: DayRows,
    depth: DayRows,
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
    nothing = BOOK_METRICS.frame([])

    def minutes(instrument: Instrument, book: MeasuredBook) -> pl.DataFrame:
        files, _ = trades.files_if_any(instrument)
        rows = minute_metrics(
            read_rows(bbo, instrument, BBO_COLUMNS, _BBO_BATCH_ROWS),
            read_rows(depth, instrument, DEPTH_COLUMNS, _DEPTH_BATCH_ROWS),
            read_trades(files, scratch) if files else None,
            instrument=instrument,
            day=day,
            tick=book.tick.step,
            lot=book.lot.step,
            not_observed=book.not_observed,
        )
        # Rows of other types must not show when those of all are put together.
        return pl.concat([nothing, rows])

    measured = measure_each(day, instruments, reports, minutes, "metrics", warn)
    rows = pl.concat([nothing, *measured.made.values()])
    return MetricsDay(rows, measured.without, frozenset(measured.failed))
