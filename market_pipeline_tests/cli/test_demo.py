from __future__ import annotations

from pathlib import Path

import pytest

from market_pipeline.cli.demo import demo
from market_pipeline.errors import SettingsError


def test_a_home_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A DAGSTER_HOME that is no folder is refused before anything is simulated."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PIPELINE_LAKE_URI", str(tmp_path / "lake"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match="DAGSTER_HOME: expected the absolute path"):
        demo()
    assert [] == list(tmp_path.iterdir())
