"""What an object store reported of the raw files in a day's folder, in a file beside them.

The ledger is also a journal: what has come waits under `.<object>.incoming` until the rest of the
day has come too, and putting a day in place is resumed after a kill. So the folder always
holds the day as the store had it at one time, never a part of it or two deliveries mixed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from market_pipeline.warehouse.layout import PRIVATE_FILE, sync, written_whole
from market_pipeline.warehouse.locks import locking, newest_change

__all__ = ["GONE", "LEDGER_NAME", "KnownObject", "Ledger", "alone_in", "digest", "read_ledger"]

LEDGER_NAME = ".objects.json"
"""The name of the ledger in a day's folder."""

_PARTS = ("in_place", "arrived", "placing")

GONE = ".gone"
"""The end of the name of a file that says that an object is no part of the day any more."""


@dataclass(frozen=True, slots=True)
class KnownObject:
    """What the store reported of a local file when it was fetched.

    Attributes:
        file: The file's name in the folder.
        version: 1, and one more for each time the object's bytes were found changed.
        uri, etag, bytes: Where the object was at the store, its tag and its size.
        sha256: The hash of the file's bytes.
    """

    file: str
    version: int
    uri: str
    etag: str
    bytes: int
    sha256: str


_ledger = msgspec.json.Decoder(dict[str, dict[str, KnownObject]])


class Ledger:
    """The ledger of one folder, by the names of the objects; use it inside `alone_in`.

    One that cannot be read says nothing, and nothing is lost by that: a file that is not known is
    compared with the store again.

    Attributes:
        in_place: The files of the day.
        arrived: What has come since and waits.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.in_place, self.arrived, self._placing = _read(folder / LEDGER_NAME)

    def incoming(self, name: str) -> Path:
        """Where an object is to be downloaded to."""
        return self._folder / f".{name}.incoming"

    def adopt(self, name: str, known: KnownObject) -> None:
        """Remembers of a file that lies there already what the store says of it."""
        self.in_place[name] = known
        self._write()

    def has_come(self, name: str, known: KnownObject) -> None:
        """Remembers that an object lies where `incoming` says, whole and verified."""
        self.arrived[name] = known
        self._write()

    def put_in_place(self, placing: Mapping[str, KnownObject]) -> None:
        """Gives what has come its names, and marks what is gone; all of it, whatever happens.

        Args:
            placing: What the day's objects become. Where `file` ends with `GONE`, the object is no
                part of the day any more; any other has come.
        """
        self._placing = dict(placing)
        self._write()
        self.finish()

    def finish(self) -> None:
        """Goes on with a placing that was killed."""
        if not self._placing:
            return
        for name, known in self._placing.items():
            target = self._folder / known.file
            if known.file.endswith(GONE):
                os.close(os.open(target, os.O_WRONLY | os.O_CREAT, PRIVATE_FILE))
            elif self.incoming(name).exists():
                self.incoming(name).rename(target)
        sync(self._folder)
        self.in_place |= self._placing
        self.arrived, self._placing = {}, {}
        self._write()

    def sweep(self) -> None:
        """Removes beginnings of objects that the store does not have any more."""
        for left_over in self._folder.glob(".*.incoming*"):
            left_over.unlink()

    def _write(self) -> None:
        parts = dict(zip(_PARTS, (self.in_place, self.arrived, self._placing), strict=True))
        text = msgspec.json.format(msgspec.json.encode(parts, order="sorted"), indent=1)
        with written_whole(self._folder / LEDGER_NAME) as file:
            file.write(text + b"\n")


def read_ledger(folder: Path) -> dict[str, KnownObject]:
    """What the store reported of the files of the day in a folder, by the names of the objects."""
    in_place, _, _ = _read(folder / LEDGER_NAME)
    return in_place


def _read(file: Path) -> list[dict[str, KnownObject]]:
    try:
        found = _ledger.decode(file.read_bytes())
        return [found[part] for part in _PARTS]
    except (FileNotFoundError, ValueError, KeyError):
        return [{} for _ in _PARTS]


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Holds a lock on a folder, however long another process or thread works in it.

    The operating system frees it when its holder ends, and it leaves no file.

    Raises:
        WarehouseBusyError: Another one held it and wrote nothing for a minute.
    """
    with locking(folder, sign=lambda: newest_change(folder)):
        yield


def digest(file: Path, name: str) -> str:
    """The hash of a file's bytes, in hexadecimal: `sha256`, or `md5` to compare with an ETag."""
    with file.open("rb") as stream:
        return hashlib.file_digest(
            stream, lambda: hashlib.new(name, usedforsecurity=False)
        ).hexdigest()
