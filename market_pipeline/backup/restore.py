"""Reads backups: verifies every byte of them, and makes folders of a state again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from market_pipeline.backup.copies import Copies, is_as_it_lay
from market_pipeline.backup.states import Entry, Manifest, States
from market_pipeline.config.settings import Settings
from market_pipeline.errors import BackupError, MarketPipelineError, is_of_machine
from market_pipeline.security.envelope import open_regular
from market_pipeline.security.files import open_sealed
from market_pipeline.security.master import master_key, ring_of
from market_pipeline.security.ring import KEYS_FOLDER, RING, KeyRing
from market_pipeline.security.stored import sealed_path
from market_pipeline.warehouse.layout import make_private_folder, written_whole

__all__ = ["Checked", "restore", "ring_for", "unnamed", "verify"]

_UNFINISHED = ".restoring"
"""Holds what is restored until all of it is there."""
_PART_BYTES = 1 << 20


class Checked(NamedTuple):
    """What was read of a backup.

    Attributes:
        states: By name.
        files, bytes: What was whole.
        faults: What was not, each with its place.
    """

    states: Sequence[str]
    files: int
    bytes: int
    faults: list[str]


def ring_for(settings: Settings, folder: Path) -> KeyRing | None:
    """The keys that open a backup: those of the data folder or, where it is lost, of the backup.

    None where no key is needed, or none is set.

    Raises:
        SettingsError: The master key cannot be read.
        SealError: The ring cannot be read.
    """
    if (settings.data_dir / KEYS_FOLDER / RING).exists():
        return ring_of(settings)
    beside = folder / KEYS_FOLDER
    if not (beside / RING).exists():
        return None
    return KeyRing(beside, master_key(settings, beside))


def verify(
    folder: Path,
    ring: KeyRing | None,
    names: Sequence[str],
    progress: Callable[[str], object] = lambda text: None,
) -> Checked:
    """Reads every byte of some states: opens what is sealed, and compares what it holds.

    A copy that several of them name is read once.

    Args:
        folder: The backup folder.
        ring: See `ring_for`.
        names: The states.
        progress: Is called with what is read next.
    """
    states, copies = States(folder, ring), Copies(folder)
    read: set[tuple[str, bool]] = set()
    count = _Count()
    for name in names:
        try:
            manifest = states.read(name)
        except (MarketPipelineError, OSError) as error:
            count.faults.append(str(error))
            continue
        with _Opened(name, states, copies, ring) as opened:
            for entry in _in_order(manifest):
                key = entry.sha256, is_as_it_lay(entry)
                if entry.offset is None and key in read:
                    continue
                read.add(key)
                progress(f"verifying {name}: {entry.name}")
                with count.of(entry):
                    opened.read(entry)
                    if entry.offset is None and is_as_it_lay(entry):
                        copies.require_opens(entry, ring)
    return Checked(names, count.files, count.bytes, count.faults)


def restore(
    folder: Path,
    ring: KeyRing | None,
    name: str,
    target: Path,
    progress: Callable[[str], object] = lambda text: None,
) -> Checked:
    """Makes the folders of a state again, each file compared with its hash before it is there.

    A file that is not whole in the backup is left out, and named. Until all others are there they
    lie in a folder that begins with a dot.

    Args:
        folder: The backup folder.
        ring: See `ring_for`.
        name: The state.
        target: An empty folder, or none yet: gets `data`, `dagster_home`, `lake` if that lay
            elsewhere, and the files of settings.
        progress: Is called with what is restored next.

    Raises:
        BackupError: There is no such state, its manifest is damaged, or the target is not empty.
        SealError: No key opens it.
        OSError: The machine refuses.
    """
    states, copies = States(folder, ring), Copies(folder)
    manifest = states.read(name)
    make_private_folder(target)
    if any(target.iterdir()):
        raise BackupError(
            "A backup is restored to an empty folder only",
            next_step="Name another folder, or empty this one.",
            file=target,
            expected="an empty folder",
        )
    unfinished = target / _UNFINISHED
    make_private_folder(unfinished)
    count = _Count()
    with _Opened(name, states, copies, ring) as opened:
        for entry in _in_order(manifest):
            progress(f"restoring {entry.name}")
            with count.of(entry):
                _restore(entry, opened, copies, unfinished)
    for each in sorted(unfinished.iterdir()):
        each.rename(target / each.name)
    unfinished.rmdir()
    return Checked([name], count.files, count.bytes, count.faults)


def unnamed(folder: Path, ring: KeyRing | None, names: Sequence[str]) -> Iterator[Path]:
    """The copies that no state names, as of files that were pruned before the oldest of them.

    Raises:
        BackupError, SealError: There is no state, or a manifest cannot be read, so nobody knows.
    """
    states = States(folder, ring)
    if not names:
        raise BackupError(
            "Without a state nobody knows which copies are needed",
            next_step="See where the states are, or make one: `market-pipeline backup create`.",
            file=states.folder,
        )
    named = {
        entry.sha256
        for name in names
        for entry in states.read(name).entries
        if entry.offset is None
    }
    yield from Copies(folder).unnamed(named)


def _in_order(manifest: Manifest) -> list[Entry]:
    """Files of the archive as they lie there, then copies."""
    return sorted(manifest.entries, key=lambda each: (each.offset is None, each.offset or 0))


class _Opened:
    """The files of a state; a context manager."""

    def __init__(self, name: str, states: States, copies: Copies, ring: KeyRing | None) -> None:
        self._path = states.archive(name)
        self._states, self._copies, self._ring = states, copies, ring
        self._archive: BinaryIO | None = None
        self._stack = ExitStack()

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, entry: Entry, out: BinaryIO | None = None) -> None:
        """Reads a file, into another one if that is given.

        Raises:
            BackupError: It is not as it lay.
            SealError: No key opens it, or it is not as it was sealed.
            OSError: It is not there, or the machine refuses.
        """
        found = hashlib.sha256()
        for part in self._parts(entry):
            found.update(part)
            if out is not None:
                out.write(part)
        if found.hexdigest() != entry.sha256:
            is_archived = entry.offset is not None
            raise BackupError(
                "A file of the backup is not as it was copied",
                next_step="Take it from another state."
                if is_archived
                else "Remove it: the next backup copies the file again, if that is still there.",
                file=self._path if is_archived else self._copies.path(entry),
                expected=f"SHA-256 {entry.sha256}",
                found=f"SHA-256 {found.hexdigest()}",
            )

    def _parts(self, entry: Entry) -> Iterator[bytes]:
        with ExitStack() as stack:
            if entry.offset is None:
                file = stack.enter_context(self._copies.open(entry, self._ring))
            else:
                file = self._opened_archive()
                file.seek(entry.offset)
            left = entry.size
            while left and (part := file.read(min(left, _PART_BYTES))):
                left -= len(part)
                yield part
            if entry.offset is None:
                yield file.read(1)  # what is behind its end makes it another one

    def _opened_archive(self) -> BinaryIO:
        if self._archive is None:
            if self._path.exists() or not sealed_path(self._path).exists():
                opened: BinaryIO = os.fdopen(open_regular(self._path), "rb")
            else:
                opened = open_sealed(sealed_path(self._path), self._states.ring())
            self._archive = self._stack.enter_context(opened)
        return self._archive


def _restore(entry: Entry, opened: _Opened, copies: Copies, folder: Path) -> None:
    path = folder / entry.name
    make_private_folder(path.parent)
    with written_whole(path) as out:
        opened.read(entry, out)
    os.utime(path, ns=(entry.changed_ns, entry.changed_ns))
    if is_as_it_lay(entry) and entry.offset is None:
        copies.give_slots(entry, path)


class _Count:
    """What was whole, and what was not."""

    def __init__(self) -> None:
        self.files = self.bytes = 0
        self.faults: list[str] = []

    @contextmanager
    def of(self, entry: Entry) -> Iterator[None]:
        """Counts a file, whichever it is in the block; the machine's errors go on."""
        try:
            yield
        except (MarketPipelineError, OSError) as error:
            if is_of_machine(error, of_raw_files=True):
                raise
            self.faults.append(f"{entry.name}: {error}")
        else:
            self.files += 1
            self.bytes += entry.size
