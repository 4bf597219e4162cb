"""Counts and volumes of trades by interval of receipt, against a naive twin."""

from __future__ import annotations

import itertools

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.metrics.columns import TRADE_COLUMNS
from market_pipeline.metrics.traded import traded_columns
from market_pipeline_tests.metrics.rows import a_trades, at, batches_of, frames_of, grids
from market_pipeline_tests.naive.metrics import naive_traded


def traded_of(batches, edges):
    """The rows of one grid."""
    (frame,) = frames_of(traded_columns(batches, [edges]))
    return frame


NAMES = [column.name for column in TRADE_COLUMNS]


def test_an_order_of_several_trades():
    """It counts once, where its first trade was received; volumes are by the taker's side."""
    trades = a_trades((59, 0.5, True, 0), (61, 2.0, True, 0), (62, 0.25, False), (-1, 9, True))
    rows = traded_of([trades], grids(60)[0]).rows()

    assert [(1, 1, 1, 0.5, 0.0), (2, 1, 1, 2.0, 0.25), (0, 0, 0, 0.0, 0.0)] == rows[:3]
    assert (3, 2.75) == (
        sum(row[0] for row in rows),
        sum(row[3] + row[4] for row in rows),
    )


def test_prints_outside_the_market():
    """They are no trades; of what is not known to be outside it is."""
    trades = a_trades((1, 0.5, True), (2, 2.0, True), (3, 4.0, False)).with_columns(
        is_market=pl.Series([True, False, None])
    )

    assert [(2, 1, 2, 0.5, 4.0)] == traded_of([trades], grids(600)[0]).rows()


def test_no_trade():
    """A file without a trade is none of any: 0 and not null."""
    assert [(0, 0, 0, 0.0, 0.0)] == traded_of([a_trades()], grids(600)[0]).rows()


@given(
    trades=st.lists(
        st.tuples(st.floats(-5, 700), st.floats(0.001, 9), st.booleans(), st.integers(0, 9)),
        max_size=20,
    ),
    cuts=st.lists(st.integers(0, 20), max_size=5),
    width=st.sampled_from([30, 60, 600]),
)
def test_agrees_with_the_naive_twin(trades, cuts, width):
    """Every figure of every interval, whatever the order and the cut; a whole to the last bit."""
    frame, (edges,) = a_trades(*trades), grids(width)
    made = traded_of(batches_of(frame, cuts), edges)

    assert made.equals(traded_of([frame], edges))
    rows = [
        (at(s), number, order, size, buy) for number, (s, size, buy, order) in enumerate(trades)
    ]
    for row, (begin, end) in zip(made.to_dicts(), itertools.pairwise(edges.tolist()), strict=True):
        expected = naive_traded(rows, begin, end)
        assert NAMES == list(expected)
        assert {name: pytest.approx(float(value)) for name, value in expected.items()} == row
