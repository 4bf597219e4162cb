"""What Polars does with memory that it does not use for a moment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, time
{imported}
import polars as pl

def work():
    pl.Series(range(10)).sample(4_000_000, with_replacement=True).sort()

work()
work()
for _ in range(2):  # it looks at its clock when it is used
    time.sleep(0.7)
    pl.Series([2, 1]).sort()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_taken_again(imported: str) -> int:
    """The pages that Polars asks the system for after a second without work, in a new process."""
    environment = {name: text for name, text in os.environ.items() if "MALLOC" not in name}
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(imported=imported)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return int(finished.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have another allocator")
def test_memory_is_kept_between_two_row_groups():
    """The allocator's option is one of Polars' own: without it the pages are asked for again."""
    ours, plain = pages_taken_again("import market_pipeline"), pages_taken_again("")

    assert (True, True) == (ours < 1_000, plain > 5_000)
