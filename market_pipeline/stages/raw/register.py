"""Registers a day's raw objects: what there is, byte for byte, and whether it can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import (
    LakeFileError,
    MarketPipelineError,
    MissingDataError,
    error_text,
    is_of_machine,
)
from market_pipeline.security.stored import stored_digest, stored_size
from market_pipeline.shown import shown_logger
from market_pipeline.sources.crypto_lake import RawTable, day_folder, day_shards, open_shard
from market_pipeline.stages.raw.fetched import FetchedObject
from market_pipeline.warehouse.manifest import ManifestRow

__all__ = ["no_file", "not_registered", "register_day"]

_LOG = shown_logger(__name__)


def register_day(
    lake: Path,
    raw: RawTable,
    instrument: Instrument,
    day: date,
    fetched: Sequence[FetchedObject] = (),
    *,
    uri: str | None = None,
) -> list[ManifestRow]:
    """The manifest rows of one instrument, day and raw table.

    One row per shard in numeric order; a single row of status "missing" if there is none, or if
    the names in the day's folder leave open which files are its shards.
    Nothing is raised for a bad file: the row says what is wrong with it.

    Args:
        lake: The local lake.
        raw: Which raw table.
        instrument, day: Whose day.
        fetched: What `fetch_table` says of the objects, if they come from a store. One of which
            nothing is local is a row of status "missing" too.
        uri: The day's folder at the store, if the lake is one.
    """
    by_path = {each.path: each for each in fetched if each.path is not None}
    missing = _missing(instrument, day)
    try:
        shards = day_shards(lake, raw, instrument.venue, instrument.symbol, day)
    except LakeFileError as error:
        return [replace(missing.failed(error), uri=uri)]
    rows = []
    for number, shard in enumerate(shards, start=1):
        path = shard.relative_to(lake).as_posix()
        row = _at_store(missing, by_path.get(shard))
        row = replace(row, status="usable", shard=number, path=path)
        rows.append(_looked_at(row, shard, raw, by_path.get(shard)))
    rows += [_absent(missing, each) for each in fetched if each.path is None]
    if not rows:
        folder = uri or day_folder(lake, raw, instrument.venue, instrument.symbol, day)
        nothing = no_file(f"There is no {raw.name} file", instrument, day, folder)
        rows.append(replace(missing.failed(nothing), uri=uri))
    return rows


def _missing(instrument: Instrument, day: date) -> ManifestRow:
    return ManifestRow(
        exchange=instrument.venue, symbol=instrument.symbol, dt=day, status="missing"
    )


def _looked_at(
    row: ManifestRow, shard: Path, raw: RawTable, at_store: FetchedObject | None
) -> ManifestRow:
    """The row of a shard with what its bytes and footer say, or why they cannot be read."""
    try:
        row = replace(row, bytes=stored_size(shard))
        verified = at_store and at_store.verified_sha256
        row = replace(row, sha256=verified or stored_digest(shard))
        return _with_footer(row, shard, raw)
    except MarketPipelineError as error:
        if is_of_machine(error):
            raise
        return replace(row.failed(error), status="unusable")
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
        return replace(row.failed(unreadable), status="unusable")


def _at_store(row: ManifestRow, found: FetchedObject | None) -> ManifestRow:
    if found is None:
        return row
    return replace(row, uri=found.uri, etag=found.etag, version=found.version, remark=found.remark)


def _absent(missing: ManifestRow, found: FetchedObject) -> ManifestRow:
    """An object of which nothing is local, or nothing that is part of the day."""
    row = replace(_at_store(missing, found), bytes=found.bytes, sha256=found.sha256)
    return row if found.failure is None else row.failed(found.failure)


def not_registered(instrument: Instrument, day: date, error: Exception) -> ManifestRow:
    """The manifest row of an instrument whose objects could not be found out."""
    text = str(error) if isinstance(error, MarketPipelineError) else error_text(error)
    return replace(_missing(instrument, day).failed(error), failure=text)


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


def _with_footer(row: ManifestRow, shard: Path, raw: RawTable) -> ManifestRow:
    parquet, names = open_shard(shard, raw)
    with parquet:
        metadata = parquet.metadata
        receipt = parquet.schema_arrow.names.index(names["receipt_timestamp"])
        groups = [metadata.row_group(i).column(receipt) for i in range(metadata.num_row_groups)]
        known = [g.statistics for g in groups if g.is_stats_set and g.statistics.has_min_max]
        return replace(
            row,
            rows=metadata.num_rows,
            first_ts_receipt_ns=min((s.min for s in known), default=None),
            last_ts_receipt_ns=max((s.max for s in known), default=None),
        )
