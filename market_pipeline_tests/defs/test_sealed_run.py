"""A recorded day through Dagster with everything sealed that can be."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from market_pipeline.cli.app import app
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import load_settings
from market_pipeline.security.envelope import SUFFIX
from market_pipeline.security.sealing import seal_in_place
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import current_files
from market_pipeline_tests.capture.recorded import record_market
from market_pipeline_tests.defs.workspace import Workspace
from market_pipeline_tests.published_day import MINUTES, publish_day
from market_pipeline_tests.security.keys import MASTER_TEXT, use_keys

pytestmark = pytest.mark.slow

DAY = date(2024, 8, 8)
RECORDED = Instrument(venue="BINANCE", symbol="BTC-USDT", source="recording")
SEAL = "captures,raw,exports"
BIG = [table for table in TABLES.values() if table.storage == "delta"]


def files_of(data_dir: Path) -> list[str]:
    """The published files, which are named by what is in them."""
    warehouse = Warehouse(data_dir)
    found = [file for table in BIG for file in current_files(warehouse, table, DAY)]
    return [str(file.relative_to(data_dir)) for file in found]


def test_the_same_bytes_as_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster publishes from sealed recordings and sealed raw days the files that the stages alone
    publish from plain ones; no byte of either lies plain, nor of an export.
    """
    more = {"PIPELINE_MASTER_KEY": MASTER_TEXT, "PIPELINE_SEAL": SEAL}
    sealed = Workspace(tmp_path / "sealed", tmp_path / "sealed-lake", DAY, more)
    sealed.configure({"venue": "BINANCE", "symbol": "BTC-USDT", "source": "recording"})
    record_market(tmp_path / "lake", 60)
    shutil.copytree(tmp_path / "lake", sealed.lake)
    lake = str(tmp_path / "lake")
    plain = load_settings(data_dir=tmp_path / "plain", lake_uri=lake, **MINUTES)
    publish_day(plain, [RECORDED], DAY)

    ring = use_keys(monkeypatch, sealed.data_dir, "captures", "raw", "exports", seal=SEAL)
    for file in sealed.lake.rglob("*.recording"):
        seal_in_place(file, ring, "captures")
    ended = sealed.run_days(DAY)
    assert ("", files_of(plain.data_dir)) == (ended.errors, files_of(sealed.data_dir))
    assert 5 < len(files_of(plain.data_dir))

    out = sealed.root / "day.gz"
    exported = CliRunner().invoke(app, ["recording", "export", str(out), str(sealed.lake)])
    raw = [
        *sealed.lake.rglob("*.recording*"),
        *(sealed.data_dir / "converted").rglob("*.parquet*"),
        *sealed.root.glob("day.gz*"),
    ]
    assert (0, []) == (exported.exit_code, [path for path in raw if SUFFIX not in path.name])
    assert {".gz", ".parquet", ".recording"} == {
        Path(path.name.partition(SUFFIX)[0]).suffix for path in raw
    }
