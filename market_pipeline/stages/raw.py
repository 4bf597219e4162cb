"""Registers a day's raw objects: what there is, byte for byte, and whether it can be read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from market_pipeline.errors import (
    DomainError,
    LakeFileError,
    MarketPipelineError,
    MissingDataError,
    SchemaError,
    StoreError,
    error_text,
    is_of_machine,
)
from market_pipeline.instruments import Instrument
from market_pipeline.lake.ledger import digest
from market_pipeline.lake.lineage import NOT_FETCHED, Input
from market_pipeline.lake.tables import Table
from market_pipeline.shown import shown_logger
from market_pipeline.sources.crypto_lake import RawTable, day_folder, day_shards, open_shard
from market_pipeline.stages.fetched import FetchedObject

__all__ = [
    "NOT_ALL_FETCHED",
    "RawObjects",
    "failure_columns",
    "has_data",
    "has_rows",
    "not_registered",
    "register_day",
]

_LOG = shown_logger(__name__)

NOT_ALL_FETCHED = "The raw files of this instrument and day could not all be fetched"
"""The `problem` of the error for a day that the store did not give whole."""


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
        missing = MissingDataError(
            f"There is no {raw.name} file",
            next_step="Fetch the day from the vendor, or wait if it is not due yet.",
            exchange=instrument.venue,
            symbol=instrument.symbol,
            day=day,
            file=uri or day_folder(lake, raw, instrument.venue, instrument.symbol, day),
        )
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
            next_step="Mend or fetch it again, then materialize the raw assets of this day again.",
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


def has_rows() -> pl.Expr:
    """Selects the objects that can be read and are not empty."""
    return (pl.col("status") == "usable") & (pl.col("rows") > 0) & pl.col("sha256").is_not_null()


def has_data(rows: pl.DataFrame) -> bool:
    """Whether any row of a `lake.raw_*` table, or of `lake.profiles`, is about a file that is there
    and not known to be empty; one that cannot be read counts.
    """
    found = (pl.col("status") == "unusable") | (pl.col("status") == "usable") & (pl.col("rows") > 0)
    return not rows.filter(found).is_empty()


class RawObjects:
    """The registered objects of one raw table on one day.

    Args:
        lake: The folder the paths count from.
        manifest: Rows of one of the `lake.raw_*` tables.
    """

    def __init__(self, lake: Path, manifest: pl.DataFrame) -> None:
        self._lake = lake
        self._manifest = manifest

    @property
    def hashes(self) -> set[str]:
        """The SHA-256 of the day's files, of all instruments."""
        return set(self._manifest["sha256"].drop_nulls())

    def files_of(self, instrument: Instrument) -> tuple[list[Path], list[str]]:
        """The files of an instrument in order, and their SHA-256.

        A file registered as unusable is among them: whoever reads it meets the error itself.

        Raises:
            LakeFileError, SchemaError, DomainError: If a door refused one of the vendor's files.
            MissingDataError: If it has none, or not all could be fetched: a part of a day would
                pass for the whole.
            LakeFileError: If a file is gone or has another size than when it was registered, or
                could not be registered.
        """
        rows = self._manifest.filter(
            (pl.col("exchange") == instrument.venue) & (pl.col("symbol") == instrument.symbol)
        ).sort("shard")
        present = rows.filter(pl.col("status") != "missing")
        not_fetched = rows.filter(
            (pl.col("status") == "missing") & (pl.col("failure_kind") == StoreError.__name__)
        )
        if not_fetched.height:
            raise MissingDataError(
                NOT_ALL_FETCHED,
                next_step="Run the day again when that is mended.",
                exchange=instrument.venue,
                symbol=instrument.symbol,
                found=not_fetched["failure"][0],
            )
        not_registered = rows.filter(
            pl.col("failure_kind").is_not_null()
            & pl.col("sha256").is_null()
            & (pl.col("failure_kind") != MissingDataError.__name__)
        )
        if not_registered.height:
            raise LakeFileError(
                "The raw files of this instrument and day could not be registered",
                next_step="Mend what is found, then materialize the raw assets again.",
                exchange=instrument.venue,
                symbol=instrument.symbol,
                found=not_registered["failure"][0],
            )
        refused = present.filter(
            (pl.col("status") == "unusable") & pl.col("made_from").is_not_null()
        )
        if refused.height:
            raise self._refused(instrument, refused.row(0, named=True))
        if present.is_empty():
            raise MissingDataError(
                "There is no raw file of this instrument and day",
                next_step="Fetch the day from the vendor, then materialize the raw assets again.",
                exchange=instrument.venue,
                symbol=instrument.symbol,
            )
        files = [self._lake / path for path in present["path"]]
        for file, expected in zip(files, present["bytes"], strict=True):
            found = file.stat().st_size if file.exists() else None
            if found != expected:
                raise LakeFileError(
                    "A raw file changed since it was registered",
                    next_step="Materialize the raw assets of this day again, then the books.",
                    exchange=instrument.venue,
                    symbol=instrument.symbol,
                    file=file,
                    expected=f"{expected} bytes",
                    found="no file" if found is None else f"{found} bytes",
                )
        return files, present["sha256"].to_list()

    def _refused(self, instrument: Instrument, row: dict[str, Any]) -> MarketPipelineError:
        """The error of a file that no reader here can meet again, because a door met it."""
        kinds = {kind.__name__: kind for kind in (SchemaError, DomainError)}
        return kinds.get(row["failure_kind"], LakeFileError)(
            "The vendor's file could not be turned into raw tables",
            next_step="Mend what is found there, then materialize the raw assets again.",
            exchange=instrument.venue,
            symbol=instrument.symbol,
            file=self._lake / row["path"],
            found=row["failure"],
        )

    def files_if_any(self, instrument: Instrument) -> tuple[list[Path], list[str]]:
        """As `files_of`, but an instrument without objects has no files."""
        try:
            return self.files_of(instrument)
        except MissingDataError:
            return [], []

    def made_from(self, table: Table, instrument: Instrument, day: date) -> list[Input]:
        """The objects of an instrument in order, as inputs of what is made of them.

        One that could not be fetched is among them: without it the day is not what it would be.

        Args:
            table: The published table of these rows.
            instrument, day: Whose.
        """
        not_fetched = (pl.col("status") == "missing") & (
            pl.col("failure_kind") == StoreError.__name__
        )
        rows = self._manifest.filter(
            (pl.col("exchange") == instrument.venue)
            & (pl.col("symbol") == instrument.symbol)
            & ((pl.col("status") != "missing") | not_fetched)
        ).sort("shard", "uri")
        return [
            Input(table.sql_name, day, path, (path and sha256) or NOT_FETCHED, uri)
            for path, uri, sha256 in rows.select("path", "uri", "sha256").iter_rows()
        ]

    def usable_objects(self, instrument: Instrument) -> list[tuple[str, str]]:
        """Path below the lake and SHA-256 of an instrument's objects that have rows, in order."""
        rows = self._manifest.filter(
            (pl.col("exchange") == instrument.venue)
            & (pl.col("symbol") == instrument.symbol)
            & has_rows()
        ).sort("shard")
        return list(rows.select("path", "sha256").iter_rows())

    def remarks(self, instrument: Instrument) -> list[tuple[str | None, str]] | None:
        """What speaks against the objects of an instrument at the store: path below the lake and
        sentence of each that has a remark; None if the lake is a folder.
        """
        rows = self._manifest.filter(
            (pl.col("exchange") == instrument.venue)
            & (pl.col("symbol") == instrument.symbol)
            & pl.col("uri").is_not_null()
        ).sort("uri")
        if rows.is_empty():
            return None
        told = rows.filter(pl.col("remark").is_not_null())
        return list(told.select("path", "remark").iter_rows())

    def unusable_files(self, instrument: Instrument) -> list[Path]:
        """The files of an instrument that could not be opened when they were registered."""
        rows = self._manifest.filter(
            (pl.col("exchange") == instrument.venue)
            & (pl.col("symbol") == instrument.symbol)
            & (pl.col("status") == "unusable")
        ).sort("shard")
        return [self._lake / path for path in rows["path"]]

    def as_registered(self, file: Path) -> tuple[str, int] | None:
        """The SHA-256 and the bytes of a file; None if it is not among these, or has changed."""
        if not file.is_relative_to(self._lake):
            return None
        rows = self._manifest.filter(
            (pl.col("path") == file.relative_to(self._lake).as_posix())
            & (pl.col("status") != "missing")
            & pl.col("sha256").is_not_null()
        )
        if rows.is_empty() or not file.exists():
            return None
        row = rows.row(0, named=True)
        return (row["sha256"], row["bytes"]) if file.stat().st_size == row["bytes"] else None
