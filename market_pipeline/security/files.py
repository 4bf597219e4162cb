"""Sealed files: written whole, read as plain ones are, and given to another key."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from market_pipeline.errors import SealError
from market_pipeline.security.envelope import (
    SUFFIX,
    Head,
    make_head,
    read_all_slots,
    read_head,
    read_slots,
    slots_path,
    write_slots,
)
from market_pipeline.security.ring import KeyRing, Purpose
from market_pipeline.security.segments import FILE_KEY_BYTES, SealedBytes, SealingStream
from market_pipeline.warehouse.layout import written_whole
from market_pipeline.warehouse.locks import locking

__all__ = ["find_sealed", "forget_key", "open_sealed", "purpose_of", "reseal", "rewrap"]
__all__ += ["sealed_whole"]


@contextmanager
def sealed_whole(path: Path, ring: KeyRing, purpose: Purpose) -> Iterator[SealingStream]:
    """A sealed file that is there, whole, once the `with` block ends well; else there is none.

    Args:
        path: Its place; the name ends in `.sealed`. No file is replaced.
        ring, purpose: The active key of that purpose opens it.

    Raises:
        SealError: There is a file of that name, or no key.
    """
    if path.exists():
        raise SealError(
            "There is a file of that name already",
            next_step="Remove it first, or give another name.",
            file=path,
        )
    head, text = make_head(purpose)
    file_key = os.urandom(FILE_KEY_BYTES)
    slots = {head.file_id: [ring.wrap(head, file_key)]}
    with locking(path.parent):
        # Those of a file that was moved away stay: it may be put back.
        others = read_all_slots(path) if slots_path(path).exists() else {}
        # First what opens it: at no moment there is a file that nothing opens.
        write_slots(path, others | slots)
    with _written(path, head, text, file_key) as stream:
        yield stream


@contextmanager
def _written(path: Path, head: Head, text: bytes, file_key: bytes) -> Iterator[SealingStream]:
    with written_whole(path) as file:
        file.write(text)
        stream = SealingStream(file, file_key, head.digest)
        yield stream
        stream.finish()


def open_sealed(path: Path, ring: KeyRing, *, crashed: bool = False) -> BinaryIO:
    """What is sealed in a file, as a file that is open for reading, with any part at hand.

    Args:
        path: The sealed file.
        ring: Has a key of one of its slots.
        crashed: Give what is whole of a file that a crash cut off.

    Raises:
        SealError: It is not as it was sealed, or no key opens it; later, of a part that is read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = read_head(path, descriptor)
        file_key = ring.unwrap(path, head, read_slots(path, head.file_id))
        sealed = SealedBytes(
            descriptor, path, head.size_bytes, file_key, head.digest, crashed=crashed
        )
    except BaseException:
        os.close(descriptor)
        raise
    return io.BufferedReader(_Reader(descriptor, sealed))


class _Reader(io.RawIOBase):
    """A position in sealed bytes; keeps the segment it is in."""

    def __init__(self, descriptor: int, sealed: SealedBytes) -> None:
        self._descriptor, self._sealed = descriptor, sealed
        self._at = 0
        self._number, self._plain = -1, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._sealed.size}[whence]
        if start + offset < 0:
            raise ValueError(f"a place before the file: {start + offset}")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        if self._at >= self._sealed.size:
            return 0
        number, begin = self._sealed.place(self._at)
        if number != self._number:
            self._number, self._plain = number, self._sealed.segment(number)
        target = memoryview(buffer).cast("B")
        part = self._plain[self._at - begin : self._at - begin + len(target)]
        target[: len(part)] = part
        self._at += len(part)
        return len(part)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def find_sealed(roots: Iterable[Path]) -> list[Path]:
    """All sealed files in some folders, each once."""
    return sorted({path.resolve() for root in roots for path in root.rglob(f"*{SUFFIX}")})


def rewrap(path: Path, ring: KeyRing) -> int:
    """Gives a file to the active key of its purpose, and to no other; its bytes stay.

    Returns:
        The bytes written; 0 if it was given to it before.

    Raises:
        SealError: No key opens it.
    """
    with locking(path.parent):
        head = _head(path)
        slots = read_slots(path, head.file_id)
        if [slot.key for slot in slots] == [ring.active(head.purpose).id]:
            return 0
        file_key = ring.unwrap(path, head, slots)
        return write_slots(path, {head.file_id: [ring.wrap(head, file_key)]})


def reseal(path: Path, ring: KeyRing) -> int:
    """Seals what is in a file with another file key, as when the old one is known to others.

    It is whole before and after, and at each moment between.

    Returns:
        The bytes that are sealed.

    Raises:
        SealError: No key opens it, or it is not as it was sealed.
    """
    with locking(path.parent), open_sealed(path, ring) as source:
        before = _head(path)
        head, text = make_head(before.purpose)
        file_key = os.urandom(FILE_KEY_BYTES)
        slots = {head.file_id: [ring.wrap(head, file_key)]}
        write_slots(path, {before.file_id: read_slots(path, before.file_id)} | slots)
        with _written(path, head, text, file_key) as stream:
            while part := source.read(1 << 20):
                stream.write(part)
        write_slots(path, slots)
        return source.tell()


def forget_key(path: Path, key_id: str) -> None:
    """Removes the slots of a key beside a file."""
    with locking(path.parent):
        slots = {
            file_id: [slot for slot in each if slot.key != key_id]
            for file_id, each in read_all_slots(path).items()
        }
        write_slots(path, slots)


def purpose_of(path: Path) -> str:
    """What kind of data is sealed in a file.

    Raises:
        SealError: It is no sealed file.
    """
    return _head(path).purpose


def _head(path: Path) -> Head:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_head(path, descriptor)
    finally:
        os.close(descriptor)
