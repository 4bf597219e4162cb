"""Makes a state of a backup: copies what is new of what never changes, archives what changes.

Nothing is stopped for it: databases are copied between two transactions, and of a file that only
grows what was there. Killed at any moment, the states of before are whole, and the next one goes on
with the copies that were made.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Collection, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import IO, NamedTuple, cast

from market_pipeline.audit.record import record
from market_pipeline.backup._databases import copied_database
from market_pipeline.backup._hashes import Hashes
from market_pipeline.backup.contents import Source, changing, written_once
from market_pipeline.backup.copies import Copies
from market_pipeline.backup.states import Entry, Manifest, States
from market_pipeline.config.settings import Settings
from market_pipeline.errors import BackupError, MarketPipelineError, SettingsError, is_of_machine
from market_pipeline.security.disks import require_encrypted
from market_pipeline.security.envelope import open_regular
from market_pipeline.security.master import sealing_ring
from market_pipeline.security.ring import KEYS_FOLDER, RING, KeyRing
from market_pipeline.security.sealing import stored_whole
from market_pipeline.security.stored import is_stored, stored_at
from market_pipeline.warehouse.layout import (
    PRIVATE_FILE,
    Warehouse,
    make_private_folder,
    written_whole,
)
from market_pipeline.warehouse.locks import locking
from market_pipeline.warehouse.staging import staging_in_use

__all__ = ["Created", "backup_folder", "create"]

_TAR_BLOCK_BYTES = 512
_NO_SECRET = (RING, "passphrase.salt")
"""Of the keys folder what opens sealed backups, beside the master key, and holds no secret."""


class Created(NamedTuple):
    """A state that was made.

    Attributes:
        state: Its name.
        copied, copied_bytes: Files that were copied now, and their bytes.
        there: Files whose copies were there.
        archived, archived_bytes: Files that went into its archive, and their bytes.
        left_out: What was to be in it and is not, each with its reason.
        removed: States that went, as there are newer ones enough.
    """

    state: str
    copied: int
    copied_bytes: int
    there: int
    archived: int
    archived_bytes: int
    left_out: list[str]
    removed: list[str]


def backup_folder(settings: Settings) -> Path:
    """The folder of the backups.

    Raises:
        SettingsError: None is set, it is not there (a disk that is not mounted must not be taken
            for an empty one), or it holds or lies in what is copied.
    """
    folder = settings.backup_folder
    if folder is None:
        raise SettingsError(["backup_folder: none is set. Set PIPELINE_BACKUP_FOLDER to one."])
    if not folder.is_dir():
        raise SettingsError(
            [f"backup_folder: {folder} is not there. Mount its disk, or make it: `mkdir -m 700`."]
        )
    for other in (settings.data_dir, settings.lake_path):
        ours, theirs = folder.resolve(), other.resolve()
        if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
            raise SettingsError(
                [f"backup_folder: {folder} and {other} lie one in the other. Keep them apart."]
            )
    return folder


def create(
    settings: Settings,
    home: Path | None,
    *,
    raw: bool = False,
    tables: bool = False,
    progress: Callable[[str], object] = lambda text: None,
) -> Created:
    """Makes a state, and removes those for which there are newer ones enough.

    Args:
        settings: Where all of it lies.
        home: `DAGSTER_HOME`; None without one.
        raw: Also the files of the lake that are no recordings.
        tables: Also the published tables.
        progress: Is called with what is done next.

    Raises:
        SettingsError: See `backup_folder`.
        SealError: Backups are to be sealed, and there is no key.
        AuditError: It cannot be recorded.
        WarehouseBusyError: Another process makes a backup, or kept a database.
        BackupError: A file of the archive cannot be read, or the newest state is of a time to come.
        OSError: The machine refuses; no state is made.
    """
    folder = backup_folder(settings)
    ring = sealing_ring(settings, "backups")
    if settings.require_encrypted_disk and ring is None:
        require_encrypted([folder])
    with locking(folder, name="the backup folder"):
        copies, states = Copies(folder), States(folder, ring)
        make_private_folder(states.folder)
        copies.remove_left_over()
        states.remove_left_over()
        name = states.new_name()
        what = {"kind": "backup", "folder": str(folder), "state": name}
        record(settings.data_dir, "write", what)
        archived, left_out = _archived(settings, home, states.archive(name), ring, progress)
        chosen = dict.fromkeys([*left_out, *written_once(settings, raw=raw, tables=tables)])
        new, there, left_out = _copied(settings, chosen, copies, ring, progress)
        _keep_ring(settings.data_dir / KEYS_FOLDER, folder / KEYS_FOLDER)
        by = f"market-pipeline {version('market-pipeline')}"
        states.write(name, Manifest(by, [*archived, *new, *there], left_out), ring)
        removed = states.names()[: -settings.backup_states]
        for old in removed:
            record(settings.data_dir, "delete", {**what, "state": old})
            states.remove(old)
        if not left_out and settings.backup_ended is not None:
            make_private_folder(settings.backup_ended.parent)
            settings.backup_ended.touch(PRIVATE_FILE)
    return Created(
        state=name,
        copied=len(new),
        copied_bytes=sum(each.size for each in new),
        there=len(there),
        archived=len(archived),
        archived_bytes=sum(each.size for each in archived),
        left_out=left_out,
        removed=removed,
    )


def _copied(
    settings: Settings,
    chosen: Collection[Source | str],
    copies: Copies,
    ring: KeyRing | None,
    progress: Callable[[str], object],
) -> tuple[list[Entry], list[Entry], list[str]]:
    """The files that were copied now, those that had been, and what is left out."""
    new: list[Entry] = []
    there: list[Entry] = []
    left_out: list[str] = []
    with Hashes.of(settings.data_dir) as hashes:
        for number, source in enumerate(chosen, 1):
            if isinstance(source, str):
                left_out.append(source)
                continue
            progress(f"copying {number:,} of {len(chosen):,}: {source.file}")
            try:
                entry, is_new = _copy(source, copies, hashes, ring)
            except (MarketPipelineError, OSError) as error:
                if is_of_machine(error, of_raw_files=True):
                    raise
                if is_stored(source.file):  # else it was pruned meanwhile
                    left_out.append(f"{source.file}: {error}")
            else:
                (new if is_new else there).append(entry)
    return new, there, left_out


def _copy(
    source: Source, copies: Copies, hashes: Hashes, ring: KeyRing | None
) -> tuple[Entry, bool]:
    lies = stored_at(source.file)
    try:
        entry = hashes.entry(source, lies)
        return entry, copies.put(lies, entry, ring)
    except (FileNotFoundError, MarketPipelineError):
        # It may have been sealed, or given to another key, between the looks at it.
        lies = stored_at(source.file)
        entry = hashes.entry(source, lies, again=True)
        return entry, copies.put(lies, entry, ring)


def _archived(
    settings: Settings,
    home: Path | None,
    archive: Path,
    ring: KeyRing | None,
    progress: Callable[[str], object],
) -> tuple[list[Entry], list[str]]:
    """Archives what changes; the entries of its files, and what is left out."""
    warehouse = Warehouse(settings.data_dir, settings.lock_timeout_seconds)
    keys = settings.data_dir / KEYS_FOLDER
    entries: list[Entry] = []
    with (
        staging_in_use(warehouse),  # databases pass through it
        stored_whole(archive, ring, "backups") as out,
        tarfile.open(
            fileobj=cast("IO[bytes]", out), mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20
        ) as tar,
    ):
        found = list(changing(settings, home))
        sources = [each for each in found if isinstance(each, Source)]
        for source in (each for each in sources if each.file.parent != keys):
            progress(f"archiving {source.file}")
            with copied_database(source.file, warehouse) as file:
                entries += _added(tar, source, file)
        if keys.is_dir():
            with locking(keys, shared=True):  # a sealed file and its slots are of one moment
                for source in (each for each in sources if each.file.parent == keys):
                    entries += _added(tar, source, source.file)
    return entries, [each for each in found if isinstance(each, str)]


def _added(tar: tarfile.TarFile, source: Source, file: Path) -> Iterator[Entry]:
    """Adds so much of a file as it has now, if it is still there: others append to it meanwhile."""
    path = source.file.relative_to(source.folder).as_posix()
    try:
        changed_ns = source.file.stat().st_mtime_ns
        descriptor = open_regular(file)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "rb") as opened:
        found = os.fstat(opened.fileno())
        info = tarfile.TarInfo(f"{source.root}/{path}")
        info.size, info.mtime, info.mode = found.st_size, changed_ns // 10**9, PRIVATE_FILE
        hashed = _Hashed(opened)
        try:
            tar.addfile(info, cast("IO[bytes]", hashed))
        except OSError as error:
            if error.errno is not None:  # the machine's
                raise
            raise BackupError(
                "A file became shorter while it was archived",
                next_step="Make the backup again.",
                file=source.file,
                expected=f"{info.size:,} bytes",
            ) from error
    blocks = -(-info.size // _TAR_BLOCK_BYTES)
    offset = tar.offset - blocks * _TAR_BLOCK_BYTES
    digest = hashed.digest.hexdigest()
    yield Entry(source.root, path, info.size, changed_ns, digest, offset)


class _Hashed:
    """An open file that hashes what is read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        part = self._file.read(size)
        self.digest.update(part)
        return part


def _keep_ring(keys: Path, folder: Path) -> None:
    """Copies plainly what sealed backups need besides the master key where the data is lost."""
    for left_over in folder.glob("*.partial"):  # of a backup that was killed here
        left_over.unlink()
    for name in _NO_SECRET:
        if (keys / name).is_file():
            make_private_folder(folder)
            with written_whole(folder / name) as file:
                file.write((keys / name).read_bytes())
