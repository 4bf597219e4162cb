"""The files of the audit log: one entry is one appended line, whoever writes at the same time.

A file is named by the sequence of its first entry. It is never written to but at its end, and a
new one is begun once it is large; the chain continues through all files. A process that is killed
in the middle of an append leaves a torn line, which the next append ends, and accounts for in an
entry of its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from market_pipeline.audit.chain import Action, ChainKey, Entry, line_of, parsed
from market_pipeline.errors import WarehouseBusyError
from market_pipeline.warehouse.layout import PRIVATE_FILE, make_private_folder, sync

__all__ = ["AuditLog", "log_files"]

_LOCK = "lock"
_SUFFIX = ".jsonl"
_MAX_BYTES = 1 << 26
_TAIL_BYTES = 1 << 16
_WAIT_SECONDS = 10.0
_LONGEST_SLEEP_SECONDS = 0.005
_FLAGS = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def log_files(folder: Path) -> list[Path]:
    """The files of a log in order."""
    return sorted(each for each in folder.glob(f"*{_SUFFIX}") if each.stem.isdecimal())


class AuditLog:
    """Appends to the log of a folder; threads and processes may share it.

    Args:
        folder: Where it lies; made, mode 0700, with the first entry.
        key: What entries are chained with.
        user: The name of who runs the process.
        max_bytes: A file that is as large is followed by a new one.
    """

    def __init__(
        self, folder: Path, key: ChainKey, user: str, *, max_bytes: int = _MAX_BYTES
    ) -> None:
        self._folder, self._key, self._user, self._max_bytes = folder, key, user, max_bytes
        self._mutex = Lock()
        self._lock, self._file, self._path = -1, -1, folder
        self._lock_path = folder / _LOCK
        # The last entry, and the size of the file behind it.
        self._sequence, self._code, self._size = 0, "", 0
        self._inode = 0, 0

    def __del__(self) -> None:
        for descriptor in (self._lock, self._file):
            if descriptor >= 0:
                os.close(descriptor)

    def append(
        self, component: str, why: str, action: Action, what: Mapping[str, Any], *, flush: bool
    ) -> None:
        """Adds an entry.

        Args:
            component, why, action, what: As of `Entry`.
            flush: Whether it is to survive a power cut, which takes milliseconds; a kill of the
                process every entry survives.

        Raises:
            OSError: It could not be written.
            WarehouseBusyError: Another process kept the log for 10 s.
        """
        with self._mutex:
            with self._alone():
                self._append(component, why, action, what)
            if flush:  # which on a busy disk takes longer than others would wait
                os.fsync(self._file)

    def last(self) -> tuple[int, str]:
        """Sequence and code of the last entry, flushed to the disk; 0 and "" without one."""
        with self._mutex:
            with self._alone():
                if self._at_the_end():
                    self._size = -1  # for the next append to see it again
            os.fsync(self._file)
            return self._sequence, self._code

    def _append(self, component: str, why: str, action: Action, what: Mapping[str, Any]) -> None:
        torn = self._at_the_end()
        lines = [b"\n" if torn else b""]  # what is torn has no end
        code, sequence = self._code, self._sequence
        entries: list[tuple[Action, Mapping[str, Any]]] = [(action, what)]
        if torn.strip():
            digest = hashlib.sha256(torn).hexdigest()
            entries.insert(0, ("torn", {"bytes": len(torn), "sha256": digest}))
        for kind, about in entries:
            sequence += 1
            now = datetime.now(UTC).isoformat(timespec="microseconds")
            entry = Entry(
                *(sequence, now, component, os.getpid(), self._user, why, kind, dict(about))
            )
            line, code = line_of(entry, code, self._key)
            lines.append(line)
        self._write(b"".join(lines))
        self._sequence, self._code = sequence, code

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other process appends; they take microseconds, so it is asked for often."""
        until, sleep = time.monotonic() + _WAIT_SECONDS, 0.0001
        while not self._locked():
            if time.monotonic() > until:
                raise WarehouseBusyError(
                    f"The audit log was in use by another process for {_WAIT_SECONDS:g} s",
                    next_step="Find it with `fuser` on that file; it may have been stopped.",
                    file=self._lock_path,
                )
            time.sleep(sleep)
            sleep = min(2 * sleep, _LONGEST_SLEEP_SECONDS)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _locked(self) -> bool:
        if self._lock < 0:
            make_private_folder(self._folder)
            self._lock = os.open(self._lock_path, os.O_RDWR | _FLAGS, PRIVATE_FILE)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._lock), self._lock_path.stat()):
                return True
        # Somebody removed or moved the folder: others lock another file.
        os.close(self._lock)
        self._lock = -1
        return False

    def _at_the_end(self) -> bytes:
        """Opens the newest file and finds its last entry; what lies behind that, torn.

        Of an entry that lacks nothing but its end that is the end.
        """
        size = self._size_if_newest()
        if size is None:
            self._open_newest()
            size = os.fstat(self._file).st_size
        torn = b"" if size == self._size else self._read_end(size)[1]
        self._size = size
        if size >= self._max_bytes and not torn:
            self._begin_next()
        return torn

    def _size_if_newest(self) -> int | None:
        """The size of the open file, if it is still there under its name and not full."""
        if self._file < 0:
            return None
        try:
            named = self._path.stat()
        except FileNotFoundError:
            return None
        is_same = (named.st_ino, named.st_dev) == self._inode
        return named.st_size if is_same and named.st_size < self._max_bytes else None

    def _open_newest(self) -> None:
        make_private_folder(self._folder)
        files = log_files(self._folder)
        # A process may have been killed between a file's begin and its first entry.
        for path in reversed(files):
            self._open(path)
            if self._read_end(os.fstat(self._file).st_size)[0]:
                break
        if files:
            self._open(files[-1])
        else:
            self._begin_next()

    def _begin_next(self) -> None:
        """Opens a new file, named by the sequence that comes next."""
        self._open(self._folder / f"{self._sequence + 1:012}{_SUFFIX}")
        sync(self._folder)

    def _open(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | _FLAGS, PRIVATE_FILE)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._path, self._size = descriptor, path, 0
        opened = os.fstat(descriptor)
        self._inode = opened.st_ino, opened.st_dev

    def _read_end(self, size: int) -> tuple[bool, bytes]:
        """Takes over the last entry of the file: whether there is one, and what lies behind it."""
        span = _TAIL_BYTES
        while True:
            end = os.pread(self._file, min(span, size), max(size - span, 0))
            *lines, rest = end.split(b"\n")
            lines.append(rest)
            behind: list[bytes] = []
            # The first of the lines may lack its beginning, which makes it no entry.
            for line in reversed(lines):
                if found := parsed(line):
                    entry, _ = found
                    # Who cut the log off while this process has it open is found by the gap.
                    if entry.sequence > self._sequence:
                        self._sequence, self._code = entry.sequence, entry.mac
                    if line is rest:
                        return True, b"\n"
                    return True, b"\n".join(reversed(behind)).rstrip(b"\n")
                behind.append(line)
            if span >= size:
                return False, end.rstrip(b"\n")
            span *= 4

    def _write(self, lines: bytes) -> None:
        end, self._size = self._size + len(lines), -1
        # A disk that takes a part leaves a torn line, for which the next append accounts.
        while lines:
            lines = lines[os.write(self._file, lines) :]
        self._size = end
