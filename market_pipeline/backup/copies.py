"""Copies of files that never change, each once, named by the SHA-256 of what was copied.

A file that lies sealed is copied with its slots as it lies; its name is the SHA-256 of the sealed
bytes. Another one is sealed as it is copied where the settings want that.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from market_pipeline.backup.states import Entry
from market_pipeline.errors import BackupError, SealError
from market_pipeline.security.envelope import (
    SUFFIX,
    open_regular,
    read_all_slots,
    read_slots,
    write_slots,
)
from market_pipeline.security.files import head_of, open_sealed
from market_pipeline.security.ring import KeyRing
from market_pipeline.security.sealing import seal_in_place, stored_whole
from market_pipeline.security.segments import Sealable
from market_pipeline.security.stored import (
    is_sealed,
    is_stored,
    plain_name,
    remove_stored,
    sealed_path,
    stored_in,
    stored_size,
)
from market_pipeline.warehouse.layout import copy_hashed, make_private_folder, written_whole
from market_pipeline.warehouse.locks import locking

__all__ = ["Copies", "is_as_it_lay"]

_FOLDER = "copies"


def is_as_it_lay(entry: Entry) -> bool:
    """Whether it lay sealed, and is copied so."""
    return entry.path.endswith(SUFFIX)


class Copies:
    """The copies in a backup folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _FOLDER

    def path(self, entry: Entry) -> Path:
        """Where the copy of a file lies, by its plain name."""
        return self._folder / entry.sha256[:2] / entry.sha256

    def fault(self, entry: Entry) -> str | None:
        """What is wrong with a copy at a look, which does not read it; None if nothing is."""
        path = self.path(entry)
        sealed = sealed_path(path)
        try:
            size = sealed.stat().st_size if is_as_it_lay(entry) else stored_size(path)
            if is_as_it_lay(entry) or is_sealed(path):
                read_slots(sealed, head_of(sealed).file_id)
        except FileNotFoundError:
            return "there is no copy"
        except SealError as error:
            return str(error)
        return None if size == entry.size else f"{size:,} bytes of {entry.size:,}"

    def put(self, source: Path, entry: Entry, ring: KeyRing | None) -> bool:
        """Copies a file as it lies, unless it was copied before; whether it was copied now.

        Raises:
            BackupError: It is not what the entry says: it was written to meanwhile.
            SealError: It is sealed, and its slots are not there; or there is no key to seal with.
            OSError: It cannot be read, or the copy not be written.
        """
        path = self.path(entry)
        if self.fault(entry) is None:
            if is_as_it_lay(entry):
                _give_keys_of(source, sealed_path(path))
            elif ring is not None and path.exists():  # it was copied before copies were sealed
                seal_in_place(path, ring, "backups")
            return False
        make_private_folder(path.parent)
        remove_stored(path)  # half of one, as a disk may lose the rest
        if is_as_it_lay(entry):
            _copy_sealed(source, sealed_path(path), entry)
        else:
            with stored_whole(path, ring, "backups") as out:
                _copy_bytes(source, entry, out)
        return True

    def open(self, entry: Entry, ring: KeyRing | None) -> BinaryIO:
        """The bytes of a file as they lay, open for reading.

        Raises:
            OSError: There is no copy.
            SealError: It is sealed, and no key opens it.
        """
        path = self.path(entry)
        if is_as_it_lay(entry):
            return os.fdopen(open_regular(sealed_path(path)), "rb")
        if path.exists() or ring is None:
            return os.fdopen(open_regular(path), "rb")
        return open_sealed(sealed_path(path), ring)

    def require_opens(self, entry: Entry, ring: KeyRing | None) -> None:
        """Refuses the copy of a sealed file that no key here opens, if this host is to open it.

        Raises:
            SealError: Its slots are damaged, or of another file or key.
        """
        path = sealed_path(self.path(entry))
        head = head_of(path)
        slots = read_slots(path, head.file_id)
        if ring is None:
            return
        with suppress(SealError):  # there is no key that seals now, and one may open
            if not ring.opens(head.purpose):
                return
        ring.unwrap(path, head, slots)

    def give_slots(self, entry: Entry, target: Path) -> None:
        """Puts beside a restored sealed file the slots that are beside its copy now."""
        write_slots(target, read_all_slots(sealed_path(self.path(entry))))

    def unnamed(self, named: Container[str]) -> Iterator[Path]:
        """The copies, by their plain names, whose SHA-256 nothing names."""
        for folder in sorted(self._folder.glob("??")):
            yield from (path for path in stored_in(folder) if path.name not in named)

    def remove_left_over(self) -> None:
        """Removes what kills left; only for who has the backup folder alone."""
        for folder in self._folder.glob("??"):
            for path in list(folder.iterdir()):
                is_whole = path.suffix != ".partial" and is_stored(plain_name(path))
                if not is_whole:
                    path.unlink(missing_ok=True)


def _copy_sealed(source: Path, target: Path, entry: Entry) -> None:
    """Copies a sealed file and its slots, which may be given to another key meanwhile."""
    write_slots(target, read_all_slots(source))  # first what opens it
    with written_whole(target) as out:
        _copy_bytes(source, entry, out)
    try:
        _give_keys_of(source, target)
    except SealError:  # resealed meanwhile: its slots are of another file
        remove_stored(plain_name(target))
        raise


def _give_keys_of(source: Path, target: Path) -> None:
    """Has the keys open a copy that open the file, which may have been given to another meanwhile.

    Raises:
        SealError: There are no slots of it beside the file.
    """
    file_id = head_of(target).file_id
    slots = read_slots(source, file_id)
    with locking(target.parent):
        known = read_all_slots(target).get(file_id, [])
        if {slot.key for slot in known} != {slot.key for slot in slots}:
            write_slots(target, {file_id: slots})


def _copy_bytes(source: Path, entry: Entry, out: BinaryIO | Sealable) -> None:
    with os.fdopen(open_regular(source), "rb") as file:
        found = copy_hashed(file, out.write)
    if found != entry.sha256:
        raise BackupError(
            "A file changed while it was copied",
            next_step="Nothing to do if it is not written to any more: the next backup copies it.",
            file=source,
            expected=f"SHA-256 {entry.sha256}",
            found=f"SHA-256 {found}",
        )
