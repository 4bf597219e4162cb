"""The bars of equal activity of a day."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from market_pipeline.defs.describe import table_metadata
from market_pipeline.defs.files_output import files_output, has_rows
from market_pipeline.defs.interrupts import run_step
from market_pipeline.defs.io_managers import PartitionFiles
from market_pipeline.defs.options import options
from market_pipeline.defs.partitions import DAILY, day_of
from market_pipeline.defs.resources import Pipeline
from market_pipeline.defs.step_times import makes
from market_pipeline.stages.metrics.information_bars import information_bars_day
from market_pipeline.stages.provenance import INFORMED, information_bars_made_of
from market_pipeline.warehouse.read import DayRows
from market_pipeline.warehouse.staging import staging_in_use

__all__ = ["ASSETS"]


@dg.asset(partitions_def=DAILY, **options("information_bars"))
@makes
@run_step
def information_bars(
    context: dg.AssetExecutionContext,
    pipeline: Pipeline,
    book_rebuilds: pl.DataFrame,
    trades: DayRows,
) -> Iterator[dg.Output[PartitionFiles]]:
    """Bars of so many trades, so much size or so much value."""
    day, warehouse = day_of(context), pipeline.warehouse
    made_of = information_bars_made_of(day, pipeline.selected, book_rebuilds, warehouse)
    unchanged = pipeline.unchanged(context, INFORMED, made_of)
    made = [each for each in pipeline.selected if each.id not in unchanged]
    # Until the output is published: Dagster does that while this generator waits.
    with staging_in_use(warehouse):
        found = information_bars_day(
            day, made, book_rebuilds, trades, warehouse, context.log.warning
        )
        left_out = [
            {"instrument": name, "trades left out": number}
            for name, number in found.left_out.items()
        ]
        yield files_output(
            *(context, "information_bars", found.files, found.withdrawn),
            made_of=made_of,
            unchanged=unchanged,
            without=found.without,
            is_green=has_rows,
            more={"left_out": table_metadata(left_out)},
        )


ASSETS = [information_bars]
