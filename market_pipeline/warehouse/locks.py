"""One writer at a time: file locks with a bounded wait, and an error that says who to look for."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from market_pipeline.errors import WarehouseBusyError
from market_pipeline.threads import check_stopped
from market_pipeline.warehouse.layout import (
    DEFAULT_WAIT_SECONDS,
    PRIVATE_FILE,
    Warehouse,
    make_private_folder,
)

__all__ = [
    "busy",
    "holding",
    "is_locked_elsewhere",
    "locking",
    "newest_change",
    "take_lock",
    "until_unlocked",
]

_LOOK_SECONDS = 0.05


@contextmanager
def holding(warehouse: Warehouse, name: str) -> Iterator[None]:
    """Hold the lock `state/<name>.lock`, against other processes and other threads of this one.

    The operating system frees the lock when its holder ends, however it ends, so a lock file that
    is left behind is harmless and never needs to be deleted.

    Args:
        warehouse: Where the lock file lies, and how long to wait for its present holder.
        name: What is locked: a table (`books.bbo`), `working` or `catalogue`.

    Raises:
        WarehouseBusyError: Another process or thread held it for the whole wait.
    """
    path = warehouse.lock_file(name)
    make_private_folder(path.parent)
    with locking(path, name=name, timeout_seconds=warehouse.wait_seconds):
        yield


@contextmanager
def locking(
    path: Path,
    *,
    name: str | None = None,
    shared: bool = False,
    sign: Callable[[], object] = lambda: None,
    timeout_seconds: float = DEFAULT_WAIT_SECONDS,
) -> Iterator[None]:
    """Hold a lock file, or the lock of a folder, by its path; `take_lock` says how it waits."""
    how = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, how | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        take_lock(
            descriptor, path, name=name, shared=shared, sign=sign, timeout_seconds=timeout_seconds
        )
        yield
    finally:
        os.close(descriptor)


def take_lock(
    descriptor: int,
    path: Path,
    *,
    name: str | None = None,
    shared: bool = False,
    sign: Callable[[], object] = lambda: None,
    timeout_seconds: float = DEFAULT_WAIT_SECONDS,
) -> None:
    """Lock an open file until it is closed, and wait while its holder gives signs of life.

    Args:
        descriptor, path: The open file.
        name: What is locked, in the error; None is the name of the file.
        shared: Whether others may share it.
        sign: What changes while the holder works: one that downloads for an hour is waited for, one
            that was stopped is not.
        timeout_seconds: How long to wait for the next sign.

    Raises:
        WarehouseBusyError: Another process or thread held it, without a sign, for so long.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    shown, until = sign(), time.monotonic() + timeout_seconds
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return
        if shown != (shown := sign()):
            until = time.monotonic() + timeout_seconds
        if time.monotonic() >= until:
            raise _in_use(name or path.name, path, timeout_seconds)
        check_stopped()
        time.sleep(_LOOK_SECONDS)


def newest_change(folder: Path) -> int:
    """When something in a folder was last written to, in ns: the sign of who works in it."""
    newest = 0
    with suppress(FileNotFoundError):  # something is renamed meanwhile: a sign as well
        for path in chain([folder], folder.rglob("*")):
            newest = max(newest, path.stat().st_mtime_ns)
    return newest


def busy(warehouse: Warehouse, name: str, file: Path | None = None) -> WarehouseBusyError:
    """The error for a lock, or a database `file`, that someone else kept for the whole wait."""
    return _in_use(name, file or warehouse.lock_file(name), warehouse.wait_seconds)


def _in_use(name: str, file: Path, waited_seconds: float) -> WarehouseBusyError:
    return WarehouseBusyError(
        f"{name} was in use by another process for {waited_seconds:g} s",
        next_step=(
            "Wait for the other run to end, or find it with `fuser` on that file and stop it, "
            "then run this again; what was published before is untouched."
        ),
        file=file,
        found=_holder(file),
    )


def _holder(file: Path) -> str | None:
    """The process that holds a lock on a file and what it is at; None where Linux tells nobody."""
    with suppress(OSError, IndexError):
        inode = f":{file.stat().st_ino}"
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            # "1: FLOCK ADVISORY WRITE 4711 08:01:1234 0 EOF"; who waits has "->" behind the number.
            # DuckDB's are of POSIX.
            parts = line.split()
            if parts[1] in {"FLOCK", "POSIX"} and parts[5].endswith(inode):
                lines = Path(f"/proc/{parts[4]}/status").read_text(encoding="utf-8").splitlines()
                name, state = (each.partition(":")[2].strip() for each in (lines[0], lines[2]))
                return f"process {parts[4]} ({name}), state {state}"
    return None


def is_locked_elsewhere(error: BaseException) -> bool:
    """Whether DuckDB refused a file because another process has it open."""
    # Raw files are locked, too, and who only rebuilds them needs no database.
    import duckdb  # noqa: PLC0415

    return isinstance(error, duckdb.IOException) and "Could not set lock" in str(error)


def until_unlocked(timeout_seconds: float) -> Retrying:
    """Try again, after waits with jitter, while another process has a DuckDB file open."""
    return Retrying(
        retry=retry_if_exception(is_locked_elsewhere),
        wait=wait_random_exponential(multiplier=0.05, max=1.0),
        stop=stop_after_delay(timeout_seconds),
        reraise=True,
    )
