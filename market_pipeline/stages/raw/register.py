"""Registers a day's raw objects: what there is, byte for byte, and whether it can be read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import (
    LakeFileError,
    MarketPipelineError,
    MissingDataError,
    error_text,
    is_of_machine,
)
from market_pipeline.shown import shown_logger
from market_pipeline.sources.crypto_lake import RawTable, day_folder, day_shards, open_shard
from market_pipeline.stages.raw.fetched import FetchedObject
from market_pipeline.warehouse.ledger import digest
from market_pipeline.warehouse.tables import Table

__all__ = [
    "failure_columns",
    "no_file",
    "not_registered",
    "register_day",
]

_LOG = shown_logger(__name__)


def register_day(
    lake: Path,
    raw: RawTable,
    table: Table,
    instrument: Instrument,
    day: date,
    fetched: Sequence[FetchedObject] = (),
    *,
    uri: str | None = None,
) -> list[dict[str, Any]]:
    """The manifest rows of one instrument, day and raw table.

    One row per shard in numeric order; a single row of status "missing" if there is none, or if
    the names in the day's folder leave open which files are its shards.
    Nothing is raised for a bad file: the row says what is wrong with it.

    Args:
        lake: The local lake.
        raw, table: Which raw table, and the published table of its rows.
        instrument, day: Whose day.
        fetched: What `fetch_table` says of the objects, if they come from a store. One of which
            nothing is local is a row of status "missing" too.
        uri: The day's folder at the store, if the lake is one.
    """
    identity = {"exchange": instrument.venue, "symbol": instrument.symbol, "dt": day}
    blank = dict.fromkeys(column.name for column in table.columns) | identity
    by_path = {each.path: each for each in fetched if each.path is not None}
    rows = []
    try:
        shards = day_shards(lake, raw, instrument.venue, instrument.symbol, day)
    except LakeFileError as error:
        return [not_registered(table, instrument, day, error) | {"uri": uri}]
    for number, shard in enumerate(shards, start=1):
        at_store = by_path.get(shard)
        rows.append(blank | _row_of(lake, raw, number, shard, at_store) | _store_columns(at_store))
    rows += [blank | _absent(each) for each in fetched if each.path is None]
    if not rows:
        folder = uri or day_folder(lake, raw, instrument.venue, instrument.symbol, day)
        missing = no_file(f"There is no {raw.name} file", instrument, day, folder)
        rows.append(blank | {"status": "missing", "uri": uri} | failure_columns(missing))
    return rows


def _row_of(
    lake: Path, raw: RawTable, number: int, shard: Path, at_store: FetchedObject | None
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "status": "usable",
        "shard": number,
        "path": shard.relative_to(lake).as_posix(),
    }
    try:
        row["bytes"] = shard.stat().st_size
        row["sha256"] = (at_store and at_store.verified_sha256) or digest(shard, "sha256")
        row |= _footer(shard, raw)
    except MarketPipelineError as error:
        if is_of_machine(error):
            raise
        row |= {"status": "unusable"} | failure_columns(error)
    except Exception as error:
        # A file nobody may read, or whose footer no reader expects, is its instrument's own affair.
        if is_of_machine(error, of_raw_files=True):
            raise
        _LOG.exception("%s could not be registered", shard)
        unreadable = LakeFileError(
            f"The {raw.name} file cannot be read",
            next_step="Fix or fetch it again, then materialize the raw assets of this day again.",
            file=shard,
            found=error_text(error),
        )
        row |= {"status": "unusable"} | failure_columns(unreadable)
    return row


def _store_columns(at_store: FetchedObject | None) -> dict[str, Any]:
    if at_store is None:
        return {}
    return {
        "uri": at_store.uri,
        "etag": at_store.etag,
        "version": at_store.version,
        "remark": at_store.remark,
    }


def _absent(at_store: FetchedObject) -> dict[str, Any]:
    """An object of which nothing is local, or nothing that is part of the day."""
    failure = {} if at_store.failure is None else failure_columns(at_store.failure)
    return {"status": "missing", "bytes": at_store.bytes, "sha256": at_store.sha256} | (
        _store_columns(at_store) | failure
    )


def not_registered(
    table: Table, instrument: Instrument, day: date, error: Exception
) -> dict[str, Any]:
    """The manifest row of an instrument whose objects could not be found out."""
    text = str(error) if isinstance(error, MarketPipelineError) else error_text(error)
    blank = dict.fromkeys(column.name for column in table.columns)
    identity = {"exchange": instrument.venue, "symbol": instrument.symbol, "dt": day}
    failure = {"failure_kind": type(error).__name__, "failure": text}
    return blank | identity | {"status": "missing"} | failure


def no_file(problem: str, instrument: Instrument, day: date, place: Path | str) -> MissingDataError:
    """The error for an instrument's day of which there is no file."""
    return MissingDataError(
        problem,
        next_step="Fetch the day from the vendor, or wait if it is not due yet.",
        exchange=instrument.venue,
        symbol=instrument.symbol,
        day=day,
        file=place,
    )


def failure_columns(error: MarketPipelineError) -> dict[str, Any]:
    """The columns of a manifest row that tell an error."""
    return {"failure_kind": type(error).__name__, "failure": str(error)}


def _footer(shard: Path, raw: RawTable) -> dict[str, Any]:
    parquet, names = open_shard(shard, raw)
    with parquet:
        metadata = parquet.metadata
        receipt = parquet.schema_arrow.names.index(names["receipt_timestamp"])
        groups = [metadata.row_group(i).column(receipt) for i in range(metadata.num_row_groups)]
        known = [g.statistics for g in groups if g.is_stats_set and g.statistics.has_min_max]
        return {
            "rows": metadata.num_rows,
            "first_ts_receipt_ns": min((s.min for s in known), default=None),
            "last_ts_receipt_ns": max((s.max for s in known), default=None),
        }
