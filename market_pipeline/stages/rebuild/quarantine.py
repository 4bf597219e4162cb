"""Keeps a copy of every raw file that cannot be used, with the reason beside it.

The raw file itself is only read. The copy survives what the vendor or the user does to the lake
later: a corrected file may replace the bad one, and what was wrong can still be looked at.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from market_pipeline import __version__
from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import (
    DomainError,
    LakeFileError,
    MarketPipelineError,
    PublishError,
    SchemaError,
    SealError,
)
from market_pipeline.security.stored import copy_stored, is_sealed, plain_name
from market_pipeline.sources.crypto_lake import open_shard, read_deltas
from market_pipeline.stages.raw.days import has_size
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay
from market_pipeline.warehouse.layout import (
    Warehouse,
    copy_hashed,
    make_private_folder,
    written_whole,
)

__all__ = ["BadFile", "bad_files", "keep_bad_file", "keep_copy"]

_UNUSABLE = (LakeFileError, SchemaError, DomainError, SealError)
_SPARE_BYTES = 64 << 20
"""So much room is left to the files that are being written at the same time."""


@dataclass(frozen=True, slots=True)
class BadFile:
    """A raw file that cannot be used.

    Attributes:
        file: Where it lies in the lake.
        below_lake: The same, counted from the lake.
        sha256, bytes: As registered.
        error: Why it cannot be used.
    """

    file: Path
    below_lake: Path
    sha256: str
    bytes: int
    error: MarketPipelineError


def bad_files(
    day: RegisteredDay,
    instrument: Instrument,
    failure: MarketPipelineError | None,
    *,
    strategy: str | None,
) -> list[BadFile]:
    """The raw files of an instrument and day that cannot be used, each once.

    They are the file that the rebuild failed at, those that were registered as unusable, and with
    the strategy `snapshots_only` the delta file that cannot be read to its end. A file that changed
    since it was registered is none: it is to be registered again.

    Args:
        day: The registered raw objects.
        instrument: Whose files.
        failure: What the rebuild failed at; None if it did not fail.
        strategy: How the day was, or was to be, rebuilt.
    """
    found: dict[Path, BadFile] = {}
    errors: list[MarketPipelineError] = [failure] if isinstance(failure, _UNUSABLE) else []
    errors += _registered_as_unusable(day, instrument)
    if strategy == "snapshots_only":
        errors += _damaged_deltas(day, instrument)
    for error in errors:
        file = plain_name(Path(error.file or "none"))
        for objects in (day.deltas, day.snapshots, day.trades):
            registered = objects.as_registered(file)
            if registered is not None and file not in found:
                found[file] = BadFile(file, _below(day.lake, file), *registered, error)
    return list(found.values())


def _below(lake: Path, file: Path) -> Path:
    """A file counted from the lake; converted ones lie beside it, and `..` leads nowhere."""
    return Path(*(part for part in file.relative_to(lake).parts if part != ".."))


def keep_copy(warehouse: Warehouse, bad: BadFile) -> Path:
    """Copies a file into quarantine unless it is there already; where the copy lies.

    The copy is `quarantine/<folder below the lake>/<first 16 digits of the SHA-256>-<name>`, and
    the reason is beside it in a file of the same name and `.reason.json`. Both appear whole or not
    at all, and the same file and code give the same bytes. The copy of a sealed file is sealed, and
    has its slots; it is copied without being opened.

    Raises:
        PublishError: There is no room for it, or it cannot be written; nothing half-written stays.
        LakeFileError: The file has other bytes than when it was registered.
    """
    folder = warehouse.quarantine_dir / bad.below_lake.parent
    copy = folder / f"{bad.sha256[:16]}-{bad.file.name}"
    try:
        make_private_folder(folder)
        make_private_folder(warehouse.staging_dir)
        if not has_size(copy, bad.bytes):
            _copy(warehouse, bad, copy)
        reason = copy.with_name(f"{copy.name}.reason.json")
        content = _reason(bad)
        if not (reason.exists() and reason.read_bytes() == content):
            with written_whole(reason, warehouse.staging_dir) as file:
                file.write(content)
    except OSError as error:
        raise _no_copy(bad, copy, f"{error.strerror or error}") from error
    return copy


def keep_bad_file(
    warehouse: Warehouse,
    lake: Path,
    objects: RawObjects,
    error: LakeFileError | SchemaError | DomainError | SealError,
) -> None:
    """Keeps a copy of the file that an error is about, if it is as it was registered.

    Raises:
        PublishError, LakeFileError: See `keep_copy`.
    """
    file = plain_name(Path(error.file or "none"))
    registered = objects.as_registered(file)
    if registered is not None:
        keep_copy(warehouse, BadFile(file, _below(lake, file), *registered, error))


def _registered_as_unusable(
    day: RegisteredDay, instrument: Instrument
) -> Iterator[MarketPipelineError]:
    """What opening each file says again that could not be opened when it was registered."""
    for table, objects in day.tables:
        for file in objects.unusable_files(instrument):
            try:
                open_shard(file, table)[0].close()
            except _UNUSABLE as error:
                yield error
            except OSError:
                continue  # gone since


def _damaged_deltas(day: RegisteredDay, instrument: Instrument) -> Iterator[MarketPipelineError]:
    """What reading the deltas to their end says; they were not read by the rebuild."""
    try:
        for _ in read_deltas(day.deltas.files_if_any(instrument)[0]):
            pass
    except _UNUSABLE as error:
        yield error


def _copy(warehouse: Warehouse, bad: BadFile, copy: Path) -> None:
    if shutil.disk_usage(copy.parent).free < bad.bytes + _SPARE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if is_sealed(bad.file):
        copy_stored(bad.file, copy, warehouse.staging_dir)
        return
    with bad.file.open("rb") as source, written_whole(copy, warehouse.staging_dir) as target:
        found = copy_hashed(source, target.write)
        if found != bad.sha256:
            raise LakeFileError(
                "A raw file changed since it was registered",
                next_step="Materialize the raw assets of this day again, then the books.",
                file=bad.file,
                expected=f"SHA-256 {bad.sha256}",
                found=found,
            )


def _reason(bad: BadFile) -> bytes:
    """Why the file cannot be used, as JSON. It names no time, so that it is the same each time."""
    error = bad.error
    reason = {
        "file": bad.below_lake.as_posix(),
        "sha256": bad.sha256,
        "bytes": bad.bytes,
        "error": type(error).__name__,
        "text": str(error),
        "row": error.row,
        "column": error.column,
        "expected": error.expected,
        "found": error.found,
        "code_version": __version__,
    }
    return (json.dumps(reason, indent=2) + "\n").encode()


def _no_copy(bad: BadFile, copy: Path, why: str) -> PublishError:
    return PublishError(
        "A raw file that cannot be used could not be copied to quarantine",
        next_step="Make room or fix the data folder, then run the day again; what was published "
        "before still is.",
        file=bad.file,
        expected=f"room for {bad.bytes} bytes at {copy}",
        found=why,
    )
