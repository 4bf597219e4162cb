"""The rebuilt books: one pass over the raw day publishes five products; and its event stream."""

from collections.abc import Iterator, Sequence
from datetime import date

import dagster as dg
import polars as pl

from market_pipeline.defs.books.events import market_events
from market_pipeline.defs.describe import (
    Line,
    Metadata,
    by_instrument,
    failure_table,
    figure_markdown,
    files_metadata,
    table_metadata,
    unchanged_table,
)
from market_pipeline.defs.interrupts import run_step
from market_pipeline.defs.io_managers import PartitionFiles, PartitionRows
from market_pipeline.defs.options import options
from market_pipeline.defs.partitions import DAILY, day_of, green_if
from market_pipeline.defs.resources import Pipeline
from market_pipeline.defs.step_times import makes
from market_pipeline.defs.telemetry import record_rebuilds
from market_pipeline.plots.mid import mid_plot
from market_pipeline.stages.provenance import BOOKS
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay
from market_pipeline.stages.rebuild.day import RebuiltDay, rebuild_day
from market_pipeline.stages.rebuild.resume import forget_rebuilds
from market_pipeline.tables import TABLES
from market_pipeline.telemetry.metrics.recording import record
from market_pipeline.telemetry.metrics.table import UNCHANGED_DAYS
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.publish import where_it_lies
from market_pipeline.warehouse.staging import StagedFile, staging_in_use

__all__ = ["ASSETS"]

_BIG = ("book_bbo", "book_depth", "book_checkpoints", "book_intervals")


@dg.multi_asset(
    name="rebuild_books",
    outs={
        name: dg.AssetOut(is_required=False, **options(name)) for name in (*_BIG, "book_rebuilds")
    },
    partitions_def=DAILY,
    can_subset=True,
)
@makes
@run_step
def rebuild_books(
    context: dg.AssetExecutionContext,
    pipeline: Pipeline,
    raw_book_deltas: pl.DataFrame,
    raw_book_snapshots: pl.DataFrame,
    raw_trades: pl.DataFrame,
    raw_profiles: pl.DataFrame,
) -> Iterator[dg.Output[PartitionFiles | PartitionRows]]:
    """Rebuild every instrument's book of the day; a bad one is recorded and the others go on."""
    lake = pipeline.settings.lake_path
    manifests = raw_book_deltas, raw_book_snapshots, raw_trades
    deltas, snapshots, trades = (RawObjects(lake, manifest) for manifest in manifests)
    raw = RegisteredDay(day_of(context), lake, deltas, snapshots, trades, raw_profiles)
    # Until every output is published: Dagster does that while this generator waits.
    with staging_in_use(pipeline.warehouse):
        yield from _rebuilt_books(context, pipeline, raw)


def _rebuilt_books(
    context: dg.AssetExecutionContext, pipeline: Pipeline, raw: RegisteredDay
) -> Iterator[dg.Output[PartitionFiles | PartitionRows]]:
    settings, warehouse = pipeline.settings, pipeline.warehouse
    rebuilt = rebuild_day(
        raw,
        pipeline.selected,
        settings,
        warehouse,
        context.log.info,
        recorded=pipeline.recorded(context, BOOKS),
    )
    is_rebuilt = any(record.outcome == "rebuilt" for record in rebuilt.records)
    made = [each for each in pipeline.selected if each.id not in rebuilt.unchanged]
    made_of = {each.id: rebuilt.made_of[each.id] for each in made}
    record_rebuilds(each for each in rebuilt.records if each.instrument_id in made_of)
    record(UNCHANGED_DAYS, len(rebuilt.unchanged), table=BOOKS[0].sql_name)
    for name in _BIG:
        if name in context.selected_output_names:
            files = rebuilt.staged[TABLES[name].sql_name]
            metadata = _of_books(rebuilt) | _of_files(name, files, warehouse, raw.day)
            yield dg.Output(
                PartitionFiles(
                    [file for file in files if file.instrument in made_of],
                    rebuilt.withdrawn,
                    made_of,
                ),
                output_name=name,
                metadata=green_if(is_rebuilt, context, name, metadata),
            )
    if "book_rebuilds" in context.selected_output_names:
        frame = TABLES["book_rebuilds"].frame(
            record
            for each, record in zip(pipeline.selected, rebuilt.records, strict=True)
            if each.id in made_of
        )
        yield dg.Output(
            PartitionRows(frame, made, made_of),
            output_name="book_rebuilds",
            metadata=green_if(is_rebuilt, context, "book_rebuilds", _of_books(rebuilt)),
        )
    # Reached when every output is published: nothing is left to resume.
    forget_rebuilds(pipeline.warehouse, pipeline.selected, raw.day)


def _of_books(rebuilt: RebuiltDay) -> Metadata:
    """What the UI shows of a day's rebuild with each of its tables."""
    return {
        "instruments": table_metadata(_instruments(rebuilt)),
        "failures": failure_table(rebuilt.records),
        "unchanged": unchanged_table(rebuilt.unchanged),
    }


def _of_files(name: str, files: Sequence[StagedFile], warehouse: Warehouse, day: date) -> Metadata:
    """What the UI shows of the files of one table."""
    metadata = files_metadata(files)
    if name == "book_bbo" and files:
        # Another run of the same day may have published them meanwhile.
        there = [where_it_lies(warehouse, TABLES[name], day, file) or file for file in files]
        figure = mid_plot(day, by_instrument(there, lambda file: file.path))
        metadata["mid_and_spread"] = figure_markdown(figure, "mid and spread")
    return metadata


def _instruments(rebuilt: RebuiltDay) -> list[Line]:
    shown = (
        "outcome",
        "messages",
        "rows",
        "snapshots_compared",
        "snapshots_mismatched",
        "resyncs",
        "tick",
        "lot",
    )
    return [
        {"instrument": record.instrument_id} | {name: getattr(record, name) for name in shown}
        for record in rebuilt.records
    ]


ASSETS = [rebuild_books, market_events]
