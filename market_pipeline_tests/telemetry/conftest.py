"""A process that records into a folder of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from market_pipeline.config.settings import load_settings
from market_pipeline.telemetry.metrics.recording import begin


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where this process records to until the test ends."""
    begin(load_settings(data_dir=tmp_path), "run")
    yield tmp_path / "metrics"
    begin(load_settings(data_dir=tmp_path, metrics=False), "run")
