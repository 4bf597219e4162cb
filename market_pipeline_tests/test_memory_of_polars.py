"""What Polars does with memory that it does not use for a moment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os
import market_pipeline
os.environ["_RJEM_MALLOC_CONF"] += ",confirm_conf:true"
import polars
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have another allocator")
def test_memory_is_kept_between_two_row_groups():
    """Its allocator takes our options, and after its own, which give memory back sooner."""
    environment = {name: text for name, text in os.environ.items() if "MALLOC" not in name}
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    confirmed = [
        line.rpartition("Set conf value: ")[2]
        for line in finished.stderr.splitlines()
        if "Set conf value" in line
    ]

    decays = [line for line in confirmed if line.startswith("dirty_decay_ms")]
    assert (decays[-1], "narenas:1" in confirmed) == ("dirty_decay_ms:10000", True)
