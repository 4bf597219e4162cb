"""Figures of the flow against a naive twin, by hand, at their edges, and on real days."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.scale import Scale
from market_pipeline.books.tables import BOOK_TRADES
from market_pipeline.metrics.books_around import books_around
from market_pipeline.metrics.columns import FLOW_COLUMNS, TOUCH_DISTANCES
from market_pipeline.metrics.flow import FLOW_INPUT, flow_columns
from market_pipeline.metrics.trades import trade_rows
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline.warehouse.tables import Table
from market_pipeline_tests.metrics.rows import frames_of
from market_pipeline_tests.metrics.test_trades import DAY, INSTRUMENT
from market_pipeline_tests.naive.flow import naive_flow
from market_pipeline_tests.quality.sample import SAMPLE_DAYS, sample_books

SECOND = 10**9
SCHEMA = {name: kind for name, kind in BOOK_TRADES.empty().schema.items() if name in FLOW_INPUT}
COUNTS = [column.name for column in FLOW_COLUMNS if column.type == "BIGINT"]


def a_print(at_ns, order=1, *, ticks=1_004, is_buy=True, lots=2, touch=(1_000, 1_004), **more):
    """A row of `books.trades` on tick 0.5 and lot 0.1, in a valid book that never moves again."""
    bid, ask = touch
    row = {"ts_receipt_ns": at_ns, "taker_order": order, "price": ticks * 0.5, "size": lots / 10}
    row |= {"is_buy": is_buy, "is_market": None, "flags": 0, "valid_run": 1, "price_ticks": ticks}
    row |= {"bid_price_ticks": bid, "ask_price_ticks": ask}
    if None not in touch:
        cost = (2 * ticks - bid - ask) * (1 if is_buy else -1)
        row["effective_spread_ticks"] = cost
        for seconds in (1, 5, 60):
            row |= {f"realised_spread_{seconds}s_ticks": cost, f"price_impact_{seconds}s_ticks": 0}
    return row | more


def frame_of(rows):
    return pl.DataFrame(rows, schema=SCHEMA)


def flow_of(batches, edges_ns):
    """The figures of the intervals of one grid."""
    (frame,) = frames_of(flow_columns(batches, [edges_ns]))
    return frame


def figures(rows, edges_ns=(0, 60 * SECOND)):
    """The figures of the first interval."""
    return flow_of([frame_of(rows)], np.array(edges_ns)).to_dicts()[0]


class TestByHand:
    def test_spreads(self):
        """A buy of 2 at the ask and a sell of 6 a tick above the bid: 4 and 2 ticks of 1,002."""
        sell = a_print(2, 2, ticks=1_001, is_buy=False, lots=6)
        sell |= {"realised_spread_5s_ticks": -1, "price_impact_5s_ticks": 3}
        found = figures([a_print(1), sell])

        assert (4 * 2 + 2 * 6) / 8 / 1_002 * 1e4 == pytest.approx(found["effective_spread_bps"])
        assert 3 / 1_002 * 1e4 == pytest.approx(found["effective_spread_equal_bps"])
        assert (4 * 2 - 6) / 8 / 1_002 * 1e4 == pytest.approx(found["realised_spread_5s_bps"])
        assert 3 * 6 / 8 / 1_002 * 1e4 == pytest.approx(found["price_impact_5s_bps"])

    def test_distances(self):
        """Buys one tick below the ask, at it, and up to 4 above; a sell a tick below the bid."""
        rows = [a_print(1, ticks=ticks) for ticks in (1_003, 1_004, 1_004, 1_005, 1_006, 1_008)]
        rows += [a_print(1, ticks=999, is_buy=False)]
        rows += [a_print(1, price_ticks=None, effective_spread_ticks=None)]
        rows += [a_print(1, touch=(1_000, None)), a_print(1, flags=int(BookFlag.CROSSED))]
        found = figures(rows)

        assert [1, 2, 2, 1, 1, 3] == [
            found[f"{name}_count"]
            for name in (
                *("inside_spread", "at_touch", "through_1_tick", "through_2_ticks"),
                *("through_3_ticks", "no_touch"),
            )
        ]
        assert (7, 1) == (found["effective_spread_count"], found["sign_count"])

    def test_kyle_and_amihud(self):
        """Ten windows of a buy of 502 that moves the mid by 2 ticks, each with a sell of 251."""
        rows = []
        for at in range(10):
            rows.append(a_print(2 * at * SECOND, 2 * at, lots=10, price_impact_1s_ticks=4))
            rows.append(a_print((2 * at + 1) * SECOND - 1, 2 * at + 1, is_buy=False, lots=5))
        found = figures(rows)
        moved_bps = 2 / 1_002 * 1e4

        assert 10 == found["impact_window_count"]
        assert moved_bps / 251e-6 == pytest.approx(found["kyle_lambda_bps_per_million"])
        assert moved_bps / 753e-6 == pytest.approx(found["amihud_bps_per_million"])
        few = figures(rows[:18])
        names = ("impact_window_count", "kyle_lambda_bps_per_million", "amihud_bps_per_million")
        assert (9, None, None) == tuple(few[name] for name in names)

    def test_a_sell_that_moves_the_mid_its_way_has_a_positive_lambda(self):
        """Net value and return are both negative then."""
        rows = [
            a_print(at * SECOND, at, ticks=1_000, is_buy=False, price_impact_1s_ticks=4)
            for at in range(10)
        ]
        assert figures(rows)["kyle_lambda_bps_per_million"] > 0

    def test_bounce(self):
        """Buys at the ask and sells at the bid in turn: successive changes of 4 and -4."""
        rows = [
            a_print(at, at, is_buy=at % 2 == 0, ticks=1_004 if at % 2 == 0 else 1_000)
            for at in range(40)
        ]
        found = figures(rows)

        assert 8 == found["roll_spread_ticks"]  # changes of 4, all of them reversed
        assert (-1, 1, -1) == tuple(found[f"sign_autocorrelation_{lag}"] for lag in (1, 2, 5))
        assert 0 == found["sign_mean"]
        assert found["sign_autocorrelation_20"] is None  # 20 pairs

    def test_prints_of_one_order_are_one_sign(self):
        """Each order in three prints has the autocorrelation of whole orders."""
        rows = [a_print(at, at // 3, is_buy=at // 3 % 2 == 0) for at in range(120)]

        assert (40, -1) == tuple(
            figures(rows)[name] for name in ("sign_count", "sign_autocorrelation_1")
        )


class TestEdges:
    def test_no_trade(self):
        """Counts are 0 and figures null, in the declared order and types."""
        found = flow_of([], np.array([0, 5, 9]))

        assert Table("a", "b", "c", FLOW_COLUMNS, "duckdb").empty().schema == found.schema
        assert (2, [0] * len(COUNTS)) == (found.height, list(found.select(COUNTS).row(1)))
        assert {None} == set(found.drop(COUNTS).row(0))
        assert found.equals(flow_of([frame_of([])], np.array([0, 5, 9])))

    def test_borders(self):
        """A trade is of the interval that begins at its time; those outside of all are left out."""
        found = flow_of([frame_of([a_print(at) for at in (4, 5, 9, 10)])], np.array([5, 9, 10]))

        assert [1, 1] == found["at_touch_count"].to_list()

    def test_outside_the_market(self):
        """A print that is none of the market is counted, and changes nothing else."""
        market = [a_print(at, at) for at in range(40)]
        fund = a_print(20, 99, ticks=9_999, lots=10**6, is_market=False)
        found = figures([*market[:20], fund, *market[20:]])

        assert figures(market) | {"outside_market_count": 1} == found

    def test_no_pair_over_invalid_time(self):
        """Pairs of orders whose runs of valid time differ, or that have none, do not count."""
        rows = [a_print(at, at, is_buy=at % 2 == 0) for at in range(31)]
        whole, halves = (
            figures(rows),
            figures([row | {"valid_run": 1 + row["taker_order"] // 16} for row in rows]),
        )

        assert whole["sign_autocorrelation_1"] is not None
        assert halves["sign_autocorrelation_1"] is None
        assert (
            figures([row | {"valid_run": None} for row in rows])["sign_autocorrelation_1"] is None
        )

    def test_an_invalid_book(self):
        """Its prints have no cost, but are prints."""
        found = figures([a_print(1, flags=int(BookFlag.GAP), valid_run=None)])

        assert (1, 0, None) == tuple(
            found[name]
            for name in ("no_touch_count", "effective_spread_count", "effective_spread_bps")
        )

    def test_a_stamp_far_ahead_costs_one_window(self):
        """After it the clock runs back, and windows go on as before."""
        rows = [a_print(at * SECOND, at, price_impact_1s_ticks=1) for at in range(12)]
        rows[5] |= {"ts_receipt_ns": 59 * SECOND}

        assert 12 == figures(rows)["impact_window_count"]


BOOKS = st.tuples(
    st.one_of(st.none(), st.integers(995, 1_000)), st.one_of(st.none(), st.integers(1_001, 1_005))
)
STEPS = st.tuples(
    st.sampled_from([0, 0, 0, SECOND // 3, SECOND, -SECOND // 2, 3 * SECOND]),
    *(st.booleans(), st.integers(996, 1_004), BOOKS),
    st.sampled_from(["same", *["new"] * 4, "crossed", "no book", "fund", "off tick"]),
)
MOVES = st.one_of(st.none(), st.integers(-5, 5))


@st.composite
def many_prints(draw):
    """Prints of few orders, times, prices and sides, in any order of time."""
    rows, order, at_ns, run = [], 0, 0, 1
    for _ in range(draw(st.integers(0, 120))):
        step, is_buy, ticks, touch, what = draw(STEPS)
        at_ns, order, run = at_ns + step, order + (what != "same"), run + (what == "crossed")
        row = a_print(
            at_ns, order, is_buy=is_buy, ticks=ticks, lots=draw(st.integers(1, 9)), touch=touch
        )
        for seconds in (1, 5, 60):
            moved = draw(MOVES)
            cost = row.get("effective_spread_ticks")
            whole = None in (moved, cost)
            row[f"price_impact_{seconds}s_ticks"] = None if whole else moved
            row[f"realised_spread_{seconds}s_ticks"] = None if whole else cost - moved
        row |= {
            "crossed": {"flags": int(BookFlag.CROSSED), "valid_run": None},
            "no book": {"flags": None, "valid_run": None},
            "fund": {"is_market": False},
            "off tick": {"price_ticks": None, "effective_spread_ticks": None},
        }.get(what, {"valid_run": run})
        rows.append(row)
    return rows


@settings(max_examples=30, deadline=None)
@given(
    rows=many_prints(),
    edges=st.lists(st.integers(-10, 400), min_size=2, max_size=5, unique=True),
    cuts=st.lists(st.integers(0, 120), max_size=6),
)
def test_agrees_with_the_naive_twin(rows, edges, cuts):
    """For any prints, intervals and cuts the figures are the twin's, and no cut changes a bit."""
    edges_ns = sorted(edge * SECOND // 3 for edge in edges)
    frame = frame_of(rows)
    at = [0, *sorted(min(cut, frame.height) for cut in cuts), frame.height]
    batches = [frame.slice(a, b - a) for a, b in itertools.pairwise(at)]
    found = flow_of(batches, np.array(edges_ns))

    assert found.equals(flow_of([frame], np.array(edges_ns)))
    for one, expected in zip(found.to_dicts(), naive_flow(rows, edges_ns), strict=True):
        assert set(expected) == set(one)
        for name, value in expected.items():
            close = value is None or pytest.approx(value, rel=1e-9, abs=1e-9) == one[name]
            assert close and (value is None) == (one[name] is None), name


# --- real days --------------------------------------------------------------------------------


@pytest.mark.parametrize("key", SAMPLE_DAYS, ids=lambda key: f"{key[1]} {key[2]}")
def test_a_real_day(key, sample_data):
    """On a real day the figures of half minutes are the twin's, and Polars has the same spreads."""
    folder = "exchange={}/symbol={}/dt={}".format(*key)
    trades = read_trades([sample_data / "lake/trades" / folder / "1.snappy.parquet"], with_ids=True)
    books, (tick, _) = sample_books(*key)
    lot = Scale.of(Decimal("0.00001"))
    parts = trade_rows(
        trades,
        books_around([books], {}, trades.ts_receipt_ns),
        instrument=INSTRUMENT,
        day=DAY,
        tick=tick,
        lot=lot,
    )
    frame = pl.concat(pl.DataFrame(part.rows) for part in parts).select(FLOW_INPUT)
    width_ns = 30 * SECOND
    first_ns = int(frame["ts_receipt_ns"].min())
    edges_ns = np.arange(first_ns, int(frame["ts_receipt_ns"].max()) + width_ns, width_ns)
    found = flow_of([frame], edges_ns)
    expected = pl.DataFrame(
        naive_flow(frame.to_dicts(), edges_ns.tolist()), infer_schema_length=None
    )

    counted = found.select(pl.sum_horizontal(*TOUCH_DISTANCES, "no_touch_count"))
    assert counted.sum().item() == frame.height
    for name in found.columns:
        one, other = (each[name].cast(pl.Float64) for each in (found, expected))
        assert one.is_null().equals(other.is_null())
        assert np.allclose(one.drop_nulls(), other.drop_nulls(), rtol=1e-9, atol=1e-9), name
    interval = (pl.col("ts_receipt_ns") - first_ns) // width_ns
    mid2 = pl.col("bid_price_ticks") + pl.col("ask_price_ticks")
    for name in ("effective_spread", "price_impact_5s"):
        cost_bps = 20_000 * pl.col(f"{name}_ticks") / mid2
        size = pl.col("size").filter(cost_bps.is_not_null())
        mean = (cost_bps * pl.col("size")).sum() / size.sum()
        for at, value in frame.group_by(interval).agg(mean).iter_rows():
            assert math.isnan(value) or value == pytest.approx(found[f"{name}_bps"][at])
    assert found["kyle_lambda_bps_per_million"].null_count() < found.height
    assert found["sign_autocorrelation_1"].drop_nulls().median() > 0
