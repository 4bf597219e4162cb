"""Replay of a day whose book is crossed again and again, by each policy for that.

Of a simulated day every eighth block of 25 messages is lost, and of sixty snapshots one is left: so
levels that the market has left stand across the touch until messages or a snapshot remove them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from market_pipeline import connect, replay
from market_pipeline.config.instruments import Instrument, Policies
from market_pipeline.config.settings import Settings
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, day_folder
from market_pipeline.sources.simulated import SimulatedInstrument, simulate
from market_pipeline.tables import TABLES, refresh_catalogue
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan
from market_pipeline_tests.catalogues import drawn_catalogue
from market_pipeline_tests.notebook.test_replay import touch
from market_pipeline_tests.published_day import publish_verdicts

pytestmark = pytest.mark.slow
DAY = date(2025, 3, 3)
SPAN = "2025-03-03T00:00:00Z", "2025-03-04T00:00:00Z"
POLICIES = {
    "FLAG": Policies(crossed="flag"),
    "RESYNC": Policies(crossed="resync", crossed_resync_seconds=0.0),
    "UNCROSS": Policies(crossed="uncross"),
    "NEVER": Policies(crossed="uncross", resync="never"),
}
"""By symbol; all symbols have the same raw rows."""


@dataclass(frozen=True)
class Lossy:
    """Where the day is published, and what was counted of it by symbol."""

    data_dir: Path
    counted: dict[str, dict[str, int]]


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> Lossy:
    root = tmp_path_factory.mktemp("crossed")
    market = SimulatedInstrument(
        symbol="MARKET",
        tick=Decimal("0.1"),
        lot=Decimal("0.001"),
        start_price=Decimal("60000.0"),
        seed=11,
    )
    simulate(root / "whole", [market], DAY, DAY, messages_per_day=6_000)
    _lose(root)
    instruments = [
        Instrument(
            venue="LOSSY",
            symbol=symbol,
            source="crypto_lake",
            tick=market.tick,
            lot=market.lot,
            policies=policies,
        )
        for symbol, policies in POLICIES.items()
    ]
    settings = Settings(
        data_dir=root / "data",
        lake_uri=str(root / "lake"),
        checkpoint_seconds=14_400,
        reference_minutes=0,
    )
    drawn_catalogue(settings.data_dir)
    with pytest.MonkeyPatch.context() as changed:
        changed.chdir(root)
        publish_verdicts(settings, instruments, DAY)
    refresh_catalogue(Warehouse(settings.data_dir))
    with connect(settings.data_dir) as connection:
        rows = connection.sql("SELECT * FROM books.rebuilds").pl().to_dicts()
    return Lossy(settings.data_dir, {row["symbol"]: row for row in rows})


def _lose(root: Path) -> None:
    """Writes the lossy day, once for each policy."""
    message = pl.struct("sequence_number", "receipt_timestamp").rle_id()
    for table in (DELTAS, SNAPSHOTS, TRADES):
        whole = day_folder(root / "whole", table, "SIMULATED", "MARKET", DAY)
        rows = pl.read_parquet(whole / "1.snappy.parquet")
        if table is DELTAS:
            rows = rows.filter(message // 25 % 8 != 7)
        if table is SNAPSHOTS:
            rows = rows.gather_every(60)
        for symbol in POLICIES:
            folder = day_folder(root / "lake", table, "LOSSY", symbol, DAY)
            folder.mkdir(parents=True)
            rows.write_parquet(folder / "1.snappy.parquet")


@pytest.mark.parametrize("symbol", POLICIES)
def test_every_message_is_the_published_one(
    lossy: Lossy, symbol: str, monkeypatch: pytest.MonkeyPatch
):
    """Whatever the policy did to the book, a replay has the touch and the flags of each row."""
    monkeypatch.setenv("PIPELINE_LAKE_URI", str(lossy.data_dir.parent / "lake"))
    id_ = f"LOSSY:{symbol}"
    columns = [
        *("ts_receipt_ns", "sequence_number", "bid_price_ticks", "bid_size_lots"),
        *("ask_price_ticks", "ask_size_lots", "flags"),
    ]
    rows = scan(Warehouse(lossy.data_dir), TABLES["book_bbo"], DAY, {id_}).select(columns)
    published = rows.collect()
    assert published.height > 5_000
    assert published.rows() == [
        touch(each) for each in replay(id_, *SPAN, depth=2, data_dir=lossy.data_dir)
    ]


def test_each_policy_does_something(lossy: Lossy):
    """Uncrossing leaves no book crossed, and removes levels; snapshots replace it unless never."""
    found = {
        name: {symbol for symbol, row in lossy.counted.items() if row[name]}
        for name in ("crossed_messages", "uncrossed_levels", "resyncs")
    }
    assert {
        "crossed_messages": {"FLAG", "RESYNC"},
        "uncrossed_levels": {"UNCROSS", "NEVER"},
        "resyncs": {"FLAG", "RESYNC", "UNCROSS"},
    } == found
