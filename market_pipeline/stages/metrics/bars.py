"""Stages the bars of a day's instruments, made of their trades and of what was published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from market_pipeline.config.instruments import Instrument
from market_pipeline.metrics.bars import QUOTE_COLUMNS, day_bars
from market_pipeline.metrics.tables import BARS
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline.stages.metrics.measured import MeasuredBook, measure_each
from market_pipeline.stages.published_rows import read_rows
from market_pipeline.stages.raw.objects import RawObjects
from market_pipeline.telemetry.metrics.recording import record
from market_pipeline.telemetry.metrics.table import LATE_TRADES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import DayRows
from market_pipeline.warehouse.runs import StagedRuns
from market_pipeline.warehouse.staging import StagedFile

__all__ = ["BarsDay", "bars_day"]

_BBO_BATCH_ROWS = 1 << 17


@dataclass(frozen=True, slots=True)
class BarsDay:
    """The staged bars of a day's instruments.

    Attributes:
        files: Of `metrics.bars`, one for each instrument that has any.
        withdrawn: Ids of those that have none.
        without: By id, why one with a rebuilt book has none.
    """

    files: list[StagedFile] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    without: dict[str, str] = field(default_factory=dict)


def bars_day(
    day: date,
    instruments: Sequence[Instrument],
    reports: pl.DataFrame,
    bbo: DayRows,
    trades: RawObjects,
    warehouse: Warehouse,
    bar_seconds: Sequence[int],
    warn: Callable[[str], None] = lambda _: None,
) -> BarsDay:
    """Stages the rows of `metrics.bars` of a day, an instrument after the other.

    An instrument has them if it has metrics (`metrics_day`), for the same reasons.

    Args:
        day: The UTC day.
        instruments: Whose bars to make.
        reports: The day's rows of `quality.validation_report`.
        bbo: The day's rows of `books.bbo`.
        trades: The day's registered trades.
        warehouse: Where to stage them, and to map the trades from.
        bar_seconds: The widths.
        warn: Called with the instrument that has no bars though it has a book, and why.
    """

    def staged(instrument: Instrument, book: MeasuredBook) -> StagedFile:
        files, _ = trades.files_if_any(instrument)
        bars = day_bars(
            read_rows(bbo, instrument, QUOTE_COLUMNS, _BBO_BATCH_ROWS),
            read_trades(files, warehouse.staging_dir, with_ids=True) if files else None,
            instrument=instrument,
            day=day,
            price_scale=book.tick,
            size_scale=book.lot,
            not_observed=book.not_observed,
            bar_seconds=bar_seconds,
        )
        scales = {"tick": f"{book.tick.step:f}", "lot": f"{book.lot.step:f}"}
        with StagedRuns(warehouse, BARS, instrument.id, scales) as writer:
            for number, width in enumerate(bars):
                writer.write(width)
                if number == 0:  # the smallest
                    late = width.columns["late_count"].fill_null(0).to_numpy() @ width.rows
                    record(LATE_TRADES, int(late), venue=instrument.venue)
        return writer.staged

    measured = measure_each(day, instruments, reports, staged, "bars", warn)
    withdrawn = [each.id for each in instruments if each.id not in measured.made]
    return BarsDay([*measured.made.values()], withdrawn, measured.without)
