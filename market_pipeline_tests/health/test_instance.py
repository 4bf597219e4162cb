from __future__ import annotations

import subprocess
import sys

from market_pipeline.health.instance import dagster_instance

LOADED = """
import sys
import market_pipeline.health.instance
print(*{"duckdb", "numba", "numpy", "polars", "pyarrow"} & set(sys.modules))
"""


def test_an_instance_that_cannot_be_read(tmp_path):
    """Whatever is wrong with it is said in words, and ends nothing."""
    found = dagster_instance(str(tmp_path / "none"))

    assert isinstance(found, str)
    assert "none" in found


def test_types_are_light():
    """Who asks the instance imports them in a process of its own, without libraries of data."""
    ended = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )

    assert "\n" == ended.stdout
