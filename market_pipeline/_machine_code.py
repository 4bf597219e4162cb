"""The machine code of kernels on disk, and who writes it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Hashable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.compiler import CompileResult
from numba.core.cpu import CPUContext

__all__ = ["Cache", "FilePerSignature", "held_by_this_process"]

_held: set[Path] = set()
_WAIT_SECONDS = 120.0
"""A kernel compiles in seconds; one that takes longer belongs to a process that was suspended."""


@contextmanager
def held_by_this_process(lock: Path) -> Iterator[None]:
    """Hold a lock file, also where this process does already: numba may compile in two attempts.

    Nobody waits in a circle, because kernels that call each other do not either. Nobody waits for
    ever: without the lock a kernel is compiled twice, and the machine code is the same.
    """
    if lock in _held:
        yield
        return
    with ExitStack() as held:
        with suppress(OSError):  # a folder that may only be read, or knows no locks
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            held.callback(os.close, descriptor)
            until = time.monotonic() + _WAIT_SECONDS
            while not _is_locked(descriptor) and time.monotonic() < until:
                time.sleep(0.05)
        _held.add(lock)
        held.callback(_held.discard, lock)
        yield


def _is_locked(descriptor: int) -> bool:
    """Locks a file, if no other process has; other errors than that are the caller's."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Cache(FunctionCache):
    """Machine code on disk, which is called without what compiling needs.

    numba first loads and registers all that it knows to compile, which took two thirds of the time
    to the first call, and 30 MB. Who compiles does so then.
    """

    def load_overload(self, sig: Any, target_context: CPUContext) -> CompileResult | None:
        """The machine code for some types; None if there is none."""
        of_numba: Any = self
        return cast("CompileResult | None", of_numba._load_overload(sig, target_context))

    def save_overload(self, sig: Any, data: CompileResult) -> None:
        """Keeps the machine code for some types if the disk has room; it is called anyway."""
        with suppress(OSError):
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]


class FilePerSignature(IndexDataCacheFile):
    """Machine code in a file that is named by the types it is for.

    numba counts the files of a function instead. Two processes that compile it for different types
    at once would write the same file, and a third one call machine code with arrays of other types.
    """

    def save(self, key: Hashable, data: object) -> None:
        """Keeps machine code; its file is there before the index names it."""
        name = self._data_name_pattern.format(number=_number(key))
        self._save_data(name, data)  # type: ignore[no-untyped-call]
        overloads = self._load_index()
        self._save_index(overloads | {key: name})  # type: ignore[no-untyped-call]

    # A crash of the machine leaves files empty or cut off, and reading those may raise anything.
    # What cannot be read is compiled once more.
    def _load_index(self) -> dict[Hashable, str]:
        with suppress(Exception):
            return cast("dict[Hashable, str]", super()._load_index())  # type: ignore[no-untyped-call]
        return {}

    def _load_data(self, name: str) -> object:
        with suppress(Exception):
            return super()._load_data(name)  # type: ignore[no-untyped-call]
        return None


def _number(key: Hashable) -> int:
    """One number for the same types, processor and code, in every process."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8])
