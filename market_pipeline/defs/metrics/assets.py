"""The metrics of a day."""

from dataclasses import replace

import dagster as dg
import polars as pl

from market_pipeline.defs.describe import table_metadata, unchanged_table
from market_pipeline.defs.interrupts import run_step
from market_pipeline.defs.io_managers import PartitionRows
from market_pipeline.defs.options import options
from market_pipeline.defs.partitions import DAILY, day_of, green_if
from market_pipeline.defs.resources import Pipeline
from market_pipeline.metrics.minute import BOOK_METRICS
from market_pipeline.stages.metrics import metrics_day
from market_pipeline.stages.provenance import METRICS, metrics_made_of, with_unchanged
from market_pipeline.stages.raw.objects import RawObjects

__all__ = ["ASSETS"]


@dg.asset(partitions_def=DAILY, **options("book_metrics"))
@run_step
def book_metrics(
    context: dg.AssetExecutionContext,
    pipeline: Pipeline,
    validation_report: pl.DataFrame,
    book_bbo: pl.LazyFrame,
    book_depth: pl.LazyFrame,
    raw_trades: pl.DataFrame,
) -> dg.MaterializeResult[PartitionRows]:
    """Microstructure figures of every minute with a book, a message or a trade."""
    trades = RawObjects(pipeline.settings.lake_path, raw_trades)
    made_of = metrics_made_of(
        day_of(context), pipeline.selected, validation_report, trades, pipeline.warehouse
    )
    unchanged = pipeline.unchanged(context, METRICS, made_of)
    made = [each for each in pipeline.selected if each.id not in unchanged]
    metrics = metrics_day(
        day_of(context),
        made,
        validation_report,
        book_bbo,
        book_depth,
        trades,
        pipeline.warehouse.staging_dir,
        context.log.warning,
    )
    frame = with_unchanged(BOOK_METRICS, metrics.rows, unchanged, pipeline.selected)
    # What failed is made again by the next run, though it would be made of the same.
    made_of = {
        name: replace(of, parameters={**of.parameters, "failed": metrics.without[name]})
        if name in metrics.failed
        else of
        for name, of in made_of.items()
    }
    summary = (
        frame.group_by("exchange", "symbol", maintain_order=True)
        .agg(
            minutes=pl.len(),
            valid_hours=(pl.col("valid_seconds").sum() / 3600).round(3),
            messages=pl.col("message_count").sum(),
            trades=pl.col("trade_count").sum(),
        )
        .to_dicts()
    )
    metadata = {
        "rows": frame.height,
        "instruments": table_metadata(summary),
        "without": table_metadata(
            [{"instrument": name, "reason": reason} for name, reason in metrics.without.items()]
        ),
        "unchanged": unchanged_table(unchanged),
    }
    return dg.MaterializeResult(
        value=PartitionRows(metrics.rows, made, made_of),
        metadata=green_if(not frame.is_empty(), context, "book_metrics", metadata),
    )


ASSETS = [book_metrics]
