from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from market_pipeline.alerts.outbox import Outbox
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.alerts.receiver import Receiver


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current folder and an environment without any setting."""
    for name in list(os.environ):
        if name.upper().startswith("PIPELINE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """An empty data folder."""
    return Warehouse(tmp_path / "data")


@pytest.fixture
def outbox(warehouse: Warehouse) -> Outbox:
    """Its outbox."""
    return Outbox(warehouse)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that takes whatever comes."""
    made = Receiver().open()
    yield made
    made.close()
