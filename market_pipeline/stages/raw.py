"""Registers a day's raw objects: what there is, byte for byte, and whether it can be read."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from market_pipeline.errors import LakeFileError, MarketPipelineError, MissingDataError
from market_pipeline.instruments import Instrument
from market_pipeline.lake.tables import Table
from market_pipeline.sources.crypto_lake import RawTable, day_folder, day_shards, open_shard

__all__ = ["RawObjects", "register_day"]


def register_day(
    lake: Path, raw: RawTable, table: Table, instrument: Instrument, day: date
) -> list[dict[str, Any]]:
    """The manifest rows of one instrument, day and raw table.

    One row per shard in numeric order; a single row of status "missing" if there is none.
    Nothing is raised for a bad file: the row says what is wrong with it.
    """
    shards = day_shards(lake, raw, instrument.venue, instrument.symbol, day)
    identity = {"exchange": instrument.venue, "symbol": instrument.symbol, "dt": day}
    empty = dict.fromkeys(column.name for column in table.columns)
    if not shards:
        missing = MissingDataError(
            f"There is no {raw.name} file",
            next_step="Fetch the day from the vendor, or wait if it is not due yet.",
            exchange=instrument.venue,
            symbol=instrument.symbol,
            day=day,
            file=day_folder(lake, raw, instrument.venue, instrument.symbol, day),
        )
        failure = {"failure_kind": type(missing).__name__, "failure": str(missing)}
        return [empty | identity | {"status": "missing"} | failure]
    rows = []
    for number, shard in enumerate(shards, start=1):
        with shard.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        row = identity | {
            "status": "usable",
            "shard": number,
            "path": shard.relative_to(lake).as_posix(),
            "bytes": shard.stat().st_size,
            "sha256": sha256,
        }
        try:
            row |= _footer(shard, raw)
        except MarketPipelineError as error:
            row |= {
                "status": "unusable",
                "failure_kind": type(error).__name__,
                "failure": str(error),
            }
        rows.append(empty | row)
    return rows


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


class RawObjects:
    """The registered objects of one raw table on one day.

    Args:
        lake: The folder the paths count from.
        manifest: Rows of one of the `lake.raw_*` tables.
    """

    def __init__(self, lake: Path, manifest: pl.DataFrame) -> None:
        self._lake = lake
        self._manifest = manifest

    def files_of(self, instrument: Instrument) -> tuple[list[Path], list[str]]:
        """The files of an instrument in order, and their SHA-256.

        A file registered as unusable is among them: whoever reads it meets the error itself.

        Raises:
            MissingDataError: If it has none.
            LakeFileError: If a file is gone or has another size than when it was registered.
        """
        rows = self._manifest.filter(
            (pl.col("exchange") == instrument.venue) & (pl.col("symbol") == instrument.symbol)
        ).sort("shard")
        present = rows.filter(pl.col("status") != "missing")
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

    def files_if_any(self, instrument: Instrument) -> tuple[list[Path], list[str]]:
        """As `files_of`, but an instrument without objects has no files."""
        try:
            return self.files_of(instrument)
        except MissingDataError:
            return [], []

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
        )
        if rows.is_empty() or not file.exists():
            return None
        row = rows.row(0, named=True)
        return (row["sha256"], row["bytes"]) if file.stat().st_size == row["bytes"] else None
