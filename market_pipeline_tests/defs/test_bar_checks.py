from __future__ import annotations

from datetime import date
from typing import Any

import dagster as dg
import polars as pl
import pytest

from market_pipeline.metrics.tables import BARS
from market_pipeline.sources.simulated import simulate
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.read import scan
from market_pipeline.warehouse.staging import StagedWriter
from market_pipeline_tests.capture.recorded import record_market
from market_pipeline_tests.defs.workspace import Workspace
from market_pipeline_tests.sources.simulated.days import instrument

pytestmark = pytest.mark.slow

DAY, NEXT_DAY = date(2024, 8, 8), date(2024, 8, 9)
WRITTEN, SOUND = instrument("WRITTEN-USD"), instrument("SOUND-USD", seed=8)
RECORDED = {"venue": "BINANCE", "symbol": "BTC-USDT", "source": "recording"}
HOUR = (pl.col("width_seconds") == 3_600) & (pl.col("bar_start").dt.hour() == 5)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A day of two simulated instruments and a recorded one that was run.

    Lost of the recording is the first print of its second minute.
    """
    root = tmp_path_factory.mktemp("bars")
    small = {"messages_per_day": 1_500, "snapshot_interval_s": 20.0}
    simulate(root / "lake", [WRITTEN, SOUND], DAY, DAY, **small)
    record_market(root / "lake", 60, lost=frozenset({27}))
    workspace = Workspace(root / "pipeline", root / "lake")
    workspace.configure(WRITTEN, SOUND, RECORDED)
    workspace.run_days(DAY)
    return workspace


def check_again(day: str, name: str) -> None:
    """Runs one check of a day alone, as a button of the UI does."""
    from market_pipeline.definitions import defs

    job = defs.resolve_implicit_global_asset_job_def()
    key = dg.AssetCheckKey(dg.AssetKey("bars"), name)
    job = job.get_subset(asset_selection=set(), asset_check_selection={key})
    with dg.DagsterInstance.get() as instance:
        assert job.execute_in_process(instance=instance, partition_key=day).success


def said(workspace: Workspace) -> Any:
    """What the check said in the newest run; None if nothing."""
    return workspace.last_checks().get("bar_rows")


def test_bars_of_a_run(workspace: Workspace):
    """Every run looks through the bars it published."""
    lines = said(workspace).metadata["instruments"].records

    assert ["passed"] * 3 == [line.data["result"] for line in lines]


def test_a_row_that_somebody_wrote(workspace: Workspace):
    """A bar that is not the sum of its parts fails its instrument, and is located once."""
    rows = scan(workspace.warehouse, BARS, DAY, {f"SIMULATED:{WRITTEN.symbol}"}).collect()
    wrong = pl.when(HOUR).then(pl.col("volume_lots") + 1).otherwise("volume_lots")
    with StagedWriter(workspace.warehouse, BARS, f"SIMULATED:{WRITTEN.symbol}") as writer:
        writer.write(rows.with_columns(wrong.alias("volume_lots")).to_arrow())
    publish(workspace.warehouse, BARS, DAY, [writer.staged])
    assert 0 == workspace.call(check_again, DAY.isoformat(), "bar_rows").finish().exit_code
    check = said(workspace)

    assert (False, dg.AssetCheckSeverity.ERROR) == (check.passed, check.severity)
    lines = {line.data["instrument"]: line.data for line in check.metadata["instruments"].records}
    assert ("ERROR", "passed") == tuple(
        lines[f"SIMULATED:{each.symbol}"]["result"] for each in (WRITTEN, SOUND)
    )
    first = check.metadata["places"].records[0].data
    assert ("05:00:00.000000 UTC", "bar of 3,600 s") == (first["time"], first["value"])
    assert "not the sums of the smaller bars" in first["note"]


def test_a_day_without_bars(workspace: Workspace):
    """Of a day that has none the check says nothing."""
    assert 0 == workspace.call(check_again, NEXT_DAY.isoformat(), "bar_rows").finish().exit_code

    assert said(workspace) is None


def test_klines_of_a_recorded_day(workspace: Workspace):
    """Minutes whose prints all came are the venue's; one of which a print was lost is located."""
    assert 0 == workspace.call(check_again, DAY.isoformat(), "klines").finish().exit_code
    check = workspace.last_checks()["klines"]

    assert (False, dg.AssetCheckSeverity.WARN) == (check.passed, check.severity)
    (place,) = check.metadata["places"].records
    assert "00:01:00.000000 UTC" == place.data["time"]
    assert "trade_count: 8, 9" in place.data["note"]
    assert "1 of 7" in check.description
