"""The raw days: the vendor's bytes, unchanged, each object registered with its hash and rows."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial

import dagster as dg
import polars as pl

from market_pipeline.defs.describe import (
    Line,
    Metadata,
    failure_table,
    table_metadata,
    unchanged_table,
)
from market_pipeline.defs.interrupts import run_step
from market_pipeline.defs.io_managers import PartitionRows, PublishedRows, published_together
from market_pipeline.defs.options import options
from market_pipeline.defs.partitions import DAILY, day_of, green_if
from market_pipeline.defs.resources import Pipeline
from market_pipeline.defs.step_times import makes
from market_pipeline.defs.telemetry import record_raw
from market_pipeline.quality.findings import MAX_PLACES
from market_pipeline.quality.profile import Profile
from market_pipeline.quality.strategy import choose_strategy
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES
from market_pipeline.sources.crypto_lake_contracts import FUNDING, OPEN_INTEREST
from market_pipeline.stages.provenance import PROFILED, made_of_each, profiles_made_of
from market_pipeline.stages.raw.day import ManifestRows, raw_day
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay, has_data
from market_pipeline.stages.raw.profile import profile_day
from market_pipeline.stages.recorded_day import with_unchanged
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.manifest import ManifestRow

__all__ = ["ASSETS", "FETCHING"]

FETCHING = "Fetching: "
"""How a log line of a run begins that says of an asset how far a fetch is, or what it came to."""


_OPTIONAL = {"raw_funding", "raw_open_interest"}
"""What need not be there is never missing."""
_RAW = {
    "raw_book_deltas": DELTAS,
    "raw_book_snapshots": SNAPSHOTS,
    "raw_trades": TRADES,
    "raw_funding": FUNDING,
    "raw_open_interest": OPEN_INTEREST,
}


@dg.multi_asset(
    name="register_raw",
    outs={name: dg.AssetOut(is_required=False, **options(name)) for name in _RAW},
    partitions_def=DAILY,
    can_subset=True,
)
@makes
@run_step
def register_raw(
    context: dg.AssetExecutionContext, pipeline: Pipeline
) -> Iterator[dg.Output[PartitionRows | PublishedRows]]:
    """Register the objects of every instrument; a bad one is recorded, not raised."""
    asked = [name for name in _RAW if name in context.selected_output_names]
    registered = {name: _registered(context, pipeline, name) for name in asked}
    rows = {
        name: PartitionRows(TABLES[name].frame(found.rows), pipeline.selected)
        for name, found in registered.items()
    }
    for name, output in published_together(rows).items():
        is_there = name in _OPTIONAL or has_data(output.frame)
        metadata = _of_objects(registered[name], output.frame)
        yield dg.Output(
            output, output_name=name, metadata=green_if(is_there, context, name, metadata)
        )


def _registered(context: dg.AssetExecutionContext, pipeline: Pipeline, name: str) -> ManifestRows:
    """The rows of a raw table's day; fetched before, with lines on how far that is."""
    found = raw_day(
        pipeline.store,
        pipeline.settings,
        _RAW[name],
        pipeline.selected,
        day_of(context),
        lambda progress: context.log.info(f"{FETCHING}{name}: {progress}"),
    )
    if found.fetched is not None:
        context.log.info(f"{FETCHING}{name}: {found.fetched}")
    record_raw(TABLES[name], found)
    return found


def _of_objects(registered: ManifestRows, frame: pl.DataFrame) -> Metadata:
    """What the UI shows of the objects of a raw table."""
    usable = frame.filter(pl.col("status") == "usable")
    return {
        "objects": usable.height,
        "rows": int(usable["rows"].sum()),
        "bytes": int(usable["bytes"].sum()),
        **_fetched(registered),
        "instruments": table_metadata(
            [
                {
                    "instrument": row.instrument_id,
                    "status": row.status,
                    "rows": row.rows,
                    "bytes": row.bytes,
                    "file": row.path,
                    **({} if registered.fetched is None else _at_store(row)),
                }
                for row in registered.rows
            ]
        ),
        **_converter_notes(registered.rows),
        "failures": failure_table(registered.rows),
    }


def _converter_notes(rows: Sequence[ManifestRow]) -> Metadata:
    """What converters left out or found; nothing if there is nothing."""
    notes = {row.instrument_id: row.converter_notes for row in rows if row.converter_notes}
    lines = [{"instrument": each, "note": note} for each, of in notes.items() for note in of]
    return {"converter_notes": table_metadata(lines[:MAX_PLACES])} if lines else {}


def _fetched(registered: ManifestRows) -> Metadata:
    """What was fetched; nothing if the lake is a folder."""
    figures = registered.fetched
    if figures is None:
        return {}
    return {
        **{f"objects_{action}": count for action, count in figures.counts.items()},
        "instruments_not_listed": figures.unlisted,
        "fetched_bytes": figures.bytes,
        "fetch_seconds": round(figures.seconds, 3),
        "fetched_megabytes_per_second": round(figures.megabytes_per_second, 1),
        "store_requests": figures.requests,
        "blocked_seconds_by_limits": round(figures.blocked_seconds, 3),
        "remarks": table_metadata(
            [
                {"instrument": row.instrument_id, "file": row.path, "remark": row.remark}
                for row in registered.rows
                if row.remark
            ][:MAX_PLACES]
        ),
    }


def _at_store(row: ManifestRow) -> Line:
    return {"version": row.version, "uri": row.uri}


@dg.asset(partitions_def=DAILY, **options("raw_profiles"))
@makes
@run_step
def raw_profiles(
    context: dg.AssetExecutionContext,
    pipeline: Pipeline,
    raw_book_deltas: pl.DataFrame,
    raw_book_snapshots: pl.DataFrame,
    raw_trades: pl.DataFrame,
) -> dg.MaterializeResult[PartitionRows]:
    """Look through the raw rows of every instrument, before anything is rebuilt from them."""
    lake = pipeline.settings.lake_path
    manifests = raw_book_deltas, raw_book_snapshots, raw_trades
    deltas, snapshots, trades = (RawObjects(lake, manifest) for manifest in manifests)
    raw = RegisteredDay(day_of(context), lake, deltas, snapshots, trades)
    made_of = made_of_each(raw.day, pipeline.selected, partial(profiles_made_of, raw))
    unchanged = pipeline.unchanged(context, PROFILED, made_of)
    made = [each for each in pipeline.selected if each.id not in unchanged]
    table = TABLES["raw_profiles"]
    frame = table.frame(profile_day(raw, made, pipeline.warehouse))
    profiles = with_unchanged(table, frame, unchanged, pipeline.selected)
    rows = Profile.read(profiles)
    metadata = {
        "unchanged": unchanged_table(unchanged),
        "strategies": table_metadata(
            [
                {"instrument": each.id, "strategy": chosen.name, "reason": chosen.reason}
                for each in pipeline.selected
                for chosen in [
                    choose_strategy([row for row in rows if row.instrument_id == each.id])
                ]
            ]
        ),
        "tables": table_metadata(
            [{"instrument": row.instrument_id, **_figures(row)} for row in rows]
        ),
        "places": table_metadata(
            [
                {"instrument": row.instrument_id} | asdict(place)
                for row in rows
                for place in row.places
            ][:MAX_PLACES]
        ),
        "failures": failure_table(rows),
    }
    return dg.MaterializeResult(
        value=PartitionRows(frame, made, made_of),
        metadata=green_if(has_data(profiles), context, "raw_profiles", metadata),
    )


def _figures(row: Profile) -> Line:
    """The figures of a profile that a person looks at first."""
    return {
        **{name: getattr(row, name) for name in ("raw_table", "status", "rows", "messages")},
        "violations": row.domain_violations if row.status == "usable" else None,
        **{
            name.replace("_", " "): getattr(row, name)
            for name in ("unordered_messages", "sequence_backwards", "duplicate_messages")
        },
        "tick": row.tick_seen,
        "lot": row.lot_seen,
    }


ASSETS = [register_raw, raw_profiles]
