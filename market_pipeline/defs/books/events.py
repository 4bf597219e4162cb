"""The event stream of the instruments that ask for it."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from market_pipeline.defs.describe import table_metadata
from market_pipeline.defs.files_output import files_output
from market_pipeline.defs.interrupts import run_step
from market_pipeline.defs.io_managers import PartitionFiles
from market_pipeline.defs.options import options
from market_pipeline.defs.partitions import DAILY, day_of
from market_pipeline.defs.resources import Pipeline
from market_pipeline.defs.step_times import makes
from market_pipeline.stages.events.day import events_day
from market_pipeline.stages.provenance import EVENTED, events_made_of
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay
from market_pipeline.warehouse.staging import staging_in_use

__all__ = ["market_events"]


@dg.asset(
    partitions_def=DAILY,
    deps=["book_bbo", "book_checkpoints"],
    **options("market_events"),
)
@makes
@run_step
def market_events(
    context: dg.AssetExecutionContext,
    pipeline: Pipeline,
    book_rebuilds: pl.DataFrame,
    raw_book_deltas: pl.DataFrame,
    raw_book_snapshots: pl.DataFrame,
    raw_trades: pl.DataFrame,
) -> Iterator[dg.Output[PartitionFiles]]:
    """Trades, deltas, snapshots and clears in one order."""
    day, warehouse, lake = day_of(context), pipeline.warehouse, pipeline.settings.lake_path
    manifests = raw_book_deltas, raw_book_snapshots, raw_trades
    deltas, snapshots, trades = (RawObjects(lake, manifest) for manifest in manifests)
    raw = RegisteredDay(day, lake, deltas, snapshots, trades)
    made_of = events_made_of(raw, pipeline.selected, book_rebuilds, warehouse)
    is_asked = any(each.market_events for each in pipeline.selected)
    unchanged = pipeline.unchanged(context, EVENTED, made_of)
    made = [each for each in pipeline.selected if each.id not in unchanged]
    # Until the output is published: Dagster does that while this generator waits.
    with staging_in_use(warehouse):
        found = events_day(raw, made, book_rebuilds, warehouse, context.log.warning)
        counts = [{"instrument": name, **each} for name, each in found.counts.items()]
        yield files_output(
            *(context, "market_events", found.staged, found.withdrawn),
            made_of=made_of,
            unchanged=unchanged,
            without=found.without,
            # Where nobody asks for events nothing is missing.
            is_green=lambda files: bool(files) or not is_asked,
            more={"instruments": table_metadata(counts)},
        )
