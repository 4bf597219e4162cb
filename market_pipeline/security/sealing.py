"""Plain files given up for sealed ones, each once its sealed one is whole and was read back."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from market_pipeline.errors import SealError
from market_pipeline.security.envelope import open_regular
from market_pipeline.security.files import open_sealed, sealed_whole
from market_pipeline.security.ring import KeyRing, Purpose
from market_pipeline.security.segments import Sealable
from market_pipeline.security.stored import (
    remove_left_over,
    remove_sealed,
    sealed_path,
    sealed_size,
)
from market_pipeline.warehouse.layout import sync, written_whole

__all__ = ["seal_in_place", "stored_whole"]

_PART_BYTES = 1 << 20


def seal_in_place(path: Path, ring: KeyRing, purpose: Purpose) -> None:
    """Puts a sealed file in the place of a plain one, which nobody writes to any more.

    The plain one is removed when the sealed one and its slots are on the disk and were read back:
    opened and compared, or on a host that cannot open them compared with the bytes that were
    sealed. Killed at any moment, it is there plain, sealed, or both, and may be done again; what
    the kill left is removed then. Nothing is done where another process seals it, or has sealed it.
    The time of change stays.

    Args:
        path: The plain file.
        ring, purpose: The active key of that purpose opens it.

    Raises:
        SealError: There is no key, it is a link, it was changed or replaced meanwhile, or what lies
            sealed beside it is something else; the plain file stays.
        OSError: It is not there, or the machine refuses.
    """
    if path.is_symlink():
        raise SealError(
            "A link is not sealed, as the file that it leads to would stay plain",
            next_step="Move the file to the place of the link, or leave this purpose plain.",
            file=path,
        )
    with os.fdopen(open_regular(path), "rb") as plain:
        try:
            fcntl.flock(plain, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if not (path.exists() and os.path.samestat(os.fstat(plain.fileno()), path.stat())):
            return
        sealed = sealed_path(path)
        before = os.fstat(plain.fileno())
        if os.path.lexists(sealed):
            _refuse_other(path, plain, ring, opens=ring.opens(purpose))
            if not ring.opens(purpose):
                remove_sealed(path)  # of the same size, and it cannot be known to be whole
        if is_new := not os.path.lexists(sealed):
            remove_left_over(path)
            _seal(plain, before, path, ring, purpose)
        os.utime(sealed, ns=(before.st_atime_ns, before.st_mtime_ns))
        try:
            _require_unchanged(path, before)
            path.unlink()
        except (FileNotFoundError, SealError):
            if is_new:
                remove_sealed(path)  # it is gone or another one, and so is what was made of it
            raise
        sync(path.parent)


@contextmanager
def stored_whole(path: Path, ring: KeyRing | None, purpose: Purpose) -> Iterator[Sealable]:
    """A new file that is there, whole, once the `with` block ends well: plain without a ring.

    Args:
        path: Its plain name; what is sealed lies at `NAME.sealed`.
        ring, purpose: The active key of that purpose opens it.

    Raises:
        SealError: There is such a sealed file, or no key.
    """
    if ring is None:
        with written_whole(path) as file:
            yield cast("Sealable", file)
        return
    with sealed_whole(sealed_path(path), ring, purpose) as out:
        yield out


def _seal(
    plain: BinaryIO, before: os.stat_result, path: Path, ring: KeyRing, purpose: Purpose
) -> None:
    """Seals an open file beside itself, and reads it back."""
    content, written = hashlib.sha256(), hashlib.sha256()
    opens, sealed = ring.opens(purpose), sealed_path(path)
    watch = None if opens else written.update
    with sealed_whole(sealed, ring, purpose, watch=watch) as out:
        for part in _parts(plain):
            content.update(part)
            out.write(part)
        _require_unchanged(path, before)
    try:
        read_back, expected = (
            (lambda: open_sealed(sealed, ring), content)
            if opens
            else (lambda: sealed.open("rb"), written)
        )
        if _sha256(read_back) != expected.hexdigest():
            raise _not_same(path, "other bytes than were sealed")
    except SealError:
        remove_sealed(path)
        raise


def _require_unchanged(path: Path, before: os.stat_result) -> None:
    """Refuses a file that was written to or replaced: another process may fetch or make it anew."""
    after = path.stat()
    if not os.path.samestat(after, before) or (after.st_mtime_ns, after.st_size) != (
        before.st_mtime_ns,
        before.st_size,
    ):
        raise SealError(
            "The file changed while it was sealed",
            next_step="Seal it when nobody writes to it.",
            file=path,
        )


def _refuse_other(path: Path, plain: BinaryIO, ring: KeyRing, *, opens: bool) -> None:
    """Refuses a sealed file that does not hold what the plain one beside it does."""
    sealed = sealed_path(path)
    size, found = os.fstat(plain.fileno()).st_size, sealed_size(sealed)
    if found != size:
        raise _not_same(path, f"{found:,} bytes sealed and {size:,} plain")
    if not opens:
        return
    content = hashlib.sha256()
    for part in _parts(plain):
        content.update(part)
    if _sha256(lambda: open_sealed(sealed, ring)) != content.hexdigest():
        raise _not_same(path, "other bytes sealed than plain")


def _parts(file: BinaryIO) -> Iterator[bytes]:
    while part := file.read(_PART_BYTES):
        yield part


def _sha256(opened: Callable[[], BinaryIO]) -> str:
    found = hashlib.sha256()
    with opened() as file:
        for part in _parts(file):
            found.update(part)
    return found.hexdigest()


def _not_same(path: Path, found: str) -> SealError:
    return SealError(
        "What is sealed is not what is in the plain file beside it",
        next_step="Both stay, and the plain one is read. Move away the one that is not wanted.",
        file=sealed_path(path),
        expected=f"what is in {path.name}",
        found=found,
    )
