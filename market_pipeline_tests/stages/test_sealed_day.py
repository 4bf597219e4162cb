"""A day of sealed captures and sealed raw files publishes what the plain ones publish."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path

import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import load_settings
from market_pipeline.security.envelope import SLOTS_SUFFIX, SUFFIX
from market_pipeline.security.sealing import seal_in_place
from market_pipeline.security.stored import plain_name
from market_pipeline.sources.recording import CONVERTER
from market_pipeline.stages.retention.prune import SMALL_TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.manifest import MANIFESTS
from market_pipeline.warehouse.working import read_rows
from market_pipeline_tests.capture.recorded import record_market
from market_pipeline_tests.published_day import MINUTES, publish_day
from market_pipeline_tests.security.keys import use_keys
from market_pipeline_tests.stages import days
from market_pipeline_tests.stages.raw.fake_store import FakeStore

DAY = date(2024, 8, 8)
FETCHED = days.instrument("ETH-USDT")
RECORDED = Instrument(venue="BINANCE", symbol="BTC-USDT", source=CONVERTER.name)
BOTH = (FETCHED, RECORDED)


@pytest.fixture
def store(tmp_path: Path) -> FakeStore:
    days.write_day(tmp_path / "vendor", FETCHED, shards=2)
    store = FakeStore()
    store.put_folder(tmp_path / "vendor")
    return store


def settings_of(root: Path):
    return load_settings(data_dir=root / "data", lake_uri="s3://bucket/lake", **MINUTES)


def published(root: Path, store: FakeStore, again: bool = False):
    """What a run of both instruments publishes: its files by content, and the rows of the rest."""
    settings = settings_of(root)
    if not again:
        record_market(settings.lake_path, 400)
    verdicts = publish_day(settings, BOTH, DAY, store)
    files = {
        path.relative_to(settings.data_dir).as_posix(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in (settings.data_dir / "tables").rglob("*.parquet")
    }
    warehouse = Warehouse(settings.data_dir)
    rows = {
        table.sql_name: read_rows(warehouse, table, DAY)
        for table in (*SMALL_TABLES, *MANIFESTS)
        if table.sql_name.partition(".")[0] in {"lake", "books", "quality", "metrics"}
    }
    return [each.row.condition for each in verdicts], files, rows


def raw_files(root: Path) -> list[Path]:
    """The recordings and raw shards of both instruments, as they lie."""
    found = [*(root / "data/lake").rglob("*"), *(root / "data/converted").rglob("*")]
    return [
        path
        for path in found
        if plain_name(path).name.endswith((".recording", ".parquet"))
        and not path.name.endswith(SLOTS_SUFFIX)
    ]


def seal_recordings(root: Path, ring) -> None:
    for path in (root / "data/lake/recording").rglob("*.recording"):
        seal_in_place(path, ring, "captures")


@pytest.mark.slow
def test_the_same_bytes(tmp_path: Path, store: FakeStore, monkeypatch: pytest.MonkeyPatch):
    """Every published file and row is the same, no raw byte lies plain, and a run without the key
    sets both instruments aside with the key's id and the file.
    """
    root = tmp_path / "day"  # errors name their files, so both are run in one place
    plain = published(root, store)
    root.rename(tmp_path / "plain")
    ring = use_keys(monkeypatch, root / "data", "captures", "raw", seal="captures,raw")
    record_market(settings_of(root).lake_path, 400)
    seal_recordings(root, ring)
    sealed = published(root, store, again=True)
    assert plain[:2] == sealed[:2]
    assert {name: True for name in plain[2]} == {
        name: rows.equals(sealed[2][name]) for name, rows in plain[2].items()
    }
    assert 10 < len(plain[1])
    assert all(path.name.endswith(SUFFIX) for path in raw_files(root))
    assert len(raw_files(tmp_path / "plain")) == len(raw_files(root)) > 6
    downloads = len(store.downloads)
    assert sealed[1] == published(root, store, again=True)[1]
    assert downloads == len(store.downloads)  # what lies sealed is not fetched again
    key = ring.active("raw").id
    ring.destroy(key)
    ring.new("raw")
    _, _, rows = published(root, store, again=True)
    failures = rows["quality.validation_report"].select("symbol", "failure").rows()
    assert ["BTC-USDT", "ETH-USDT"] == [symbol for symbol, _ in failures]
    assert all(f"{key}: it was destroyed" in text for _, text in failures)
    assert all(SUFFIX in text for _, text in failures)
