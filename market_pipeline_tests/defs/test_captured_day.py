"""A recorded day and the real daemon: no hand is between the files and the fidelity report."""

from __future__ import annotations

import os
import shutil
from datetime import date
from pathlib import Path

import pytest

from market_pipeline.security.envelope import SUFFIX
from market_pipeline.security.sealing import seal_in_place
from market_pipeline_tests.capture.recorded import record_market
from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.defs.test_alerts_daemon import daemon, eventually
from market_pipeline_tests.defs.workspace import Workspace
from market_pipeline_tests.security.keys import MASTER_TEXT, use_keys

pytestmark = pytest.mark.attack

DAY = date(2024, 8, 8)
SETTLED_S = 1_725_000_000


def test_untouched_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Sensor, converter, graph and verdict follow from closed and sealed files, with the lost
    frames as a proven gap; the fidelity report follows when another folder has the day as well.
    """
    lake, golden = tmp_path / "lake", tmp_path / "golden"
    golden.mkdir()
    record_market(lake, 1_500, lost=frozenset({600, 601, 602}))
    keys = {"PIPELINE_MASTER_KEY": MASTER_TEXT, "PIPELINE_SEAL": "captures,raw"}
    workspace = Workspace(tmp_path / "pipeline", lake, start_date=DAY, more=keys)
    ring = use_keys(monkeypatch, workspace.data_dir, "captures", "raw")
    for file in lake.rglob("*.recording"):
        seal_in_place(file, ring, "captures")
    for file in lake.rglob("*.recording*"):
        os.utime(file, (SETTLED_S, SETTLED_S))
    instrument = {"venue": "BINANCE", "symbol": "BTC-USDT", "source": "recording"}
    address = f"BINANCE:BTC-USDT@{golden}"
    workspace.configure(instrument | {"fidelity": {"golden": address}})
    turned_on = workspace.command(
        *("dagster", "sensor", "start", "--start-all"), "-w", str(REPOSITORY / "workspace.yaml")
    )
    assert 0 == turned_on.returncode, turned_on.stderr

    def rows(query: str) -> list[tuple[object, ...]]:
        there = (workspace.data_dir / "warehouse" / "market.duckdb").exists()
        return workspace.sql(query).rows() if there else []

    verdict = "SELECT condition, proven_gap_count FROM quality.validation_report"
    pair = "SELECT golden, grade FROM quality.fidelity_report"
    with daemon(workspace):
        eventually(workspace, lambda: bool(rows(verdict)), "a verdict")
        assert [] == rows(pair)
        shutil.copytree(workspace.data_dir / "tables", golden / "tables")
        eventually(workspace, lambda: bool(rows(pair)), "a fidelity report")
    assert [("degraded", 1)] == rows(verdict)
    assert [(address, "pass")] == rows(pair)
    converted = [*(workspace.data_dir / "converted").rglob("*.parquet*")]
    assert [] == [path for path in converted if SUFFIX not in path.name] != converted
