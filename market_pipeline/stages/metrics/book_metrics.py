"""Stages the metrics of a day's instruments, made of what was published of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

import polars as pl

from market_pipeline.books.tables import DEPTH
from market_pipeline.config.instruments import Instrument
from market_pipeline.memory import give_back_memory
from market_pipeline.metrics.day_rows import InstrumentRows
from market_pipeline.metrics.intervals import day_metrics
from market_pipeline.metrics.tables import BOOK_METRICS, DAILY_METRICS
from market_pipeline.stages.metrics.measured import MeasuredBook, measure_each
from market_pipeline.stages.published_rows import count_rows, read_rows
from market_pipeline.stages.raw.objects import RawObjects
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import DayRows
from market_pipeline.warehouse.runs import StagedRuns
from market_pipeline.warehouse.staging import StagedFile, rows_of_group
from market_pipeline.warehouse.tables import Record

__all__ = ["MetricsDay", "metrics_day"]

_BBO_BATCH_ROWS = 1 << 17
# Half a row group: the less of one, the more before it is decoded again; a whole takes 40 MB more.
_DEPTH_BATCH_ROWS = rows_of_group(DEPTH) // 2
_TRADES_BATCH_ROWS = 1 << 17


@dataclass(frozen=True, slots=True)
class MetricsDay:
    """The metrics of a day's instruments.

    Attributes:
        files: Staged, of `metrics.book_metrics`, one for each instrument that has any.
        daily: Their rows of `metrics.daily`.
        withdrawn: Ids of those that have none.
        without: By id, why one with a rebuilt book has none.
    """

    files: list[StagedFile]
    daily: pl.DataFrame
    withdrawn: list[str]
    without: dict[str, str]


def metrics_day(
    day: date,
    instruments: Sequence[Instrument],
    reports: pl.DataFrame,
    bbo: DayRows,
    depth: DayRows,
    trades: DayRows,
    raw_trades: RawObjects,
    warehouse: Warehouse,
    metrics_seconds: Sequence[int],
    warn: Callable[[str], None] = lambda _: None,
) -> MetricsDay:
    """Stages the metrics of a day, an instrument after the other.

    An instrument without a rebuilt book has none, and neither has one whose book a check says must
    not be used (`Check.withholds_metrics`), nor one whose gaps could not be measured; gaps and
    quiet holes, as the day's report located them, count as time without a book. Whatever goes wrong
    with one instrument, the others have theirs.

    Args:
        day: The UTC day.
        instruments: Whose metrics to make.
        reports: The day's rows of `quality.validation_report`.
        bbo, depth, trades: The day's rows of the tables of these names in `books`.
        raw_trades: The day's registered trades: whether there was a file, where it had no trade.
        warehouse: Where to stage.
        metrics_seconds: The widths of the intervals.
        warn: Called with the instrument that has no metrics though it has a book, and why.
    """

    def staged(instrument: Instrument, book: MeasuredBook) -> tuple[StagedFile, Record]:
        # Trades that could not be read are not known: they are not none.
        has_trades = count_rows(trades, instrument) > 0 or raw_trades.are_empty(instrument)
        rows = InstrumentRows(
            bbo=partial(_read, bbo, instrument, _BBO_BATCH_ROWS),
            depth=partial(_read, depth, instrument, _DEPTH_BATCH_ROWS),
            trades=partial(_read, trades, instrument, _TRADES_BATCH_ROWS) if has_trades else None,
            tick=book.tick,
            lot=book.lot,
            not_observed=book.not_observed,
        )
        scales = {"tick": f"{book.tick.step:f}", "lot": f"{book.lot.step:f}"}
        with StagedRuns(warehouse, BOOK_METRICS, instrument.id, scales) as writer:
            daily = day_metrics(
                rows,
                instrument=instrument,
                day=day,
                metrics_seconds=metrics_seconds,
                write=writer.write,
            )
        return writer.staged, daily

    give_back_memory()  # what the stages before are done with
    measured = measure_each(day, instruments, reports, staged, "metrics", warn)
    return MetricsDay(
        [file for file, _ in measured.made.values()],
        DAILY_METRICS.frame(daily for _, daily in measured.made.values()),
        [each.id for each in instruments if each.id not in measured.made],
        measured.without,
    )


def _read(
    table: DayRows, instrument: Instrument, batch_rows: int, columns: Sequence[str]
) -> Iterator[pl.DataFrame]:
    """An instrument's rows, a bounded number at a time."""
    return read_rows(table, instrument, columns, batch_rows)
