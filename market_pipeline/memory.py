"""Memory by its allocators: how much is given out, and what a stage is done with given back."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache

import duckdb
import pyarrow as pa

__all__ = ["allocated_bytes", "give_back_memory"]


class _MallInfo(ctypes.Structure):
    """What glibc's `mallinfo2` says of all arenas, in bytes."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def allocated_bytes() -> dict[str, int]:
    """What `c`, which numpy and Python use, and `arrow` have given out; that of Polars is unknown.

    Only glibc, since 2.33, says it of C.
    """
    found = {"arrow": pa.total_allocated_bytes()}
    with suppress(OSError, AttributeError):
        ask = ctypes.CDLL(None).mallinfo2
        ask.restype = _MallInfo
        of_c = ask()
        found["c"] = of_c.uordblks + of_c.hblkhd
    return found


def give_back_memory() -> None:
    """Has the allocators of C, of Arrow and of DuckDB let go of pages in which nothing is kept.

    They would keep them for the next allocation of their own: a day leaves 100 MB so, and each
    replacement in a wide small table 50. What Polars keeps goes by itself ten seconds after its
    last use. Takes milliseconds; any thread may call it.
    """
    # Only glibc has it.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    pa.default_memory_pool().release_unused()
    # DuckDB, which has one allocator for all databases of a process, does it when a limit is set.
    with _empty_database().cursor() as connection:
        connection.execute("SET memory_limit = '1GB'")


@cache
def _empty_database() -> duckdb.DuckDBPyConnection:
    """One of our own: the default one is the user's, who may have set its limit or locked it."""
    return duckdb.connect(config={"threads": 1})
