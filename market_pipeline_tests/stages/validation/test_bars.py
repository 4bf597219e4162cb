from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from market_pipeline.sources.crypto_lake import TRADES, day_folder
from market_pipeline.stages.validation.bars import measure_bars
from market_pipeline_tests.sources.raw_files import shard
from market_pipeline_tests.stages.days import BTC, DAY, MESSAGES, START_NS, trade_rows, write_day

MINUTE_NS = 60 * 10**9


def write_busy_day(lake: Path, *, amounts: dict[int, float], prices: dict[int, float]) -> None:
    """Six times the trades of `trade_rows`, within the same minutes, with some of them changed."""
    rows = pa.concat_tables([trade_rows()] * 6).sort_by("timestamp")
    amount, price = rows["amount"].to_pylist(), rows["price"].to_pylist()
    for row, each in amounts.items():
        amount[row] = each
    for row, each in prices.items():
        price[row] = each
    for name, values in (("amount", amount), ("price", price)):
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values))
    shard(day_folder(lake, TRADES, BTC.venue, BTC.symbol, DAY), 1, rows)


def test_a_good_day(lake: Path, rebuilt):
    """Every minute has a bar, and none a fault."""
    write_day(lake, BTC)
    measured = measure_bars(rebuilt().day_of(BTC))

    assert {
        "bars": MESSAGES // 2,
        "bar_violations": 0,
        "missing_bars": 0,
        "first_bar_violation_ns": None,
    } == measured.columns
    assert [] == measured.findings


def test_each_bar_once_and_the_worst_named(lake: Path, rebuilt):
    """The first and the worst bar stand first, each with its minute, value and bound."""
    write_day(lake, BTC)
    write_busy_day(lake, amounts={12 * 100: 500.0, 12 * 300: 5_000.0, 12 * 200: 600.0}, prices={})
    measured = measure_bars(rebuilt().day_of(BTC))

    assert [("first", 100), ("worst", 300), ("further", 200)] == [
        (finding.place, ((finding.ts_receipt_ns or 0) - START_NS) // MINUTE_NS)
        for finding in measured.findings
    ]
    assert (3, START_NS + 100 * MINUTE_NS) == (
        measured.columns["bar_violations"],
        measured.columns["first_bar_violation_ns"],
    )
    first = measured.findings[0]
    assert ("volume", "505.5", "at most 20 x 6", MINUTE_NS) == (
        first.column,
        first.value,
        first.expected,
        (first.end_ns or 0) - (first.ts_receipt_ns or 0),
    )


def test_the_thresholds_of_the_instrument(lake: Path, rebuilt):
    """A volume that is allowed for an instrument is none of its violations."""
    write_day(lake, BTC)
    write_busy_day(lake, amounts={12 * 100: 500.0}, prices={})
    thresholds = BTC.thresholds.model_copy(update={"bar_volume_factor": 100.0})
    day = rebuilt()
    patient = BTC.model_copy(update={"thresholds": thresholds})

    assert [1, 0] == [
        measure_bars(day.day_of(each)).columns["bar_violations"] for each in (BTC, patient)
    ]


def test_without_trades(lake: Path, rebuilt):
    """Without a trades file there is no figure."""
    write_day(lake, BTC, trades=False)
    measured = measure_bars(rebuilt().day_of(BTC))

    assert ({}, []) == (measured.columns, measured.findings)
