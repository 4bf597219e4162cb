from __future__ import annotations

from market_pipeline.health.instance import dagster_instance


def test_an_instance_that_cannot_be_read(tmp_path, monkeypatch):
    """Whatever is wrong with it is said in words, and ends nothing."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "none"))
    found = dagster_instance()

    assert isinstance(found, str)
    assert "none" in found
