"""What a stage no longer needs, the system has back."""

from __future__ import annotations

import subprocess
import sys

import duckdb
import pyarrow as pa
import pytest

from market_pipeline.memory import give_back_memory

# In a process of its own, because others' allocations may lie behind those looked at.
RESIDENT = """
import ctypes, duckdb, os
from market_pipeline.memory import give_back_memory

def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

{work}
before = resident_mb()
give_back_memory()
print(before - resident_mb())
"""
# Each is small enough to lie in the heap, whose last one is kept.
HEAP = """
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
blocks = [libc.malloc(60_000) for _ in range(1_000)]
for block in blocks:
    ctypes.memset(block, 1, 60_000)
last = libc.malloc(60_000)
for block in blocks:
    libc.free(block)
"""
WIDE_TABLE = """
kept = duckdb.connect(config={"threads": 1})
columns = ", ".join(f"{number}::BIGINT AS n{number}" for number in range(3_000))
kept.execute(f"CREATE TABLE wide AS SELECT {columns} FROM range(10)")
kept.execute("DROP TABLE wide")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc and /proc")
@pytest.mark.parametrize(("work", "given_mb"), [(HEAP, 50), (WIDE_TABLE, 30)])
def test_what_is_freed_is_given_back(work, given_mb):
    """What was freed leaves the process: sixty megabytes of the heap, a table of a database."""
    run = [sys.executable, "-c", RESIDENT.replace("{work}", work)]
    answer = subprocess.run(run, capture_output=True, text=True, check=True)
    assert float(answer.stdout) > given_mb


def test_the_users_database_keeps_its_limit():
    """DuckDB's default connection is the user's: what they set there stays as it is."""
    ask = "SELECT current_setting('memory_limit')"
    with duckdb.default_connection().cursor() as users:
        users.execute("SET memory_limit = '1.4GiB'")
        before = users.execute(ask).fetchone()
        give_back_memory()
        assert before == users.execute(ask).fetchone()
        users.execute("RESET memory_limit")


def test_what_is_in_use_stays():
    """An Arrow column keeps its values."""
    column = pa.array(range(100_000))
    give_back_memory()
    assert column.to_pylist() == list(range(100_000))
