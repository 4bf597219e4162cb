"""Open files of recordings: made and locked at once, and written whole or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from market_pipeline.warehouse.layout import PRIVATE_FILE

__all__ = ["created", "is_at", "is_being_written", "locked", "write_at"]


def is_at(file: int, path: Path) -> bool:
    """Whether that path still leads to an open file."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), path.stat())
    return False


def created(partial: Path) -> int | None:
    """A new file of that name, locked; None if there is one.

    Before it is locked, whoever recovers files may take it for one that was left, and remove it.
    """
    while True:
        try:
            file = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
        except FileExistsError:
            return None
        fcntl.flock(file, fcntl.LOCK_EX)
        if is_at(file, partial):
            return file
        os.close(file)


def is_being_written(path: Path) -> bool:
    """Whether a process of this host has a file open that it made here.

    Raises:
        OSError: It is not there, or cannot be opened.
    """
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def locked(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """Those of some files that no process writes, locked."""
    with ExitStack() as files:
        ours = []
        for path in paths:
            with suppress(FileNotFoundError, BlockingIOError):
                file = files.enter_context(path.open("rb"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_at(file.fileno(), path):
                    ours.append(path)
        yield ours


def write_at(file: int, offset: int, data: bytes) -> None:
    """Writes all bytes there, or takes away what was written of them.

    Raises:
        OSError: The machine refuses.
    """
    done = 0
    try:
        while done < len(data):
            done += os.pwrite(file, data[done:], offset + done)
    except OSError:
        os.ftruncate(file, offset)
        raise
