from __future__ import annotations

import subprocess
import sys

import pytest

import market_pipeline


def modules_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has imported after some code."""
    shown = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", f"{code}\n{shown}"]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import market_pipeline", {"polars", "pyarrow", "numba", "numpy", "duckdb", "dagster"}),
        ("from market_pipeline import load_bbo, load_metrics, load_trades", {"numba", "dagster"}),
        ("from market_pipeline import rebuild", {"polars", "pyarrow", "numba", "numpy", "duckdb"}),
        ("from market_pipeline import Book, RebuiltBook", {"duckdb", "dagster"}),
        ("from market_pipeline import asof_quotes, book_at, depth_matrix", {"dagster"}),
    ],
)
def test_imports_what_is_used(code, absent):
    """The package alone is instant, and each function imports only what it needs; never Dagster."""
    assert set() == absent & modules_after(code)


def test_every_name_is_there():
    """What the package offers can be imported and is found by tab completion."""
    offered = market_pipeline.__all__
    assert all(getattr(market_pipeline, name) is not None for name in offered)
    assert set(offered) <= set(dir(market_pipeline))


def test_other_names_are_not():
    """A name that is not offered is an AttributeError as for any module."""
    with pytest.raises(AttributeError, match="no attribute 'load_bboo'"):
        _ = market_pipeline.load_bboo
