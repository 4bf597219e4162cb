"""What a stage no longer needs, the system has back."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from market_pipeline.memory import give_back_memory

# In a process of its own, because others' allocations may lie behind those looked at. Each is small
# enough to lie in the heap, whose last one is kept.
RESIDENT = """
import ctypes, os
from market_pipeline.memory import give_back_memory

def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
blocks = [libc.malloc(60_000) for _ in range(1_000)]
for block in blocks:
    ctypes.memset(block, 1, 60_000)
last = libc.malloc(60_000)
for block in blocks:
    libc.free(block)
before = resident_mb()
give_back_memory()
print(before - resident_mb())
"""


# Polars is called before and after.
CODE = """
import polars
from market_pipeline.memory import give_back_memory

def files_mb():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1e3 for line in file if line.startswith("RssFile"))

frame = polars.DataFrame({"number": [3, 1, 2]})
first = frame.sort("number")["number"].to_list()
before = files_mb()
give_back_memory()
let_go = before - files_mb()
again = frame.sort("number")["number"].to_list()
print(let_go if first == again else -1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc and /proc")
def test_freed_heap_is_given_back():
    """Sixty megabytes that were freed below a block in use leave the process."""
    answer = subprocess.run(
        [sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=True
    )
    assert float(answer.stdout) > 50


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_code_is_given_back_until_it_is_called():
    """Twenty megabytes of libraries' code leave the process, and what is called next is right."""
    answer = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
    )
    assert float(answer.stdout) > 20


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
def test_a_mapped_file_whose_name_is_no_text(tmp_path: Path):
    """A name that is no UTF-8, as an old disk has them, is a name like others."""
    with (tmp_path / os.fsdecode(b"m\xfcller\r.so")).open("wb+") as file:
        file.truncate(4 << 20)
        with mmap.mmap(file.fileno(), 0):
            give_back_memory()


def test_what_is_in_use_stays():
    """An Arrow column keeps its values."""
    column = pa.array(range(100_000))
    give_back_memory()
    assert column.to_pylist() == list(range(100_000))
