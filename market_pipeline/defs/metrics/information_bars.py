"""The bars of equal activity of a day."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from market_pipeline.defs.describe import files_metadata, table_metadata, unchanged_table
from market_pipeline.defs.interrupts import run_step
from market_pipeline.defs.io_managers import PartitionFiles
from market_pipeline.defs.options import options
from market_pipeline.defs.partitions import DAILY, day_of, green_if
from market_pipeline.defs.resources import Pipeline
from market_pipeline.defs.step_times import makes
from market_pipeline.metrics.tables import INFORMATION_BARS
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
        kept = [
            file for each in unchanged.values() for file in each.files[INFORMATION_BARS.sql_name]
        ]
        files = sorted([*kept, *found.files], key=lambda file: file.instrument)
        metadata = {
            **files_metadata(files),
            "left_out": table_metadata(
                [
                    {"instrument": name, "trades left out": left_out}
                    for name, left_out in found.left_out.items()
                ]
            ),
            "without": table_metadata(
                [{"instrument": name, "reason": why} for name, why in found.without.items()]
            ),
            "unchanged": unchanged_table(unchanged),
        }
        new = {file.instrument: made_of[file.instrument] for file in found.files}
        yield dg.Output(
            PartitionFiles(found.files, found.withdrawn, new),
            metadata=green_if(metadata["rows"] != 0, context, "information_bars", metadata),
        )


ASSETS = [information_bars]
