"""Converts a day of another vendor: once, and again if the vendor's files changed."""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import msgspec
from pyarrow import __version__ as pyarrow_version

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.errors import LakeFileError, MarketPipelineError, SealError, is_of_machine
from market_pipeline.security.master import sealing_ring
from market_pipeline.security.sealing import seal_in_place
from market_pipeline.security.stored import (
    is_sealed,
    remove_sealed,
    remove_stored,
    stored_digest,
    stored_in,
    stored_size,
)
from market_pipeline.shown import shown
from market_pipeline.sources.converter import Converter
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable, day_folder
from market_pipeline.sources.crypto_lake_contracts import OPTIONAL_TABLES
from market_pipeline.sources.raw_names import Series
from market_pipeline.sources.raw_writer import RawWriter
from market_pipeline.sources.registry import converter_of, is_converter
from market_pipeline.stages.raw.days import VendorFile, has_size
from market_pipeline.stages.raw.register import no_file, register_day
from market_pipeline.warehouse.layout import make_private_folder, sync, written_whole
from market_pipeline.warehouse.locks import locking, newest_change
from market_pipeline.warehouse.manifest import ManifestRow

__all__ = [
    "CONVERTED_FOLDER",
    "MADE_FOLDER",
    "ConvertedDay",
    "DayRecord",
    "Refusal",
    "convert_day",
    "read_record",
    "register_local_day",
]

CONVERTED_FOLDER = "converted"
"""Below the data folder: what converters made, a folder for each source."""

MADE_FOLDER = "made"
"""In the folder of a source, the table of records: of each day how it was made."""

_RECORD_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing was made of a day: the error's class and text, and which file it is about."""

    kind: str
    text: str
    path: str


class DayRecord(msgspec.Struct, tag_field="format", tag=_RECORD_FORMAT):
    """How a converter made a day, as it stands in a file.

    Attributes:
        converter: Its name and version, and the version of the library that writes.
        files: The vendor's files it was made from; empty if the day is not there and never was.
        notes: What the converter left out or found wrong.
        refusal: The error for which nothing was made; None if all went well.
        made: The shards that were made: their paths below the source's folder, and their bytes.
    """

    converter: list[str | int | float] = []
    files: list[VendorFile] = []
    notes: list[str] = []
    refusal: Refusal | None = None
    made: list[tuple[str, int]] = []

    @property
    def refused_file(self) -> VendorFile:
        """The file that the converter could not use; only with a refusal."""
        path = "" if self.refusal is None else self.refusal.path
        return next((file for file in self.files if file.path == path), self.files[0])


_record = msgspec.json.Decoder(DayRecord)


def read_record(path: Path) -> DayRecord | None:
    """The record in a file; None if there is none, or one of another format."""
    try:
        return _record.decode(path.read_bytes())
    except (OSError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class ConvertedDay:
    """The folder of a converter's raw tables, as a path that begins with the lake's; the record."""

    root: Path
    record: DayRecord


def register_local_day(
    settings: Settings,
    raw: RawTable,
    instrument: Instrument,
    day: date,
    *,
    scratch: Path | None = None,
) -> list[ManifestRow]:
    """As `register_day` for what lies here, after converting the day if it is another vendor's.

    Rows of a converter tell of what they were made (`made_from`) and what it noted
    (`converter_notes`). If it refused the day, the file it could not use is registered, as
    unusable, in place of the shards.

    Raises:
        InstrumentsError, PublishError: See `convert_day`.
    """
    lake = settings.lake_path
    converted = convert_day(settings, instrument, day, scratch=scratch)
    if converted is None:
        return register_day(lake, raw, instrument, day)
    rows, record = register_day(converted.root, raw, instrument, day), converted.record
    if not record.files:
        problem = f"There is no file of this day for the converter {instrument.source}"
        missing = no_file(problem, instrument, day, lake / instrument.source)
        return [row.failed(missing) for row in rows]
    made_from = tuple(file.reference for file in record.files)
    rows = [replace(row, made_from=made_from, converter_notes=tuple(record.notes)) for row in rows]
    if record.refusal is not None:
        refused, refusal = record.refused_file, record.refusal
        return [
            replace(
                rows[0],
                status="unusable",
                shard=1,
                failure_kind=refusal.kind,
                failure=refusal.text,
                **asdict(refused),
            )
        ]
    root = converted.root.relative_to(lake)
    return [replace(row, path=row.path and (root / row.path).as_posix()) for row in rows]


def convert_day(
    settings: Settings, instrument: Instrument, day: date, *, scratch: Path | None = None
) -> ConvertedDay | None:
    """Makes raw tables of a day of an instrument whose source is a converter; None if it is none.

    They lie below `<data_dir>/converted/<source>/` in the raw layout, and are sealed where the
    settings seal raw days. Nothing is made if they were made from the same bytes by the same
    converter before. A file that the converter cannot use is no error here: nothing is made, what
    was made before is taken away, and the reason is in the answer. Where the vendor's files are
    gone, what was made of them stays.

    Args:
        settings: Where the lake and the data folder are.
        instrument, day: Whose day.
        scratch: A folder in which to make what is not made yet; the data folder stays as it is.

    Raises:
        InstrumentsError: The converter cannot be loaded.
        PublishError: What it makes cannot be written.
        SealError: The vendor's files cannot be opened, or what is made cannot be sealed.
    """
    if not is_converter(instrument.source):
        return None
    converter, lake = converter_of(instrument.source), settings.lake_path
    root = _Root(lake, settings.data_dir / CONVERTED_FOLDER / instrument.source, instrument, day)
    files = converter.find(lake, instrument, day)
    if not files:
        return root.converted()
    for file in files:
        path = file.relative_to(lake).as_posix()
        if path != shown(path, len(path)):
            return _refused_for_its_name(root, lake, file)
    by: list[str | int | float] = [converter.name, converter.version, pyarrow_version]
    vendor = [_vendor_file(lake, file) for file in files]
    if scratch is not None:
        if root.is_made(by, vendor):
            return root.converted()
        root = _Root(lake, scratch / CONVERTED_FOLDER / instrument.source, instrument, day)
    make_private_folder(root.record.parent)
    lock, partial = root.record.with_suffix(".lock"), root.record.with_suffix(".partial")
    with locking(lock, sign=lambda: newest_change(partial)):
        ring = sealing_ring(settings, "raw")
        if not root.is_made(by, vendor):
            root.write(DayRecord(by, vendor, *root.make(converter, files)))
        converted = root.converted()
        if ring is not None:
            for path, _ in converted.record.made:
                if not is_sealed(root.path / path):
                    seal_in_place(root.path / path, ring, "raw")
        return converted


class _Root:
    """The folder of a converter's raw tables, and the record of how those of a day were made."""

    def __init__(self, lake: Path, folder: Path, instrument: Instrument, day: date) -> None:
        # The manifest tells paths below the lake, so this folder is named from there too. `..` of a
        # symbolic link is a neighbour of what it leads to, hence the real paths.
        self.path = lake / os.path.relpath(os.path.realpath(folder), os.path.realpath(lake))
        self._lake, self._instrument, self._day = lake, instrument, day
        made = Series(MADE_FOLDER, instrument.venue, instrument.symbol)
        self.record = folder / f"{made.day_folder(day)}.json"
        self._folder = folder

    def converted(self) -> ConvertedDay:
        """What the record says; that there is nothing, if there is none."""
        return ConvertedDay(self.path, read_record(self.record) or DayRecord())

    def is_made(self, by: list[str | int | float], files: list[VendorFile]) -> bool:
        """Whether what is there was made by that of those files, and is still there."""
        known = read_record(self.record)
        return (
            known is not None
            and (known.converter, known.files) == (by, files)
            and all(has_size(self._folder / path, size) for path, size in known.made)
        )

    def make(
        self, converter: Converter, files: Sequence[Path]
    ) -> tuple[list[str], Refusal | None, list[tuple[str, int]]]:
        """Converts the files and puts the shards in place; the rest of the record."""
        staging = self.record.with_suffix(".partial")
        shutil.rmtree(staging, ignore_errors=True)
        make_private_folder(staging)
        notes: list[str] = []
        refusal = None
        try:
            try:
                with RawWriter(staging, f"{converter.name} {converter.version}") as out:
                    converter.convert(files, out, self._instrument, self._day)
                notes = out.notes
            except Exception as error:
                if is_of_machine(error) or isinstance(error, SealError):
                    raise  # no fault of the files, which would stay refused
                # A converter of another package may fail in any way: other instruments go on.
                refusal = self._refusal(converter, files, error)
                shutil.rmtree(staging)
            made = self._put_in_place(staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return notes, refusal, made

    def _refusal(self, converter: Converter, files: Sequence[Path], error: Exception) -> Refusal:
        known = (
            error if isinstance(error, MarketPipelineError) else _own_error(converter, files, error)
        )
        about = Path(known.file) if known.file else files[0]
        path = about if about in files else files[0]
        return Refusal(type(known).__name__, str(known), path.relative_to(self._lake).as_posix())

    def _put_in_place(self, staging: Path) -> list[tuple[str, int]]:
        """Moves the new shards to their folders and takes old ones away: (path, bytes) of each."""
        made = []
        for table in (*OPTIONAL_TABLES, TRADES, SNAPSHOTS, DELTAS):
            venue, symbol = self._instrument.venue, self._instrument.symbol
            folder = day_folder(self._folder, table, venue, symbol, self._day)
            new = sorted((staging / table.name).glob("*.snappy.parquet"))
            there = stored_in(folder) if folder.is_dir() else []
            named = {each for each in there if each.name.endswith(".snappy.parquet")}
            stale = named - {folder / file.name for file in new}
            if new:
                make_private_folder(folder)
            for file in new:
                path = (folder / file.name).relative_to(self._folder).as_posix()
                made.append((path, file.stat().st_size))
                file.replace(folder / file.name)
                remove_sealed(folder / file.name)
            for file in stale:
                remove_stored(file)
            if new or stale:
                sync(folder)
        return made

    def write(self, record: DayRecord) -> None:
        """Replaces the record, whole or not at all; only for who has its lock."""
        for left_over in self.record.parent.glob(f"{self.record.name}.*.partial"):
            left_over.unlink()  # of a process that was killed
        text = msgspec.json.format(msgspec.json.encode(record), indent=2)
        with written_whole(self.record) as file:
            file.write(text + b"\n")


def _vendor_file(lake: Path, file: Path) -> VendorFile:
    path, size = file.relative_to(lake).as_posix(), stored_size(file)
    return VendorFile(path, size, stored_digest(file))


def _refused_for_its_name(root: _Root, lake: Path, file: Path) -> ConvertedDay:
    """Tables and records cannot hold such a name, and whoever reads them should not have to."""
    error = LakeFileError(
        "The name of a vendor's file has characters that cannot be printed",
        next_step="Give it a plain name or take it away, then materialize the raw assets again.",
        file=file,
    )
    vendor_file = replace(_vendor_file(lake, file), path=shown(file.relative_to(lake).as_posix()))
    refusal = Refusal(type(error).__name__, str(error), vendor_file.path)
    return ConvertedDay(root.path, DayRecord(files=[vendor_file], refusal=refusal))


def _own_error(converter: Converter, files: Sequence[Path], error: Exception) -> LakeFileError:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return LakeFileError(
        f"The converter {converter.name} failed on the files of the day",
        next_step="Fix the converter and raise its version, or ask who wrote it.",
        file=files[0],
        found=f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})",
    )
