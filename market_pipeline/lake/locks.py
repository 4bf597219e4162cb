"""One writer at a time: file locks with a bounded wait, and an error that says who to look for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
from filelock import FileLock, Timeout
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from market_pipeline.errors import WarehouseBusyError
from market_pipeline.lake.layout import PRIVATE_FILE, Warehouse, make_private_folder

__all__ = ["DEFAULT_WAIT_SECONDS", "busy", "holding", "is_locked_elsewhere", "until_unlocked"]

DEFAULT_WAIT_SECONDS = 60.0
"""How long a writer waits for another one; a publish itself takes well under a second."""


@contextmanager
def holding(
    warehouse: Warehouse, name: str, *, timeout_seconds: float = DEFAULT_WAIT_SECONDS
) -> Iterator[None]:
    """Hold the lock `state/<name>.lock`, against other processes and other threads of this one.

    The operating system frees the lock when its holder ends, however it ends, so a lock file that
    is left behind is harmless and never needs to be deleted.

    Args:
        warehouse: Where the lock file lies.
        name: What is locked: a table (`books.bbo`), `working` or `catalogue`.
        timeout_seconds: How long to wait for the present holder.

    Raises:
        WarehouseBusyError: Another process or thread held it for the whole wait.
    """
    path = warehouse.lock_file(name)
    make_private_folder(path.parent)
    # thread_local=False: the lock object is this call's own, so it need not tell threads apart.
    lock = FileLock(path, timeout=timeout_seconds, mode=PRIVATE_FILE, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise busy(warehouse, name, timeout_seconds) from error
    try:
        yield
    finally:
        lock.release()


def busy(warehouse: Warehouse, name: str, waited_seconds: float) -> WarehouseBusyError:
    """The error for a lock, or a database file, that someone else kept."""
    return WarehouseBusyError(
        f"{name} was in use by another process for {waited_seconds:g} s",
        next_step=(
            "Wait for the other run to end, or find it with `fuser` on that file and stop it, "
            "then run this again; what was published before is untouched."
        ),
        file=warehouse.lock_file(name),
    )


def is_locked_elsewhere(error: BaseException) -> bool:
    """Whether DuckDB refused a file because another process has it open."""
    return isinstance(error, duckdb.IOException) and "Could not set lock" in str(error)


def until_unlocked(timeout_seconds: float) -> Retrying:
    """Try again, after waits with jitter, while another process has a DuckDB file open."""
    return Retrying(
        retry=retry_if_exception(is_locked_elsewhere),
        wait=wait_random_exponential(multiplier=0.05, max=1.0),
        stop=stop_after_delay(timeout_seconds),
        reraise=True,
    )
