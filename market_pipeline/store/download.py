"""Download an object: parts in parallel, written in order, verified, and put in place at once.

What has come lies in `<name>.<tag>.partial` beside the target, always a beginning of the object
without holes. The tag follows from the ETag and the size, so a broken download is resumed only if
the object is still the same. A lock on that file keeps two processes from writing it.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import glob
import hashlib
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from pathlib import Path

from market_pipeline.errors import MachineError, StoreError, naming
from market_pipeline.store._uploads import parts_of, verify_parts
from market_pipeline.store.objects import Downloaded, StoreObject, may_be_md5
from market_pipeline.store.ranges import Part, RangeReader
from market_pipeline.warehouse.layout import PRIVATE_FILE, make_private_folder, sync
from market_pipeline.warehouse.locks import take_lock

__all__ = ["PART_BYTES", "Progress", "download"]

PART_BYTES = 8 << 20
"""Bytes of one request; a download holds at most one part more than run at once in memory."""

Progress = Callable[[int], None]
"""Called with the number of bytes that have come since; from several threads, one at a time."""

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def download(
    reader: RangeReader,
    pool: Executor,
    at_once: int,
    object: StoreObject,
    uri: str,
    target: Path,
    progress: Progress | None = None,
) -> Downloaded:
    """Download an object to a file; `Store.download` says how it behaves."""
    partial = target.with_name(f"{target.name}.{_tag(object)}.partial")
    with naming(target):
        make_private_folder(target.parent)
        with _claimed(partial) as descriptor:
            try:
                done = _fill(reader, pool, at_once, object, uri, target, descriptor, progress)
            except BaseException as error:
                if _is_worthless_after(error) or os.fstat(descriptor).st_size == 0:
                    partial.unlink(missing_ok=True)
                raise
            partial.rename(target)
            sync(target.parent)
    _sweep(target)
    return done


def _is_worthless_after(error: BaseException) -> bool:
    """Whether the beginning that has come is of no use, or takes up room that is needed."""
    if isinstance(error, StoreError):
        return error.kind in {"missing", "mismatch"}
    full = isinstance(error, OSError) and error.errno in _NO_SPACE
    return full or isinstance(error, MachineError)


def _tag(object: StoreObject) -> str:
    return hashlib.sha256(f"{object.etag} {object.size}".encode()).hexdigest()[:16]


@contextmanager
def _claimed(partial: Path) -> Iterator[int]:
    """The partial file open for reading and writing, and nobody else's meanwhile."""
    while True:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            take_lock(descriptor, partial, sign=functools.partial(os.fstat, descriptor))
            if _is_open_as(descriptor, partial):
                yield descriptor
                return
        finally:
            os.close(descriptor)
        # Whoever held it has finished it meanwhile and put it in place: begin one of our own.


def _is_open_as(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _fill(
    reader: RangeReader,
    pool: Executor,
    at_once: int,
    object: StoreObject,
    uri: str,
    target: Path,
    descriptor: int,
    progress: Progress | None,
) -> Downloaded:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    hashes = (sha256, md5) if may_be_md5(object.etag) else (sha256,)
    # At least one byte is asked for, so that the store says whether it is still this object.
    resumed = min(os.fstat(descriptor).st_size, max(0, object.size - 1))
    os.ftruncate(descriptor, resumed)
    _hash_beginning(descriptor, hashes)
    _require_space(descriptor, object.size - resumed, target)
    arrived = _counting(progress)
    if resumed:
        arrived(resumed)
    own_key = False
    for part in _parts(reader, pool, at_once, object, resumed, arrived):
        own_key = own_key or part.own_key
        for each in hashes:
            each.update(part.data)
        _write(descriptor, part.data)
    found = None if own_key else _etag_of(reader, object, md5.hexdigest(), descriptor)
    if found not in {None, object.etag}:
        raise StoreError(
            "the bytes that came are not those the store's ETag is the MD5 of",
            kind="mismatch",
            next_step="Run this again: it is fetched anew from its first byte.",
            uri=uri,
            found=f"MD5 {found} instead of {object.etag}",
        )
    os.fsync(descriptor)
    return Downloaded(sha256.hexdigest(), object.size, resumed, found is not None)


def _etag_of(reader: RangeReader, object: StoreObject, md5: str, descriptor: int) -> str | None:
    """The ETag that the file's bytes have; None if the object's is not made of MD5s."""
    if may_be_md5(object.etag):
        return md5
    return verify_parts(reader, object, descriptor) if parts_of(object.etag) else None


def _parts(
    reader: RangeReader,
    pool: Executor,
    at_once: int,
    object: StoreObject,
    start: int,
    arrived: Progress,
) -> Iterator[Part]:
    """The parts from `start` in order, while those that follow are read ahead."""
    given_up = threading.Event()
    ahead: deque[Future[Part]] = deque()
    begins = iter(range(start, max(object.size, start + 1), PART_BYTES))
    try:
        while True:
            while len(ahead) <= at_once and (begin := next(begins, None)) is not None:
                stop = min(begin + PART_BYTES, object.size)
                ahead.append(pool.submit(reader.read, object, begin, stop, arrived, given_up))
            if not ahead:
                return
            yield ahead.popleft().result()
    finally:
        given_up.set()
        for future in ahead:
            future.cancel()


def _hash_beginning(descriptor: int, hashes: Iterable[hashlib._Hash]) -> None:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        while chunk := file.read(1 << 20):
            for each in hashes:
                each.update(chunk)


def _require_space(descriptor: int, needed: int, target: Path) -> None:
    free = shutil.disk_usage(descriptor).free
    if free < needed:
        raise MachineError(
            "An object does not fit on the disk",
            file=target,
            expected=f"{needed:,} bytes",
            found=f"{free:,} bytes that are free",
            next_step="Free some space or set PIPELINE_DATA_DIR to a larger disk, then run this "
            "again; what was fetched before is untouched.",
        )


def _write(descriptor: int, data: bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _counting(progress: Progress | None) -> Progress:
    if progress is None:
        return lambda _: None
    lock = threading.Lock()

    def arrived(count: int) -> None:
        with lock:
            progress(count)

    return arrived


def _sweep(target: Path) -> None:
    """Remove beginnings of other contents of this object that nobody is writing."""
    for left_over in target.parent.glob(f"{glob.escape(target.name)}.*.partial"):
        with suppress(OSError):
            descriptor = os.open(left_over, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left_over.unlink()
            finally:
                os.close(descriptor)
