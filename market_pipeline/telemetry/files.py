"""The files of `metrics/` and of `traces/`: lines of any number of processes, a file a day.

A file is only ever appended to and never renamed, so a reader that knows how far it has read goes
on there. Lines are written under a lock, whole or not at all. Files are cut by size, and removed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal

from market_pipeline.warehouse.layout import PRIVATE_FILE, make_private_folder
from market_pipeline.warehouse.locks import locking

__all__ = [
    "MAX_AGE_DAYS",
    "MAX_FILE_BYTES",
    "MAX_TOTAL_BYTES",
    "TOGETHER_S",
    "append_line",
    "line_files",
    "lines_from",
]

MAX_FILE_BYTES = 16 << 20
"""A file that has become so large is followed by the next one of its day."""
MAX_AGE_DAYS = 30
MAX_TOTAL_BYTES = 256 << 20
"""Beyond either, the oldest files are removed when a new one is begun."""

TOGETHER_S = 5.0
"""What is recorded, or ends, within so long after a line was written may wait for the next one."""

Kind = Literal["metrics", "traces"]
"""What the lines of a folder are, as the names of its files say."""

_NAME = re.compile(r"(?:metrics|traces)-(\d{4}-\d\d-\d\d)(?:\.(\d+))?\.jsonl")
_WAIT_SECONDS = 1.0
_CHUNK_BYTES = 4 << 20


def line_files(folder: Path) -> list[Path]:
    """The files of a folder, the oldest first; none if it is not there."""
    if not folder.is_dir():
        return []
    found = [(_order(path), path) for path in folder.iterdir()]
    return [path for order, path in sorted(pair for pair in found if pair[0] is not None)]


def lines_from(path: Path, start: int) -> Iterator[tuple[bytes, int]]:
    """The whole lines of a file from a place on, without their ends, each with where it ended.

    Args:
        path: The file.
        start: In bytes; one beyond the file's end is of another by its name, which is read whole.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < start:
            start = 0
        file.seek(start)
        rest = b""
        while chunk := file.read(_CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                start += len(line) + 1
                yield line, start


def append_line(
    folder: Path, line: bytes, now: datetime | None = None, kind: Kind = "metrics"
) -> None:
    """Adds a line to the file of the day, whole or not at all.

    Args:
        folder: Made, mode 0700, where it is missing.
        line: With its end.
        now: When it is written, UTC; now if None.
        kind: What the lines of the folder are.

    Raises:
        OSError: The folder or file cannot be written.
        SettingsError: In its place is a link to one that others may write to.
        WarehouseBusyError: Another process held the lock for a second.
    """
    make_private_folder(folder)
    day = (now or datetime.now(UTC)).date()
    with locking(folder / ".lock", name=kind, timeout_seconds=_WAIT_SECONDS):
        path = _current(folder, day, kind)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            _append(descriptor, line)
        finally:
            os.close(descriptor)


def _append(descriptor: int, line: bytes) -> None:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    # A writer that was killed may have left half a line: it must not swallow this one.
    if end and os.pread(descriptor, 1, end - 1) != b"\n":
        line = b"\n" + line
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError("the disk took a part of a line only")
    except OSError:
        os.ftruncate(descriptor, end)
        raise


def _current(folder: Path, day: date, kind: Kind) -> Path:
    """The file to append to; where a new one is begun, old ones are removed."""
    of_day = [path for path in line_files(folder) if _known(path)[0] == day]
    if of_day and of_day[-1].stat().st_size < MAX_FILE_BYTES:
        return of_day[-1]
    number = _known(of_day[-1])[1] + 1 if of_day else 0
    _remove_old(line_files(folder), day)
    part = f".{number}" if number else ""
    return folder / f"{kind}-{day.isoformat()}{part}.jsonl"


def _remove_old(files: Iterable[Path], day: date) -> None:
    left = MAX_TOTAL_BYTES - MAX_FILE_BYTES
    for path in reversed([*files]):
        left -= path.stat().st_size
        if left < 0 or _known(path)[0] < day - timedelta(days=MAX_AGE_DAYS):
            path.unlink(missing_ok=True)


def _known(path: Path) -> tuple[date, int]:
    order = _order(path)
    assert order is not None
    return order


def _order(path: Path) -> tuple[date, int] | None:
    """The day and number of a file; None for what is no file of ours."""
    named = _NAME.fullmatch(path.name)
    if named is None:
        return None
    try:
        return date.fromisoformat(named[1]), int(named[2] or 0)
    except ValueError:
        return None
