"""The metrics and bars of a day, and its trades with their books."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import dagster as dg
import polars as pl

from market_pipeline.defs.describe import (
    Line,
    Metadata,
    table_metadata,
    unchanged_table,
)
from market_pipeline.defs.files_output import files_output, has_rows
from market_pipeline.defs.interrupts import run_step
from market_pipeline.defs.io_managers import PartitionFiles, PartitionRows
from market_pipeline.defs.options import options
from market_pipeline.defs.partitions import DAILY, day_of, green_if
from market_pipeline.defs.resources import Pipeline
from market_pipeline.defs.step_times import makes
from market_pipeline.metrics.tables import DAILY_METRICS
from market_pipeline.stages.metrics.bars import bars_day
from market_pipeline.stages.metrics.book_metrics import metrics_day
from market_pipeline.stages.metrics.trades import TradeCounts, trades_day
from market_pipeline.stages.provenance import (
    BARRED,
    METRICS,
    TRADED,
    bars_made_of,
    metrics_made_of,
    trades_made_of,
)
from market_pipeline.stages.raw.objects import RawObjects
from market_pipeline.stages.recorded_day import with_unchanged
from market_pipeline.warehouse.read import DayRows
from market_pipeline.warehouse.staging import staging_in_use

__all__ = ["ASSETS"]


@dg.asset(partitions_def=DAILY, **options("trades"))
@makes
@run_step
def trades(
    context: dg.AssetExecutionContext,
    pipeline: Pipeline,
    book_rebuilds: pl.DataFrame,
    book_bbo: DayRows,
    book_intervals: DayRows,
    raw_trades: pl.DataFrame,
) -> Iterator[dg.Output[PartitionFiles]]:
    """Every trade, in file order, with the book as it was just before it."""
    day, warehouse = day_of(context), pipeline.warehouse
    raw = RawObjects(pipeline.settings.lake_path, raw_trades)
    made_of = trades_made_of(day, pipeline.selected, book_rebuilds, raw, warehouse)
    unchanged = pipeline.unchanged(context, TRADED, made_of)
    made = [each for each in pipeline.selected if each.id not in unchanged]
    # Until the output is published: Dagster does that while this generator waits.
    with staging_in_use(warehouse):
        found = trades_day(
            day, made, book_rebuilds, book_bbo, book_intervals, raw, warehouse, context.log.warning
        )
        yield files_output(
            *(context, "trades", found.staged, found.withdrawn),
            made_of=made_of,
            unchanged=unchanged,
            without=found.without,
            is_green=has_rows,
            more=_of_trades(found.counts, pipeline.settings.lake_path),
        )


@dg.multi_asset(
    name="measure_day",
    outs={name: dg.AssetOut(**options(name)) for name in ("book_metrics", "daily_metrics")},
    partitions_def=DAILY,
)
@makes
@run_step
def measure_day(
    context: dg.AssetExecutionContext,
    pipeline: Pipeline,
    validation_report: pl.DataFrame,
    book_bbo: DayRows,
    book_depth: DayRows,
    trades: DayRows,
    raw_trades: pl.DataFrame,
) -> Iterator[dg.Output[PartitionFiles] | dg.Output[PartitionRows]]:
    """Microstructure figures of every interval of the day, at several widths, and of the day."""
    day, widths = day_of(context), pipeline.settings.metrics_seconds
    warehouse, raw = pipeline.warehouse, RawObjects(pipeline.settings.lake_path, raw_trades)
    made_of = metrics_made_of(day, pipeline.selected, validation_report, raw, warehouse, widths)
    unchanged = pipeline.unchanged(context, METRICS, made_of)
    made = [each for each in pipeline.selected if each.id not in unchanged]
    with staging_in_use(warehouse):
        metrics = metrics_day(
            *(day, made, validation_report, book_bbo, book_depth, trades, raw, warehouse, widths),
            context.log.warning,
        )
        yield files_output(
            *(context, "book_metrics", metrics.files, metrics.withdrawn),
            made_of=made_of,
            unchanged=unchanged,
            without=metrics.without,
            is_green=bool,
            more={"widths": ", ".join(map(str, widths))},
            output_name="book_metrics",
        )
    frame = with_unchanged(DAILY_METRICS, metrics.daily, unchanged, pipeline.selected)
    metadata = {
        "rows": frame.height,
        "instruments": table_metadata(_of_days(frame)),
        "unchanged": unchanged_table(unchanged),
    }
    yield dg.Output(
        PartitionRows(metrics.daily, made, made_of),
        output_name="daily_metrics",
        metadata=green_if(not frame.is_empty(), context, "daily_metrics", metadata),
    )


@dg.asset(partitions_def=DAILY, **options("bars"))
@makes
@run_step
def bars(
    context: dg.AssetExecutionContext,
    pipeline: Pipeline,
    validation_report: pl.DataFrame,
    book_bbo: DayRows,
    raw_trades: pl.DataFrame,
) -> Iterator[dg.Output[PartitionFiles]]:
    """Open, high, low, close, volume, mid and spread of every interval, at several widths."""
    day, widths = day_of(context), pipeline.settings.bar_seconds
    trades = RawObjects(pipeline.settings.lake_path, raw_trades)
    made_of = bars_made_of(
        day, pipeline.selected, validation_report, trades, pipeline.warehouse, widths
    )
    unchanged = pipeline.unchanged(context, BARRED, made_of)
    made = [each for each in pipeline.selected if each.id not in unchanged]
    warehouse, warn = pipeline.warehouse, context.log.warning
    with staging_in_use(warehouse):
        staged = bars_day(day, made, validation_report, book_bbo, trades, warehouse, widths, warn)
        yield files_output(
            *(context, "bars", staged.files, staged.withdrawn),
            made_of=made_of,
            unchanged=unchanged,
            without=staged.without,
            is_green=bool,
            more={"widths": ", ".join(map(str, widths))},
        )


def _of_days(daily: pl.DataFrame) -> list[Line]:
    """What the UI shows of the metrics of each instrument's day."""
    shown = daily.select(
        pl.concat_str("exchange", "symbol", separator=":").alias("instrument"),
        (pl.col("valid_seconds") / 3_600).round(3).alias("valid h"),
        pl.col("message_count").alias("messages"),
        pl.col("trade_count").alias("trades"),
        pl.col("spread_bps").round(4).alias("spread bps"),
        pl.col("feature_violations").alias("violations"),
    )
    return [*shown.iter_rows(named=True)]


def _of_trades(found: Mapping[str, TradeCounts], lake: Path) -> Metadata:
    """What the UI shows of the trades of each instrument."""
    return {
        "instruments": table_metadata(
            [
                {
                    "instrument": name,
                    "trades": counts.trades,
                    "without book": counts.without_book,
                    "outside market": counts.outside_market,
                    "off tick": counts.off_tick,
                    "off lot": counts.off_lot,
                }
                for name, counts in found.items()
            ]
        ),
        "off_grid": table_metadata(
            [
                {
                    "instrument": name,
                    **asdict(place),
                    "value": repr(place.value),
                    "file": place.file.relative_to(lake).as_posix(),
                }
                for name, counts in found.items()
                for place in counts.off_grid
            ]
        ),
    }


ASSETS = [trades, measure_day, bars]
