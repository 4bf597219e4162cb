"""A lake and a warehouse for each test, whatever the settings of this machine are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.stages.days import Later


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder without settings."""
    for name in list(os.environ):
        if name.upper().startswith("PIPELINE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def lake(folder: Path) -> Path:
    """An empty lake."""
    return folder / "lake"


@pytest.fixture
def warehouse(folder: Path) -> Warehouse:
    """An empty warehouse."""
    made = Warehouse(folder / "data")
    made.prepare()
    return made


@pytest.fixture
def rebuilt(lake: Path, folder: Path, warehouse: Warehouse) -> Callable[[], Later]:
    """Rebuilds what was written to the lake."""
    return lambda: Later(lake, folder, warehouse)
