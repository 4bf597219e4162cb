"""The states of a backup folder: for each, an archive of what changes, and a manifest of all files.

A state is there once its manifest is, which is written last; an archive without one is what a kill
left. The manifest is two lines: the SHA-256 of the second, and JSON.
"""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import msgspec

from market_pipeline.backup.contents import Root
from market_pipeline.errors import BackupError
from market_pipeline.security.envelope import open_regular
from market_pipeline.security.files import open_sealed
from market_pipeline.security.ring import KeyRing
from market_pipeline.security.sealing import stored_whole
from market_pipeline.security.stored import (
    is_stored,
    plain_name,
    remove_stored,
    sealed_path,
    stored_in,
)

__all__ = ["Entry", "Manifest", "States"]

_FOLDER = "states"
_ARCHIVE, _MANIFEST = ".tar", ".json"

_MOST = (1 << 63) - 1
_Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
_UnixNs = Annotated[int, msgspec.Meta(ge=-_MOST, le=_MOST)]


class Entry(msgspec.Struct, frozen=True):
    """A file as it lay.

    Attributes:
        root, path: Where it counts from, and its path below that, with `/`.
        size: Bytes.
        changed_ns: When it was last written to, ns UTC.
        sha256: Of its bytes as they lay, in hexadecimal; of a sealed file the sealed ones.
        offset: Where it begins in the archive; null for one that was copied.
    """

    root: Root
    path: str
    size: _Count
    changed_ns: _UnixNs
    sha256: _Sha256
    offset: _Count | None = None

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        if not path.parts or path.is_absolute() or ".." in path.parts:
            raise ValueError(f"a path that leaves its folder: {self.path}")
        if not self.path.isprintable():
            raise ValueError("a path that is no printable text")

    @property
    def name(self) -> str:
        """Its path from the folder that it is restored to."""
        return self.path if self.root == "settings" else f"{self.root}/{self.path}"


class Manifest(msgspec.Struct, frozen=True):
    """What a state has.

    Attributes:
        by: The version that made it.
        entries: Its files, those of the archive first.
        left_out: What was to be in it and is not, each with its reason.
    """

    by: str
    entries: list[Entry]
    left_out: list[str]
    version: Literal[1] = 1


_manifests = msgspec.json.Decoder(Manifest)


class States:
    """The states of a backup folder, by their names: the time each was begun, UTC.

    Args:
        folder: The backup folder.
        ring: Opens what is sealed there; None where no key is at hand.
    """

    def __init__(self, folder: Path, ring: KeyRing | None) -> None:
        self.folder = folder / _FOLDER
        self._ring = ring

    def names(self) -> list[str]:
        """The states there are, oldest first."""
        if not self.folder.is_dir():
            return []
        found = (path.name for path in stored_in(self.folder))
        return [name.removesuffix(_MANIFEST) for name in found if name.endswith(_MANIFEST)]

    def new_name(self) -> str:
        """The name of a state that begins now, behind all others."""
        name, names = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}", self.names()
        if names and name <= names[-1]:
            raise BackupError(
                "The newest state of the backup is of a time to come",
                next_step="Set this clock right, or move that state away.",
                file=self.folder / f"{names[-1]}{_MANIFEST}",
                expected=f"a state before {name}",
                found=names[-1],
            )
        return name

    def archive(self, name: str) -> Path:
        """The archive of a state, by its plain name."""
        return self.folder / f"{name}{_ARCHIVE}"

    def manifest(self, name: str) -> Path:
        """The manifest of a state, by its plain name."""
        return self.folder / f"{name}{_MANIFEST}"

    def write(self, name: str, manifest: Manifest, ring: KeyRing | None) -> None:
        """Puts a manifest beside its archive, by which the state is there; sealed with a ring."""
        text = msgspec.json.encode(manifest)
        with stored_whole(self.manifest(name), ring, "backups") as file:
            file.write(hashlib.sha256(text).hexdigest().encode() + b"\n" + text + b"\n")

    def read(self, name: str) -> Manifest:
        """What a state has.

        Raises:
            BackupError: There is no such state, or its manifest is damaged.
            SealError: It is sealed, and no key opens it, or it is not as it was sealed.
        """
        path = self.manifest(name)
        if not is_stored(path):
            raise BackupError(
                "The backup has no such state",
                next_step="`market-pipeline backup list` shows those there are.",
                file=path,
                found=", ".join(self.names()) or "none",
            )
        if path.exists():
            with os.fdopen(open_regular(path), "rb") as plain:
                content = plain.read()
        else:
            with open_sealed(sealed_path(path), self.ring()) as file:
                content = file.read()
        digest, _, text = content.partition(b"\n")
        text = text.removesuffix(b"\n")
        try:
            if hashlib.sha256(text).hexdigest().encode() != digest:
                raise ValueError("another SHA-256 than in its first line")
            return _manifests.decode(text)
        except (ValueError, RecursionError) as error:
            raise BackupError(
                "The manifest of a state is damaged",
                next_step="Take another state; its copies are whole if `market-pipeline backup "
                "verify` says so.",
                file=path,
                expected="the manifest as it was written",
                found=str(error),
            ) from error

    def ring(self) -> KeyRing:
        """The keys.

        Raises:
            BackupError: None are at hand.
        """
        if self._ring is None:
            raise BackupError(
                "The backup is sealed, and no key is set",
                next_step="Set PIPELINE_MASTER_KEY to the one it was sealed under.",
                file=self.folder,
            )
        return self._ring

    def remove(self, name: str) -> None:
        """Removes a state, first what says that it is there."""
        remove_stored(self.manifest(name))
        remove_stored(self.archive(name))

    def remove_left_over(self) -> None:
        """Removes what kills left; only for who has the backup folder alone."""
        names = self.names()
        for path in list(self.folder.iterdir()):
            if path.suffix == ".partial" or plain_name(path).stem not in names:
                path.unlink(missing_ok=True)
