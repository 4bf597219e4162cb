"""A warehouse for each test, and processes that share it."""

from __future__ import annotations

from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.defs.workspace import forks


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """An empty warehouse, below a folder whose name is a pattern and holds a quote."""
    made = Warehouse(tmp_path / "data[ir]it's*")
    made.prepare()
    return made


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Makes processes that have the libraries loaded when they start."""
    return forks()
