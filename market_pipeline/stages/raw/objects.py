"""A day's raw objects as they were registered: their files, hashes and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from itertools import chain
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
from market_pipeline.stages.published_rows import records_of
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
        self._rows: dict[str, list[ManifestRow]] = {}
        for row in sorted(ManifestRow.read(manifest), key=_place):
            self._rows.setdefault(row.instrument_id, []).append(row)

    @property
    def hashes(self) -> set[str]:
        """The SHA-256 of the day's files, of all instruments."""
        return {row.sha256 for row in chain(*self._rows.values()) if row.sha256 is not None}

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
        rows = self._of(instrument)
        for row in filter(_is_not_fetched, rows):
            raise MissingDataError(
                NOT_ALL_FETCHED,
                next_step="Run the day again when that is fixed.",
                exchange=instrument.venue,
                symbol=instrument.symbol,
                found=row.failure,
            )
        for row in rows:
            if row.sha256 is None and row.failure_kind not in {None, MissingDataError.__name__}:
                raise LakeFileError(
                    "The raw files of this instrument and day could not be registered",
                    next_step="Fix what is found, then materialize the raw assets again.",
                    exchange=instrument.venue,
                    symbol=instrument.symbol,
                    found=row.failure,
                )
        present = [row for row in rows if row.status != "missing"]
        for row in present:
            if row.status == "unusable" and row.made_from is not None:
                raise self._refused(instrument, row)
        if not present:
            raise MissingDataError(
                "There is no raw file of this instrument and day",
                next_step="Fetch the day from the vendor, then materialize the raw assets again.",
                exchange=instrument.venue,
                symbol=instrument.symbol,
            )
        for row in present:
            self._check_size(instrument, row)
        return [self._file(row) for row in present], [row.sha256 or "" for row in present]

    def _of(self, instrument: Instrument) -> list[ManifestRow]:
        """What is registered of an instrument, in order."""
        return self._rows.get(instrument.id, [])

    def _file(self, row: ManifestRow) -> Path:
        return self._lake / (row.path or "")

    def _check_size(self, instrument: Instrument, row: ManifestRow) -> None:
        file = self._file(row)
        if not has_size(file, row.bytes):
            found = stored_size(file) if is_stored(file) else None
            raise LakeFileError(
                "A raw file changed since it was registered",
                next_step="Materialize the raw assets of this day again, then the books.",
                exchange=instrument.venue,
                symbol=instrument.symbol,
                file=file,
                expected=f"{row.bytes} bytes",
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
            file=self._file(row),
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
        return [
            Input(table.sql_name, day, row.path, (row.path and row.sha256) or NOT_FETCHED, row.uri)
            for row in self._of(instrument)
            if row.status != "missing" or _is_not_fetched(row)
        ]

    def are_empty(self, instrument: Instrument) -> bool:
        """Whether there is an object, all of them can be read, and none has a row."""
        rows = self._of(instrument)
        return bool(rows) and all(row.status == "usable" and row.rows == 0 for row in rows)

    def usable_objects(self, instrument: Instrument) -> list[UsableObject]:
        """An instrument's objects that have rows, in order."""
        return [
            UsableObject(
                row.path, row.sha256, row.rows, row.first_ts_receipt_ns, row.last_ts_receipt_ns
            )
            for row in self._of(instrument)
            if row.status == "usable" and row.path and row.sha256 and row.rows
        ]

    def vendor_files(self, instrument: Instrument) -> list[str]:
        """The `VendorFile.reference` of each file that a converter made an instrument's day of."""
        return list(dict.fromkeys(chain(*(row.made_from or () for row in self._of(instrument)))))

    def remarks(self, instrument: Instrument) -> list[tuple[str | None, str]] | None:
        """What speaks against the objects of an instrument at the store: path below the lake and
        sentence of each that has a remark; None if the lake is a folder.
        """
        at_store = [row for row in self._of(instrument) if row.uri is not None]
        if not at_store:
            return None
        remarked = sorted(at_store, key=lambda row: row.uri or "")
        return [(row.path, row.remark) for row in remarked if row.remark is not None]

    def unusable_files(self, instrument: Instrument) -> list[Path]:
        """The files of an instrument that could not be opened when they were registered."""
        return [self._file(row) for row in self._of(instrument) if row.status == "unusable"]

    def as_registered(self, file: Path) -> tuple[str, int] | None:
        """The SHA-256 and the bytes of a file; None if it is not among these, or has changed."""
        for row in chain(*self._rows.values()):
            if row.status != "missing" and row.sha256 and self._file(row) == file:
                return (row.sha256, row.bytes or 0) if has_size(file, row.bytes) else None
        return None


def _place(row: ManifestRow) -> tuple[int, str]:
    return row.shard or 0, row.uri or ""


def _is_not_fetched(row: ManifestRow) -> bool:
    return row.status == "missing" and row.failure_kind == StoreError.__name__


@dataclass(frozen=True, slots=True)
class RegisteredDay:
    """The registered raw objects of one day, and what they look like (rows of `lake.profiles`)."""

    day: date
    lake: Path
    deltas: RawObjects
    snapshots: RawObjects
    trades: RawObjects
    profiles: pl.DataFrame = field(default_factory=PROFILES.empty)
    _read_profiles: dict[str, dict[str, Profile]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def objects_of(self, table: RawTable) -> RawObjects:
        """The objects of a raw table."""
        return next(objects for each, objects in self.tables if each is table)

    def profiles_of(self, instrument: Instrument) -> Mapping[str, Profile]:
        """By the name of a raw table, what it looks like; nothing of one not looked through."""
        # Asked for several times: where there is little data, reading them took much of a rebuild.
        if instrument.id not in self._read_profiles:
            found = records_of(self.profiles, instrument, Profile)
            self._read_profiles[instrument.id] = {each.raw_table: each for each in found}
        return self._read_profiles[instrument.id]

    @property
    def tables(self) -> list[tuple[RawTable, RawObjects]]:
        """Each raw table with its objects."""
        return list(zip(RAW_TABLES, (self.deltas, self.snapshots, self.trades), strict=True))
