"""The macros that put the funding and the open interest in force beside trades and bars."""

from __future__ import annotations

from contextlib import closing
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from market_pipeline import connect
from market_pipeline.books.tables import BOOK_TRADES
from market_pipeline.macros import MACROS
from market_pipeline.metrics.contract_states import BOOK_FUNDING, BOOK_OPEN_INTEREST
from market_pipeline.metrics.tables import BARS
from market_pipeline.quality.intervals import day_bounds_ns
from market_pipeline.tables import refresh_catalogue
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.staging import StagedWriter
from market_pipeline_tests.catalogues import drawn_catalogue

DAY = date(2024, 8, 8)
DAYS = [DAY + timedelta(days=n) for n in (-2, -1, 0)]
ID, OTHER = "BINANCE_FUTURES:BTC-USDT-PERP", "BINANCE:BTC-USDT"
HOUR_NS = 3_600 * 10**9


def start_ns(day):
    """Midnight."""
    return day_bounds_ns(day)[0]


def put(warehouse, table, instrument, day, **columns):
    """Publishes rows with these columns, the others null."""
    exchange, symbol = instrument.split(":")
    rows = pl.DataFrame(columns).with_columns(
        exchange=pl.lit(exchange), symbol=pl.lit(symbol), dt=pl.lit(day)
    )
    empty = pl.from_arrow(table.arrow_schema.empty_table())
    whole = (
        pl.concat((empty, rows), how="diagonal_relaxed").select(empty.columns).cast(empty.schema)
    )
    with StagedWriter(warehouse, table, instrument) as writer:
        writer.write(whole.to_arrow())
    publish(warehouse, table, day, [writer.staged])


def put_funding(warehouse, instrument, day, times_ns, rates):
    """Publishes funding in file order of these rates."""
    order = np.argsort(times_ns, kind="stable")
    times = np.array(times_ns, np.int64)[order]
    columns = {"ts_receipt_ns": times, "row": order, "rate": np.array(rates, float)[order]}
    put(warehouse, BOOK_FUNDING, instrument, day, **columns)


def asked(warehouse, query):
    """What the catalogue says."""
    refresh_catalogue(drawn_catalogue(warehouse.data_dir))
    with closing(connect(warehouse.data_dir)) as connection:
        return connection.sql(query).pl()


def test_trades_by_hand(warehouse):
    """What was received before the trade and not with it; the later row of one time; the day
    before over midnight, but no day before that; null where there is nothing, and of spot.
    """
    start = start_ns(DAY)
    put_funding(warehouse, ID, DAYS[0], [start_ns(DAYS[0]) + 5], [9.0])
    put_funding(warehouse, ID, DAYS[1], [start - 7], [1.0])
    put_funding(warehouse, ID, DAY, [start + 100, start + 100, start + 200], [2.0, 3.0, 4.0])
    put(
        warehouse,
        BOOK_OPEN_INTEREST,
        ID,
        DAY,
        ts_receipt_ns=[start + 150],
        row=[0],
        open_interest=[8.0],
    )
    times = [start, start + 100, start + 101, start + 200, start + 201]
    for instrument in (ID, OTHER):
        put(
            warehouse, BOOK_TRADES, instrument, DAY, ts_receipt_ns=times, id=range(5), flags=[0] * 5
        )
    found = asked(warehouse, f"FROM trades_with_contract(['{ID}', '{OTHER}'], '{DAY}')")

    names = ("id", "funding_rate", "funding_age_ns", "open_interest", "open_interest_age_ns")
    own = found.filter(symbol="BTC-USDT-PERP").sort("id").select(names).rows()
    assert [
        (0, 1.0, 7, None, None),
        (1, 1.0, 107, None, None),
        (2, 3.0, 1, None, None),
        (3, 3.0, 100, 8.0, 50),
        (4, 4.0, 1, 8.0, 51),
    ] == own
    spot = found.filter(symbol="BTC-USDT").select("funding_rate", "open_interest")
    assert [(None, None)] * 5 == spot.rows()


def test_a_day_of_before_yesterday_is_not_asked(warehouse):
    """A rate that nobody renewed for a day is not in force any more."""
    put_funding(warehouse, ID, DAYS[0], [start_ns(DAYS[0]) + 5], [9.0])
    put(warehouse, BOOK_TRADES, ID, DAY, ts_receipt_ns=[start_ns(DAY)], flags=[0])

    assert [None] == asked(warehouse, f"FROM trades_with_contract('{ID}', '{DAY}')")[
        "funding_rate"
    ].to_list()


def test_bars_by_hand(warehouse):
    """A bar has what was received before its end, and its width chooses the end."""
    start = start_ns(DAY)
    put_funding(warehouse, ID, DAY, [start + HOUR_NS - 1, start + HOUR_NS], [1.0, 2.0])
    midnight = (
        pl.Series([start, start, start + HOUR_NS]).cast(pl.Datetime("ns")).cast(pl.Datetime("us"))
    )
    put(warehouse, BARS, ID, DAY, width_seconds=[60, 3_600, 3_600], bar_start=midnight)
    hours = f"FROM bars_with_contract('{ID}', '{DAY}', width_seconds := 3600) ORDER BY bar_start"

    assert [1.0, 2.0] == asked(warehouse, hours)["funding_rate"].to_list()
    every = asked(warehouse, f"FROM bars_with_contract('{ID}', '{DAY}') WHERE width_seconds = 60")
    assert [None] == every["funding_rate"].to_list()


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_polars(warehouse, seed):
    """Of random times, many of them equal, each trade has what `join_asof` finds before it."""
    random = np.random.default_rng(seed)
    start = start_ns(DAY)
    times = start + np.sort(random.integers(0, 40, 30))
    rates = random.integers(0, 1_000, 30) / 1e6
    put_funding(warehouse, ID, DAY, times, rates)
    traded = start + random.integers(0, 45, 50)
    put(warehouse, BOOK_TRADES, ID, DAY, ts_receipt_ns=traded, id=range(50), flags=[0] * 50)
    found = asked(warehouse, f"FROM trades_with_contract('{ID}', '{DAY}') ORDER BY id")
    last = pl.DataFrame({"at": times, "rate": rates}).unique("at", keep="last", maintain_order=True)
    expected = (
        pl.DataFrame({"at": traded, "id": range(50)})
        .sort("at")
        .join_asof(last.sort("at"), on="at", strategy="backward", allow_exact_matches=False)
        .sort("id")
    )

    assert expected["rate"].to_list() == found["funding_rate"].to_list()


@pytest.mark.parametrize("macro", ["trades_with_contract", "bars_with_contract"])
def test_no_row_is_compared_with_all(warehouse, macro):
    """What is in force is found by sorting, though DuckDB takes the rows for a few."""
    for table in (BOOK_TRADES, BARS):
        put(warehouse, table, ID, DAY, **{table.columns[3].name: [None]})
    put_funding(warehouse, ID, DAY, [start_ns(DAY)], [1.0])
    plan = asked(warehouse, f"EXPLAIN FROM {macro}('{ID}', '{DAY}')").item(0, 1)

    assert (2, 0) == (plan.count("ASOF_JOIN"), plan.count("NESTED_LOOP_JOIN"))


def test_parameters_are_those_of_the_loaders():
    """Whoever knows a loader knows the macro that has more columns."""
    parameters = {macro.name: macro.parameters for macro in MACROS}

    assert parameters["load_trades"] == parameters["trades_with_contract"]
    assert parameters["load_bars"] == parameters["bars_with_contract"]
