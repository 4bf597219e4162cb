"""What was hashed before: a file that never changes is read once, not for each backup."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

from market_pipeline.backup.contents import Source
from market_pipeline.backup.states import Entry
from market_pipeline.errors import BackupError
from market_pipeline.security.envelope import open_regular
from market_pipeline.warehouse.layout import Warehouse, make_private_folder, written_whole

__all__ = ["Hashes"]

_FILE = "backup-hashes"


class _Known(msgspec.Struct, frozen=True, array_like=True):
    """Size and times of a file when it was hashed, and its SHA-256."""

    size: int
    changed_ns: int
    inode: int
    sha256: str


_known = msgspec.json.Decoder(dict[str, _Known])


class Hashes:
    """The hashes of files by how they lay; a context manager, at whose end they are kept.

    Args:
        path: Where they are kept. Lost or damaged, all files are hashed again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before: dict[str, _Known] = {}
        self._now: dict[str, _Known] = {}

    @classmethod
    def of(cls, data_dir: Path) -> Self:
        """Those of a data folder."""
        return cls(Warehouse(data_dir).state_dir / _FILE)

    def __enter__(self) -> Self:
        with suppress(OSError, ValueError):
            self._before = _known.decode(self._path.read_bytes())
        return self

    def __exit__(self, *_: object) -> None:
        left = {path: each for path, each in self._before.items() if Path(path).exists()}
        known = left | self._now
        with suppress(OSError):  # what is not kept is hashed again
            make_private_folder(self._path.parent)
            with written_whole(self._path) as file:
                file.write(msgspec.json.encode(known))

    def entry(self, source: Source, lies: Path, *, again: bool = False) -> Entry:
        """What a file is.

        Args:
            source, lies: The file, and how it lies.
            again: Whether it is hashed although it seems to be what it was.

        Raises:
            BackupError: It is written to.
            OSError: It cannot be read.
        """
        before = lies.stat()
        known = self._before.get(str(lies))
        if again or known is None or not _is_same(known, before):
            known = _Known(before.st_size, before.st_mtime_ns, before.st_ino, _sha256(lies))
            if not _is_same(known, lies.stat()):
                raise BackupError(
                    "A file is written to while it is copied",
                    next_step="Nothing to do if that ends: the next backup copies it.",
                    file=lies,
                )
        self._now[str(lies)] = known
        path = lies.relative_to(source.folder).as_posix()
        return Entry(source.root, path, known.size, known.changed_ns, known.sha256)


def _is_same(known: _Known, found: os.stat_result) -> bool:
    return (known.size, known.changed_ns, known.inode) == (
        found.st_size,
        found.st_mtime_ns,
        found.st_ino,
    )


def _sha256(path: Path) -> str:
    with os.fdopen(open_regular(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
