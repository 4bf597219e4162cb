"""Memory by its allocators: how much is given out, and what a stage is done with given back."""

from __future__ import annotations

import ctypes
import mmap
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

__all__ = ["allocated_bytes", "give_back_memory"]

_LARGE_CODE_BYTES = 2 << 20
"""Hardly any library but those of LLVM, Polars, DuckDB, Delta and Arrow has more code than this."""

_MAPPINGS = Path("/proc/self/maps")


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
    """Has the allocators of C and of Arrow let go of pages in which nothing is kept.

    They would keep them for the next allocation of their own: a day leaves 100 MB so. What Polars
    keeps goes by itself two seconds after its last use. The code of large libraries goes as well.
    Takes milliseconds; any thread may call it.
    """
    # Only glibc has it.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    pa.default_memory_pool().release_unused()
    _let_code_go()


def _let_code_go() -> None:
    """Takes the code of large libraries out of this process; what is called comes back by itself.

    Of 780 MB that a run of a vendor's days had, 200 were such code and its tables, a third of them
    LLVM's, which is called only while kernels are loaded. The pages stay in the system's cache of
    files, as long as nobody needs the memory more.
    """
    # Only Linux says where it is, and names are bytes there.
    with suppress(OSError, AttributeError), _MAPPINGS.open("rb") as mappings:
        advise = ctypes.CDLL(None).madvise
        advise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        for line in mappings:
            place, may, offset, _, _, *path = line.split(maxsplit=5)
            start, end = (int(each, 16) for each in place.split(b"-"))
            # Nobody writes to these two, so the file has all of them. What the linker writes to,
            # and protects afterwards, lies further on in the file.
            is_as_in_file = may == b"r-xp" or (may == b"r--p" and int(offset, 16) == 0)
            if is_as_in_file and b".so" in b"".join(path) and end - start >= _LARGE_CODE_BYTES:
                advise(start, end - start, mmap.MADV_DONTNEED)
