"""Two instruments of one day with messages and trades of the same times.

The second has no snapshot and so no valid message, and after noon it has only trades.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from market_pipeline import asof_quotes, events, load_bbo, load_trades, replay
from market_pipeline.config.settings import Settings
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, day_folder
from market_pipeline.sources.simulated import SimulatedInstrument, simulate
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan
from market_pipeline_tests.notebook.conftest import QUIET
from market_pipeline_tests.published_day import MINUTES, publish_day

pytestmark = pytest.mark.slow
NOON_NS = 1_741_176_000 * 10**9
SPAN = ("2025-03-05T00:00:00Z", "2025-03-06T00:00:00Z")


@dataclass(frozen=True)
class Two:
    """What is published of both."""

    data_dir: Path
    seeded: str
    unseeded: str

    def rows(self, asset: str, instrument: str) -> pl.DataFrame:
        """The published rows of one of them."""
        return scan(Warehouse(self.data_dir), TABLES[asset], QUIET, {instrument}).collect()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Two:
    root = tmp_path_factory.mktemp("two")
    made = [
        SimulatedInstrument(
            symbol=symbol,
            tick=Decimal("0.1"),
            lot=Decimal("0.001"),
            start_price=Decimal(price),
            seed=7,
        )
        for symbol, price in (("BTC-USDT-PERP", "60000.0"), ("ETH-USDT-PERP", "3000.0"))
    ]
    lake = root / "data" / "lake"
    simulate(lake, made, QUIET, QUIET, messages_per_day=400)
    seeded, unseeded = (each.as_instrument() for each in made)
    shutil.rmtree(day_folder(lake, SNAPSHOTS, unseeded.venue, unseeded.symbol, QUIET))
    for table in (DELTAS, TRADES):
        of = [
            day_folder(lake, table, each.venue, each.symbol, QUIET) for each in (seeded, unseeded)
        ]
        shutil.copytree(*of, dirs_exist_ok=True)
        if table is DELTAS:
            (shard,) = of[1].glob("*.parquet")
            pl.read_parquet(shard).filter(pl.col("receipt_timestamp") < NOON_NS).write_parquet(
                shard
            )
    with pytest.MonkeyPatch.context() as changed:
        changed.chdir(root)
        settings = Settings(data_dir=root / "data", lake_uri=str(lake), **MINUTES)
        publish_day(settings, (seeded, unseeded), QUIET)
    return Two(root / "data", seeded.id, unseeded.id)


def test_loaders_give_instruments_as_they_are_given(two: Two):
    """The rows of each follow one another in the order of the list, whatever the files' is."""
    ids = [two.unseeded, two.seeded]
    for load, asset in ((load_bbo, "book_bbo"), (load_trades, "trades")):
        rows = load(ids, QUIET, valid_only=False, data_dir=two.data_dir).collect()
        assert pl.concat(two.rows(asset, each) for each in ids).equals(rows)


def test_quotes_of_both(two: Two):
    """Each has all times; the one without a valid message has no quote."""
    valid = load_bbo(two.seeded, QUIET, data_dir=two.data_dir).collect()
    at = valid["ts_receipt_ns"][[100, 200]].to_list()
    quotes = asof_quotes([two.unseeded, two.seeded], at, data_dir=two.data_dir).collect()
    assert ["ETH-USDT-PERP"] * 2 + ["BTC-USDT-PERP"] * 2 == quotes["symbol"].to_list()
    assert [False, False, True, True] == quotes["bid_price"].is_not_null().to_list()


@pytest.mark.parametrize("depth", [0, 2])
def test_replay_and_events_are_in_order_of_time(two: Two, depth: int):
    """Both come by the receipt clock, of equal times as the instruments are given, each once."""
    ids = [two.unseeded, two.seeded]
    messages = [
        (message.clock_ns, ids.index(message.instrument))
        for message in replay([*ids, ids[0]], *SPAN, depth=depth, data_dir=two.data_dir)
    ]
    clocks = [clock_ns for clock_ns, _ in messages]
    assert sum(two.rows("book_bbo", each).height for each in ids) == len(messages)
    assert len({*clocks}) < len(clocks)
    assert sorted(messages) == messages

    both = pl.DataFrame(events([*ids, ids[0]], *SPAN, data_dir=two.data_dir).read_all())
    symbols = [each.partition(":")[2] for each in ids]
    for each, symbol in zip(ids, symbols, strict=True):
        alone = pl.DataFrame(events(each, *SPAN, data_dir=two.data_dir).read_all())
        assert_frame_equal(alone, both.filter(symbol=symbol), categorical_as_str=True)
    of_messages = both.filter(pl.col("message").is_not_null(), pl.col("kind") == "delta")
    seen = of_messages.select(
        "ts_receipt_ns", place=pl.col("symbol").replace_strict(symbols, [0, 1])
    )
    assert seen.sort("ts_receipt_ns", "place", maintain_order=True).equals(seen)


@pytest.mark.parametrize("depth", [1, 2])
def test_messages_of_a_day_without_a_valid_one(two: Two, depth: int):
    """Replay and events have every message of it, also beside those of another instrument."""
    published = two.rows("book_bbo", two.unseeded)["sequence_number"].to_list()
    assert 0 == load_bbo(two.unseeded, QUIET, data_dir=two.data_dir).collect().height
    found = [
        message.sequence_number
        for message in replay([two.seeded, two.unseeded], *SPAN, depth=depth, data_dir=two.data_dir)
        if message.instrument == two.unseeded
    ]
    assert published == found
    batches = events(two.unseeded, *SPAN, data_dir=two.data_dir)
    frames = pl.concat(pl.DataFrame(batch) for batch in batches)
    assert set(published) <= set(frames["sequence_number"].drop_nulls())


def test_trades_behind_the_last_message(two: Two):
    """A span that begins behind a day's last message has the trades that were received in it."""
    from_ns = NOON_NS + 3_600 * 10**9
    later = two.rows("trades", two.unseeded).filter(pl.col("ts_receipt_ns") >= from_ns)
    told = pl.DataFrame(events(two.unseeded, from_ns, SPAN[1], data_dir=two.data_dir).read_all())
    assert later.height > 50
    assert later.select("id", "flags").rows() == told.select("trade_id", "book_flags").rows()
    assert {("trade", 128 | 4)} == {*told.select("kind", "flags").rows()}
    for depth in (1, 2):
        found = replay(two.unseeded, from_ns, SPAN[1], depth=depth, data_dir=two.data_dir)
        assert [] == list(found)
