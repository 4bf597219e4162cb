"""A day's raw objects as they were registered: their files, hashes and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import NamedTuple

import polars as pl

from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import (
    DomainError,
    LakeFileError,
    MarketPipelineError,
    MissingDataError,
    SchemaError,
    StoreError,
)
from market_pipeline.quality.profile import PROFILES, Profile
from market_pipeline.security.stored import is_stored, stored_size
from market_pipeline.sources.crypto_lake import RAW_TABLES, RawTable
from market_pipeline.stages.published_rows import of_instrument, records_of
from market_pipeline.stages.raw.days import has_size
from market_pipeline.warehouse.lineage import NOT_FETCHED, Input
from market_pipeline.warehouse.manifest import ManifestRow
from market_pipeline.warehouse.tables import Table

__all__ = ["NOT_ALL_FETCHED", "RawObjects", "RegisteredDay", "UsableObject", "has_data", "has_rows"]

NOT_ALL_FETCHED = "The raw files of this instrument and day could not all be fetched"
"""The `problem` of the error for a day that the store did not give whole."""


def has_rows() -> pl.Expr:
    """Selects the objects that can be read and are not empty."""
    return (pl.col("status") == "usable") & (pl.col("rows") > 0) & pl.col("sha256").is_not_null()


def has_data(rows: pl.DataFrame) -> bool:
    """Whether any row of a `lake.raw_*` table, or of `lake.profiles`, is about a file that is there
    and not known to be empty; one that cannot be read counts.
    """
    found = (pl.col("status") == "unusable") | (pl.col("status") == "usable") & (pl.col("rows") > 0)
    return not rows.filter(found).is_empty()


class UsableObject(NamedTuple):
    """An object that has rows: its path below the lake, and what was registered of it.

    The times are null where its footer has none.
    """

    path: str
    sha256: str
    rows: int
    first_ts_receipt_ns: int | None
    last_ts_receipt_ns: int | None


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
            LakeFileError, SchemaError, DomainError: If a converter refused one of the vendor's
                files.
            MissingDataError: If it has none, or not all could be fetched: a part of a day would
                pass for the whole.
            LakeFileError: If a file is gone or has another size than when it was registered, or
                could not be registered.
        """
        rows = self._manifest.filter(of_instrument(instrument)).sort("shard")
        present = rows.filter(pl.col("status") != "missing")
        not_fetched = rows.filter(
            (pl.col("status") == "missing") & (pl.col("failure_kind") == StoreError.__name__)
        )
        if not_fetched.height:
            raise MissingDataError(
                NOT_ALL_FETCHED,
                next_step="Run the day again when that is fixed.",
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
                next_step="Fix what is found, then materialize the raw assets again.",
                exchange=instrument.venue,
                symbol=instrument.symbol,
                found=not_registered["failure"][0],
            )
        refused = present.filter(
            (pl.col("status") == "unusable") & pl.col("made_from").is_not_null()
        )
        if refused.height:
            raise self._refused(instrument, ManifestRow.read(refused)[0])
        if present.is_empty():
            raise MissingDataError(
                "There is no raw file of this instrument and day",
                next_step="Fetch the day from the vendor, then materialize the raw assets again.",
                exchange=instrument.venue,
                symbol=instrument.symbol,
            )
        files = [self._lake / path for path in present["path"]]
        self._check_sizes(instrument, files, present["bytes"].to_list())
        return files, present["sha256"].to_list()

    @staticmethod
    def _check_sizes(instrument: Instrument, files: list[Path], sizes: list[int]) -> None:
        for file, expected in zip(files, sizes, strict=True):
            if not has_size(file, expected):
                found = stored_size(file) if is_stored(file) else None
                raise LakeFileError(
                    "A raw file changed since it was registered",
                    next_step="Materialize the raw assets of this day again, then the books.",
                    exchange=instrument.venue,
                    symbol=instrument.symbol,
                    file=file,
                    expected=f"{expected} bytes",
                    found="no file" if found is None else f"{found} bytes",
                )

    def _refused(self, instrument: Instrument, row: ManifestRow) -> MarketPipelineError:
        """The error of a file that no reader here can meet again, because a converter met it."""
        kinds = {kind.__name__: kind for kind in (SchemaError, DomainError)}
        return kinds.get(row.failure_kind or "", LakeFileError)(
            "The vendor's file could not be turned into raw tables",
            next_step="Fix what is found there, then materialize the raw assets again.",
            exchange=instrument.venue,
            symbol=instrument.symbol,
            file=self._lake / (row.path or ""),
            found=row.failure,
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
        """
        not_fetched = (pl.col("status") == "missing") & (
            pl.col("failure_kind") == StoreError.__name__
        )
        rows = self._manifest.filter(
            of_instrument(instrument) & ((pl.col("status") != "missing") | not_fetched)
        ).sort("shard", "uri")
        return [
            Input(table.sql_name, day, path, (path and sha256) or NOT_FETCHED, uri)
            for path, uri, sha256 in rows.select("path", "uri", "sha256").iter_rows()
        ]

    def are_empty(self, instrument: Instrument) -> bool:
        """Whether there is an object, all of them can be read, and none has a row."""
        rows = self._manifest.filter(of_instrument(instrument))
        return (
            not rows.is_empty()
            and rows.select(((pl.col("status") == "usable") & (pl.col("rows") == 0)).all()).item()
        )

    def usable_objects(self, instrument: Instrument) -> list[UsableObject]:
        """An instrument's objects that have rows, in order."""
        rows = self._manifest.filter(of_instrument(instrument) & has_rows()).sort("shard")
        return [UsableObject(*each) for each in rows.select(UsableObject._fields).iter_rows()]

    def vendor_files(self, instrument: Instrument) -> list[str]:
        """The `VendorFile.reference` of each file that a converter made an instrument's day of."""
        made_from = self._manifest.filter(of_instrument(instrument))["made_from"]
        return made_from.explode().drop_nulls().unique(maintain_order=True).to_list()

    def remarks(self, instrument: Instrument) -> list[tuple[str | None, str]] | None:
        """What speaks against the objects of an instrument at the store: path below the lake and
        sentence of each that has a remark; None if the lake is a folder.
        """
        at_store = of_instrument(instrument) & pl.col("uri").is_not_null()
        rows = self._manifest.filter(at_store).sort("uri")
        if rows.is_empty():
            return None
        remarked = rows.filter(pl.col("remark").is_not_null())
        return list(remarked.select("path", "remark").iter_rows())

    def unusable_files(self, instrument: Instrument) -> list[Path]:
        """The files of an instrument that could not be opened when they were registered."""
        unusable = of_instrument(instrument) & (pl.col("status") == "unusable")
        rows = self._manifest.filter(unusable).sort("shard")
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
        row = None if rows.is_empty() else rows.row(0, named=True)
        return (row["sha256"], row["bytes"]) if row and has_size(file, row["bytes"]) else None


@dataclass(frozen=True, slots=True)
class RegisteredDay:
    """The registered raw objects of one day, and what they look like (rows of `lake.profiles`)."""

    day: date
    lake: Path
    deltas: RawObjects
    snapshots: RawObjects
    trades: RawObjects
    profiles: pl.DataFrame = field(default_factory=PROFILES.empty)

    def objects_of(self, table: RawTable) -> RawObjects:
        """The objects of a raw table."""
        return next(objects for each, objects in self.tables if each is table)

    def profiles_of(self, instrument: Instrument) -> dict[str, Profile]:
        """By the name of a raw table, what it looks like; nothing of one not looked through."""
        found = records_of(self.profiles, instrument, Profile)
        return {profile.raw_table: profile for profile in found}

    @property
    def tables(self) -> list[tuple[RawTable, RawObjects]]:
        """Each raw table with its objects."""
        return list(zip(RAW_TABLES, (self.deltas, self.snapshots, self.trades), strict=True))
