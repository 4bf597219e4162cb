"""Sealed files: written whole, read as plain ones are, and given to another key."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from market_pipeline.errors import MarketPipelineError, SealError
from market_pipeline.security.envelope import (
    SLOTS_SUFFIX,
    SUFFIX,
    Head,
    make_head,
    open_regular,
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

__all__ = ["find_sealed", "find_slots", "forget_key", "head_of", "open_sealed", "reseal", "rewrap"]
__all__ += ["sealed_whole"]

# A file that took an hour is not given up because another is read through for so long.
_WAIT_SECONDS = 3_600.0


@contextmanager
def sealed_whole(
    path: Path,
    ring: KeyRing,
    purpose: Purpose,
    *,
    watch: Callable[[bytes | memoryview], object] | None = None,
) -> Iterator[SealingStream]:
    """A sealed file that is there, whole, once the `with` block ends well; else there is none.

    Args:
        path: Its place; the name ends in `.sealed`. No file is replaced.
        ring, purpose: The active key of that purpose opens it.
        watch: Is given every byte of the file as it is written.

    Raises:
        SealError: There is a file of that name, or no key.
    """
    head, text = make_head(purpose)
    file_key = os.urandom(FILE_KEY_BYTES)
    with locking(path.parent.resolve(strict=True)), ring.unchanged():
        _require_free(path)
        # First what opens it: of what a kill leaves, the whole segments are read.
        _give(path, head, file_key, ring)
    try:
        with _written(path, head, text, file_key, ring, lambda: _require_free(path), watch) as out:
            yield out
    except BaseException:
        with suppress(OSError, MarketPipelineError), locking(path.parent):
            others = read_all_slots(path)
            if not path.exists() or head_of(path) != head:  # else it failed when it was there
                others.pop(head.file_id, None)
            if others:
                write_slots(path, others)
            else:
                slots_path(path).unlink()
        raise


def _require_free(path: Path) -> None:
    if os.path.lexists(path):
        raise SealError(
            "There is a file of that name already",
            next_step="Remove it first, or give another name.",
            file=path,
        )


def _give(path: Path, head: Head, file_key: bytes, ring: KeyRing) -> int:
    """Puts a file's key into a slot of the active key; gives the bytes written.

    The slots of other files of that name stay: one that was moved away may be put back.
    """
    others = read_all_slots(path) if slots_path(path).exists() else {}
    return write_slots(path, others | {head.file_id: [ring.wrap(head, file_key)]})


@contextmanager
def _written(
    path: Path,
    head: Head,
    text: bytes,
    file_key: bytes,
    ring: KeyRing,
    require: Callable[[], None],
    watch: Callable[[bytes | memoryview], object] | None = None,
) -> Iterator[SealingStream]:
    """Seals a file that gets its name, and a slot, where `require` still finds what it must."""
    with ExitStack() as until_it_is_there, written_whole(path) as raw:
        file = raw if watch is None else _Watched(raw, watch)
        file.write(text)
        stream = SealingStream(file, file_key, head.digest)
        yield stream
        stream.finish()
        lock = locking(path.parent, timeout_seconds=_WAIT_SECONDS)
        until_it_is_there.enter_context(lock)
        until_it_is_there.enter_context(ring.unchanged())
        require()
        # The key it was begun with may have been rotated and destroyed meanwhile.
        _give(path, head, file_key, ring)


class _Watched:
    """An open file that shows what is written to it."""

    def __init__(self, file: BinaryIO, watch: Callable[[bytes | memoryview], object]) -> None:
        self._file, self._watch = file, watch

    def write(self, data: bytes | memoryview, /) -> int:
        self._watch(data)
        return self._file.write(data)


def open_sealed(path: Path, ring: KeyRing, *, crashed: bool = False) -> BinaryIO:
    """What is sealed in a file, as a file that is open for reading, with any part at hand.

    Args:
        path: The sealed file.
        ring: Has a key of one of its slots.
        crashed: Give what is whole of a file that a crash cut off.

    Raises:
        SealError: It is not as it was sealed, or no key opens it; later, of a part that is read.
    """
    while True:
        descriptor = open_regular(path)
        try:
            head = read_head(path, descriptor)
            file_key = ring.unwrap(path, head, read_slots(path, head.file_id))
            sealed = SealedBytes(
                descriptor, path, head.size_bytes, file_key, head.digest, crashed=crashed
            )
        except BaseException as error:
            opened = os.fstat(descriptor)
            os.close(descriptor)
            # Resealed between the two, the slots are those of the file that is there now.
            if isinstance(error, SealError) and _is_another(opened, path):
                continue
            raise
        return io.BufferedReader(_Reader(descriptor, sealed))


def _is_another(opened: os.stat_result, path: Path) -> bool:
    """Whether another file has that name now; one that was removed has none, and is no other."""
    with suppress(OSError):
        return not os.path.samestat(opened, path.stat())
    return False


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
        part = memoryview(self._plain)[self._at - begin : self._at - begin + len(target)]
        target[: len(part)] = part
        self._at += len(part)
        return len(part)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def find_sealed(roots: Iterable[Path]) -> list[Path]:
    """All sealed files in some folders, each once.

    Raises:
        OSError: A folder cannot be read: what lies in it would be missed.
    """
    return sorted(set(_found(roots, SUFFIX)))


def find_slots(roots: Iterable[Path]) -> list[Path]:
    """The names of all sealed files that slots lie beside, also of those that are not there.

    Raises:
        OSError: As `find_sealed`.
    """
    found = _found(roots, SUFFIX + SLOTS_SUFFIX)
    return sorted({path.with_name(path.name.removesuffix(SLOTS_SUFFIX)) for path in found})


def _found(roots: Iterable[Path], ending: str) -> Iterator[Path]:
    for root in roots:
        for folder, _, names in os.walk(root, onerror=_refuse):
            for path in (Path(folder, name) for name in names if name.endswith(ending)):
                if path.is_file():
                    yield path.resolve()


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # removed meanwhile
        raise error


def rewrap(path: Path, ring: KeyRing) -> int:
    """Gives a file to the active key of its purpose, and to no other; its bytes stay.

    Returns:
        The bytes written; 0 if it was given to it before.

    Raises:
        SealError: No key opens it.
    """
    path = path.resolve(strict=True)
    with locking(path.parent), ring.unchanged():
        head = head_of(path)
        slots = read_slots(path, head.file_id)
        if [slot.key for slot in slots] == [ring.active(head.purpose).id]:
            return 0
        return _give(path, head, ring.unwrap(path, head, slots), ring)


def reseal(path: Path, ring: KeyRing) -> int:
    """Seals what is in a file with another file key, as when the old one is known to others.

    It is whole before and after, and at each moment between.

    Returns:
        The bytes that are sealed.

    Raises:
        SealError: No key opens it, it is not as it was sealed, or was resealed meanwhile.
    """
    path = path.resolve()
    before = head_of(path)

    def require() -> None:
        if head_of(path) != before:
            raise SealError(
                "The sealed file was replaced while it was resealed",
                next_step="Nothing to do if another process resealed it; else do it again.",
                file=path,
            )

    head, text = make_head(before.purpose)
    with open_sealed(path, ring) as source:
        file_key = os.urandom(FILE_KEY_BYTES)
        with _written(path, head, text, file_key, ring, require) as stream:
            while part := source.read(1 << 20):
                stream.write(part)
        size = source.tell()
    with locking(path.parent):
        slots = read_all_slots(path)
        slots.pop(before.file_id, None)
        write_slots(path, slots)
    return size


def forget_key(path: Path, key_id: str) -> int:
    """Removes the slots of a key beside a file; gives the bytes written."""
    with locking(path.parent):
        slots = {
            file_id: [slot for slot in each if slot.key != key_id]
            for file_id, each in read_all_slots(path).items()
        }
        return write_slots(path, slots)


def head_of(path: Path) -> Head:
    """The head of a sealed file.

    Raises:
        SealError: It is no sealed file.
    """
    descriptor = open_regular(path)
    try:
        return read_head(path, descriptor)
    finally:
        os.close(descriptor)
