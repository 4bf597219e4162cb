"""What a look at the health records."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path

from market_pipeline.config.settings import load_settings
from market_pipeline.health.disk import FreeBytes
from market_pipeline.health.expiry import Expiry
from market_pipeline.health.figures import record_health
from market_pipeline.health.report import ExpectedDay, Health
from market_pipeline.telemetry.bridge.sums import Bridge
from market_pipeline.telemetry.metrics.recording import FOLDER, begin
from market_pipeline_tests.telemetry.figures import names_of


def test_what_is_due_and_what_expires(tmp_path: Path):
    """By venue the days not there, the rejected among them, and the end of the newest that is; by
    setting what ends first; the last backup; what a disk has left.
    """
    begin(load_settings(data_dir=tmp_path), "command")
    record_health(
        Health(
            *(0, ()),
            expected=(
                ExpectedDay("A:X", date(2025, 1, 6), "available"),
                ExpectedDay("A:X", date(2025, 1, 7), "rejected"),
                ExpectedDay("A:Y", date(2025, 1, 7), "missing"),
                ExpectedDay("B:Z", date(2025, 1, 7), "degraded"),
            ),
            expiries=(
                Expiry("certificate", "lake_endpoint_url", "first", 5e9),
                Expiry("certificate", "lake_endpoint_url", "last", 6e9),
            ),
            disks=(FreeBytes("/data", 8e9, 9),),
            backup_s=7e9,
        )
    )
    begin(load_settings(data_dir=tmp_path, metrics=False), "command")
    bridge = Bridge(tmp_path / FOLDER)
    bridge.update()
    families = dict(bridge.families(time.time_ns()))

    def values(name: str, label: str) -> dict[str, float]:
        series = families[f"market_pipeline.{name}"].series.values()
        return {each.labels[label]: each.value for each in series}

    assert names_of("due", "expiry", "backup", "disk") == families.keys()
    assert {"A": 2, "B": 0} == values("due.backlog", "venue")
    assert {"A": 1736208000.0, "B": 1736294400.0} == values("due.newest_timestamp", "venue")
    assert {"/data": 9} == values("disk.free_space", "folder")
    assert {"lake_endpoint_url": 5e9} == values("expiry.timestamp", "setting")
