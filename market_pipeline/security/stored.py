"""Files that may lie sealed: `NAME` stands for what is in it, whether it lies plain or sealed.

Readers, manifests and records know plain names, sizes and hashes alone. Where `NAME` is not there,
`NAME.sealed` is opened with the keys that the settings of this process name; where both are, as a
kill between sealing and removing leaves them, they hold the same, and `NAME` is read.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from market_pipeline.errors import SealError
from market_pipeline.security.envelope import SLOTS_SUFFIX, SUFFIX, open_regular, read_head
from market_pipeline.warehouse.layout import written_whole

__all__ = ["StoredStat", "copy_stored", "is_sealed", "is_stored", "open_stored", "plain_name"]
__all__ += ["remove_left_over", "remove_sealed", "remove_stored", "sealed_path", "sealed_size"]
__all__ += ["stat_as_it_lies", "stored_at", "stored_digest", "stored_in", "stored_size"]
__all__ += ["stored_stat"]

_PARTIAL = ".partial"
_BESIDE = re.compile(
    rf"{re.escape(SUFFIX)}(?:{re.escape(SLOTS_SUFFIX)})?(?:\.[0-9a-f]{{32}}{re.escape(_PARTIAL)})?$"
)


def sealed_path(path: Path) -> Path:
    """Where a file lies when it is sealed."""
    return path.with_name(path.name + SUFFIX)


def plain_name(path: Path) -> Path:
    """The plain name of a file that is named as it lies, plain or sealed, or by its slots."""
    return path.with_name(_BESIDE.sub("", path.name))


def stored_at(path: Path) -> Path:
    """Where a file lies: itself, or sealed beside; itself where it is not there at all."""
    sealed = sealed_path(path)
    return sealed if not path.exists() and sealed.is_file() else path


def is_stored(path: Path) -> bool:
    """Whether there is a regular file of that name, plain or sealed."""
    return path.is_file() or (not path.exists() and sealed_path(path).is_file())


def is_sealed(path: Path) -> bool:
    """Whether a file lies sealed alone."""
    return stored_at(path) != path


def stored_in(folder: Path) -> list[Path]:
    """What lies in a folder by plain names, in order; slots and what a kill left are no names.

    Raises:
        OSError: It cannot be read.
    """
    names = set()
    for name in (path.name for path in folder.iterdir()):
        beside = _BESIDE.search(name)
        if beside is None or beside[0] == SUFFIX:
            names.add(name if beside is None else name[: beside.start()])
    return [folder / name for name in sorted(names)]


class StoredStat(NamedTuple):
    """The bytes that are in a file, and when it was last changed, ns: sealing changes neither."""

    size: int
    changed_ns: int


def stored_stat(path: Path) -> StoredStat:
    """Size and time of change of a file; no key is needed.

    What is named as sealed and is not has its own size; whoever opens it meets the error.

    Raises:
        OSError: It is not there.
    """
    try:
        found = path.stat()
        return StoredStat(found.st_size, found.st_mtime_ns)
    except FileNotFoundError:  # asked in this order: a file that is sealed meanwhile is one of both
        if not (sealed := sealed_path(path)).is_file():
            raise
    found = sealed.stat()
    with suppress(SealError):
        return StoredStat(sealed_size(sealed), found.st_mtime_ns)
    return StoredStat(found.st_size, found.st_mtime_ns)


def stat_as_it_lies(path: Path) -> os.stat_result:
    """What the system says of a file, plain or sealed.

    Raises:
        OSError: It is not there.
    """
    try:
        return path.stat()
    except FileNotFoundError:
        return sealed_path(path).stat()


def stored_size(path: Path) -> int:
    """The `size` of `stored_stat`."""
    return stored_stat(path).size


def sealed_size(sealed: Path) -> int:
    """The bytes that are in a sealed file, which is named as it lies; no key is needed.

    Raises:
        OSError: It is not there.
        SealError: It begins otherwise.
    """
    # Its library takes long to load, and whoever seals nothing does without.
    from market_pipeline.security.segments import plain_size  # noqa: PLC0415

    descriptor = open_regular(sealed)
    try:
        head = read_head(sealed, descriptor)
        return plain_size(os.fstat(descriptor).st_size - head.size_bytes)
    finally:
        os.close(descriptor)


def open_stored(path: Path) -> BinaryIO:
    """What is in a file, open for reading, with any part at hand.

    Raises:
        OSError: It is not there.
        SealError: It is sealed, and no key opens it, or it is not as it was sealed.
    """
    try:
        return path.open("rb")
    except FileNotFoundError:
        if not (sealed := sealed_path(path)).is_file():
            raise
    from market_pipeline.config.settings import load_settings  # noqa: PLC0415
    from market_pipeline.security.files import open_sealed  # noqa: PLC0415
    from market_pipeline.security.master import ring_of  # noqa: PLC0415

    return open_sealed(sealed, ring_of(load_settings()))


def stored_digest(path: Path, name: str = "sha256") -> str:
    """The hash of what is in a file, in hexadecimal: `sha256`, or `md5` to compare with an ETag.

    Raises:
        OSError, SealError: As `open_stored`.
    """
    with open_stored(path) as file:
        # Into one buffer: the pages of a new one for each megabyte took longer than to read it.
        start = partial(hashlib.new, name, usedforsecurity=False)
        found = hashlib.file_digest(file, start)  # type: ignore[arg-type]  # it has `readinto`
    return found.hexdigest()


def copy_stored(source: Path, target: Path, folder: Path | None = None) -> None:
    """Copies a file as it lies: one that is sealed stays sealed, with its slots, and needs no key.

    Args:
        source, target: By their plain names.
        folder: See `written_whole`.

    Raises:
        OSError: It is not there, or cannot be written.
    """
    sealed, copy = sealed_path(source), sealed_path(target)
    try:
        _copy(source, target, folder)
    except FileNotFoundError:
        if not sealed.is_file():
            raise
        _copy(_slots(sealed), _slots(copy), folder)  # first what opens it
        _copy(sealed, copy, folder)


def _copy(source: Path, target: Path, folder: Path | None) -> None:
    with (
        os.fdopen(open_regular(source), "rb") as read,
        written_whole(target, folder) as written,
    ):
        shutil.copyfileobj(read, written, 1 << 20)


def remove_stored(path: Path) -> None:
    """Removes a file, plain and sealed, with all that belongs to it."""
    remove_sealed(path)
    path.unlink(missing_ok=True)


def remove_sealed(path: Path) -> None:
    """Removes what is sealed of a file, and what kills left of sealing it."""
    sealed = sealed_path(path)
    sealed.unlink(missing_ok=True)
    _slots(sealed).unlink(missing_ok=True)
    remove_left_over(path)


def remove_left_over(path: Path) -> None:
    """Removes what kills left of sealing a file; only for who has it alone."""
    for each in path.parent.iterdir():
        if each.name.endswith(_PARTIAL) and plain_name(each) == path:
            each.unlink(missing_ok=True)


def _slots(sealed: Path) -> Path:
    return sealed.with_name(sealed.name + SLOTS_SUFFIX)
