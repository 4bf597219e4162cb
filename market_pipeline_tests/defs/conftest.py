"""Settings of their own for tests that use the definitions in this process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
import yaml

from market_pipeline.config.instruments import Instrument
from market_pipeline_tests.conftest import REPOSITORY

START = date(2024, 7, 1)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder and settings of the test's own: the definitions read both when imported."""
    for name in list(os.environ):
        if name.upper().startswith("PIPELINE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PIPELINE_LAKE_URI", str(tmp_path / "lake"))
    monkeypatch.setenv("PIPELINE_START_DATE", START.isoformat())
    monkeypatch.setenv("PIPELINE_METRICS", "false")
    monkeypatch.setenv("PIPELINE_TRACES", "false")
    return tmp_path


@pytest.fixture
def instruments(folder: Path) -> tuple[Instrument, Instrument]:
    """Two instruments in the instruments file."""
    entries = [
        {"venue": "BINANCE", "symbol": symbol, "source": "crypto_lake"}
        for symbol in ("BTC-USDT", "ETH-USDT")
    ]
    (folder / "instruments.yaml").write_text(yaml.safe_dump({"instruments": entries}))
    first, second = (Instrument(**each) for each in entries)
    return first, second


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance with its event log in one file, as ours is."""
    storage = {
        "module": "market_pipeline.defs.event_log",
        "class": "EventLog",
        "config": {"base_dir": str(tmp_path)},
    }
    with dg.DagsterInstance.local_temp(str(tmp_path), {"event_log_storage": storage}) as made:
        yield made


@pytest.fixture
def dagster_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`DAGSTER_HOME`, of which an instance is as the project configures it."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(REPOSITORY / "dagster_home" / "dagster.yaml", home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    return home
