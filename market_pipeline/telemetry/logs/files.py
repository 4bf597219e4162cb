"""The files of `logs/`: one a process, cut by size, the oldest removed; and `errors.jsonl` of all.

A line is written at once and in one piece, so that a process that is killed leaves whole lines. A
file is only appended to, and no process waits for another.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from market_pipeline.warehouse.layout import PRIVATE_FILE, make_private_folder

__all__ = ["ERRORS", "MAX_AGE_DAYS", "MAX_FILE_BYTES", "MAX_TOTAL_BYTES", "LogFile", "log_files"]

MAX_FILE_BYTES = 100_000_000
"""A file that would become larger is followed by the next one of its process."""
MAX_AGE_DAYS = 30
MAX_TOTAL_BYTES = 5_000_000_000
"""Beyond either, the files written to longest ago are removed when one is begun."""

ERRORS = "errors.jsonl"
_OF_PROCESS = re.compile(r"[a-z-]+-\d{8}T\d{6}Z-\d+(?:\.\d+)?\.jsonl")
_OF_ERRORS = re.compile(r"errors(?:-\d{8}T\d{6}\.\d{6}Z)?\.jsonl")
_OPEN = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class LogFile:
    """What one process writes to; there is no file before the first line.

    Args:
        folder: Made, mode 0700, where it is missing.
        process: What the process is, for the file's name: lower case.
    """

    def __init__(self, folder: Path, process: str) -> None:
        self._folder = folder
        self._stem = f"{process}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
        self._descriptor: int | None = None

    def write(self, line: bytes, *, is_error: bool) -> None:
        """Adds a line, and to `errors.jsonl` too if it is of an error.

        Raises:
            OSError: The folder or file cannot be written.
        """
        if self._descriptor is None or not _has_room(self._descriptor, line):
            self.close()
            self._descriptor = self._begun()
        _append(self._descriptor, line)
        if is_error:
            _append_error(self._folder, line)

    def close(self) -> None:
        """Closes the file; the next line begins another."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _begun(self) -> int:
        """A new file; by its name it may be a later one of this process, or of a container's."""
        make_private_folder(self._folder)
        _remove_old(self._folder)
        for number in count():
            path = self._folder / f"{self._stem}{f'.{number}' if number else ''}.jsonl"
            try:
                return os.open(path, _OPEN | os.O_EXCL, PRIVATE_FILE)
            except FileExistsError:
                continue
        raise AssertionError


def log_files(folder: Path) -> list[Path]:
    """The files of processes in a folder, by name; none if it is not there."""
    if not folder.is_dir():
        return []
    return sorted(_named(folder, _OF_PROCESS))


def _named(folder: Path, *names: re.Pattern[str]) -> Iterator[Path]:
    """The files by such names; links and folders are none of ours."""
    with os.scandir(folder) as entries:
        for each in entries:
            if each.is_file(follow_symlinks=False) and any(
                name.fullmatch(each.name) for name in names
            ):
                yield folder / each.name


def _has_room(descriptor: int, line: bytes) -> bool:
    """Whether a file takes another line; one that was removed meanwhile does not."""
    state = os.fstat(descriptor)
    return state.st_nlink > 0 and state.st_size + len(line) <= MAX_FILE_BYTES


def _append(descriptor: int, line: bytes) -> None:
    end = os.fstat(descriptor).st_size
    # A full disk may have taken half a line: it must not swallow this one.
    if end and os.pread(descriptor, 1, end - 1) != b"\n":
        line = b"\n" + line
    if os.write(descriptor, line) != len(line):
        raise OSError("the disk took a part of a line only")


def _append_error(folder: Path, line: bytes) -> None:
    path = folder / ERRORS
    descriptor = os.open(path, _OPEN, PRIVATE_FILE)
    try:
        if not _has_room(descriptor, line):
            # Of two processes that find so at once, the second finds none, or keeps a small file.
            with suppress(FileNotFoundError):
                path.rename(folder / f"errors-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.jsonl")
            os.close(descriptor)
            descriptor = os.open(path, _OPEN, PRIVATE_FILE)
        _append(descriptor, line)
    finally:
        os.close(descriptor)


def _remove_old(folder: Path) -> None:
    left = MAX_TOTAL_BYTES - MAX_FILE_BYTES
    oldest_s = time.time() - MAX_AGE_DAYS * 86_400
    for written_s, size, path in sorted(_known(folder), reverse=True):
        left -= size
        if left < 0 or written_s < oldest_s:
            path.unlink(missing_ok=True)


def _known(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Each file of ours with when it was written to, and its size."""
    for path in _named(folder, _OF_PROCESS, _OF_ERRORS):
        with suppress(FileNotFoundError):  # another process removes the same
            state = path.stat()
            yield state.st_mtime, state.st_size, path
