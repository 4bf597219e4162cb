from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.bars import check_bars
from market_pipeline.quality.checks.trade_through import check_trade_through
from market_pipeline.quality.intervals import day_bounds_ns
from market_pipeline.sources.crypto_lake import TRADES, day_folder
from market_pipeline.sources.simulated import Fault, FaultKind, simulate
from market_pipeline.stages.validation.bars import measure_bars
from market_pipeline.stages.validation.trade_through import measure_trade_through
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.quality.factory import a_row
from market_pipeline_tests.sources.raw_files import shard
from market_pipeline_tests.sources.simulated import days as simulated
from market_pipeline_tests.stages.days import (
    BTC,
    DAY,
    ETH,
    EVERY_NS,
    MESSAGES,
    START_NS,
    trade_rows,
    write_day,
)
from market_pipeline_tests.stages.validation.replay_days import published

FIRST_SHARD = 1_000


def write_trades(lake: Path, of, prices: dict[int, float]):
    """The trades of `trade_rows` at other prices, in two shards."""
    rows = trade_rows()
    price = rows["price"].to_numpy().copy()
    for row, each in prices.items():
        price[row] = each
    rows = rows.set_column(rows.schema.get_field_index("price"), "price", pa.array(price))
    folder = day_folder(lake, TRADES, of.venue, of.symbol, DAY)
    shard(folder, 1, rows.slice(0, FIRST_SHARD))
    shard(folder, 2, rows.slice(FIRST_SHARD))


def test_a_good_day(lake: Path, rebuilt):
    """Trades at the touch are compared from the seed to the last message, and none is outside."""
    write_day(lake, BTC)
    measured = measure_trade_through(rebuilt().day_of(BTC))

    assert (MESSAGES - 2, 0, None, None, (0,) * 24, None) == tuple(
        measured.columns[name]
        for name in (
            "trades_compared",
            "trades_through",
            "worst_trade_through_ticks",
            "first_trade_through_ns",
            "trade_through_per_hour",
            "worst_trade_through_minute_share",
        )
    )
    assert [] == measured.findings


def test_each_is_found_in_its_file(lake: Path, rebuilt):
    """The first, the worst and the others are named with file, row, price and bounds."""
    write_day(lake, BTC)
    write_trades(lake, BTC, {10: 101.0, 1_500: 90.0, 2_001: 101.5})
    measured = measure_trade_through(rebuilt().day_of(BTC))
    found = [(f.place, f.row, f.value, Path(f.file or "").name) for f in measured.findings]
    first = measured.findings[0]

    assert [
        ("first", 10, "buy at 101.0", "1.snappy.parquet"),
        ("worst", 500, "buy at 90.0", "2.snappy.parquet"),
        ("further", 1_001, "sell at 101.5", "2.snappy.parquet"),
    ] == found
    assert (3, START_NS + 10 * EVERY_NS + 1_003_000_000) == (
        measured.columns["trades_through"],
        measured.columns["first_trade_through_ns"],
    )
    assert first.file is not None and first.file.startswith("trades/exchange=BINANCE/")
    assert first.expected is not None and "the lowest bid" in first.expected
    assert measured.columns["worst_trade_through_ticks"] == pytest.approx(100.0, abs=5)


def test_only_one_instruments_books(lake: Path, rebuilt):
    """The trades of one instrument are held against its own book."""
    for each in (BTC, ETH):
        write_day(lake, each)
    write_trades(lake, ETH, {7: 50.0})
    day = rebuilt().day_of(ETH)

    assert (1, [7]) == (
        measure_trade_through(day).columns["trades_through"],
        [finding.row for finding in measure_trade_through(day).findings],
    )


def test_without_trades(lake: Path, rebuilt):
    """Without a trades file there is no figure."""
    write_day(lake, BTC, trades=False)
    measured = measure_trade_through(rebuilt().day_of(BTC))

    assert ({}, []) == (measured.columns, measured.findings)


MINUTE_NS = 60 * 10**9
MARKET = simulated.instrument()
SILENT = [("trade_through", True), ("bars", True)]
PLANTED = {
    None: SILENT,
    FaultKind.TRADES_OFF: [("trade_through", False), ("bars", True)],
    FaultKind.VOLUME_SPIKE: [("trade_through", True), ("bars", False)],
    FaultKind.SILENCE_GAP: SILENT,
    FaultKind.CLOCK_SKEW: SILENT,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLANTED, ids=str)
def test_on_the_simulated_venue(folder: Path, lake: Path, warehouse: Warehouse, kind):
    """A day without fault passes both checks, and so do faults of others; their own is placed."""
    skew = {"offset_ms": -1_200.0, "drift_ppm": -60.0} if kind is FaultKind.CLOCK_SKEW else {}
    planted = {"symbol": MARKET.symbol, "day": simulated.DAY, "at_s": 36_000, "duration_s": 180}
    faults = [] if kind is None else [Fault(kind=kind, **planted, **skew)]
    simulate(lake, [MARKET], simulated.DAY, simulated.DAY, faults=faults)
    day = published(folder, lake, warehouse, MARKET.as_instrument(), simulated.DAY)
    both = (measure_trade_through(day), measure_bars(day))
    row = a_row(**both[0].columns, **both[1].columns)
    said = (check_trade_through(row, Thresholds()), check_bars(row, Thresholds()))
    start_ns = day_bounds_ns(simulated.DAY)[0] + 36_000 * 10**9
    places = [finding for measured in both for finding in measured.findings]

    assert PLANTED[kind] == [(each.check.name, each.passed) for each in said]
    assert row.trades_compared > 20_000
    assert (1_440, 0) == (row.bars, row.missing_bars)
    assert all(
        start_ns - MINUTE_NS < place.ts_receipt_ns < start_ns + 4 * MINUTE_NS for place in places
    )
    if kind in (None, FaultKind.VOLUME_SPIKE):
        assert (0, len(places)) == (row.trades_through, row.bar_violations)
