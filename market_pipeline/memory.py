"""Memory that a stage is done with, given back to the system before the next one needs its own."""

from __future__ import annotations

import ctypes
from contextlib import suppress

import pyarrow as pa

__all__ = ["give_back_memory"]


def give_back_memory() -> None:
    """Has the allocators of C and of Arrow let go of pages in which nothing is kept.

    They would keep them for the next allocation of their own: a day leaves 100 MB so. What Polars
    keeps goes by itself ten seconds after its last use. Takes milliseconds; any thread may call it.
    """
    # Only glibc has it.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    pa.default_memory_pool().release_unused()
