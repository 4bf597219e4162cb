"""What a run records of what it has at hand."""

from __future__ import annotations

from pathlib import Path

from market_pipeline.config.settings import load_settings
from market_pipeline.defs.telemetry import record_raw
from market_pipeline.stages.raw.day import FetchFigures, ManifestRows
from market_pipeline.tables import TABLES
from market_pipeline.telemetry.bridge.sums import Bridge
from market_pipeline.telemetry.metrics.recording import FOLDER, begin


def test_what_was_fetched(tmp_path: Path):
    """Objects of a store are counted by what became of them, also those that were here already."""
    begin(load_settings(data_dir=tmp_path, metrics=True), "run")
    fetched = FetchFigures({"fetched": 1, "unchanged": 3}, 0, 10, 4, 1.0, 0.0)
    record_raw(TABLES["raw_trades"], ManifestRows([], fetched))
    begin(load_settings(data_dir=tmp_path, metrics=False), "run")
    bridge = Bridge(tmp_path / FOLDER)
    bridge.update()
    ((name, family),) = bridge.families(0)

    assert "market_pipeline.fetch.objects" == name
    assert {"fetched": 1, "unchanged": 3} == {
        each.labels["action"]: each.value for each in family.series.values()
    }
