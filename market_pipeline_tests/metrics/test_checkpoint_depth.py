"""Depth of whole books by distance, against a naive twin in exact fractions."""

from __future__ import annotations

import itertools
from fractions import Fraction

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.tables import CHECKPOINTS
from market_pipeline.metrics.checkpoint_depth import CHECKPOINT_BPS, CHECKPOINT_DEPTH
from market_pipeline.warehouse.tables import Table

BIDS, ASKS = [(9_999, 1_000), (9_990, 2_000)], [(10_001, 4_000), (10_020, 8_000)]


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as opened:
        opened.execute("CREATE SCHEMA books")
        yield opened


def depth_of(connection, *books):
    """The view of checkpoints of (bids, asks, lowest and highest confirmed price, flags)."""
    rows = [
        {
            **dict.fromkeys(CHECKPOINTS.empty().schema),
            **{"messages": number, "flags": int(flags), "tick": "0.1", "lot": "0.001"},
            **{"bid_horizon_ticks": low, "ask_horizon_ticks": high},
            **{
                f"{side}_{part}": [level[at] for level in levels]
                for side, levels in (("bid", bids), ("ask", asks))
                for at, part in enumerate(("price_ticks", "size_lots"))
            },
        }
        for number, (bids, asks, low, high, flags) in enumerate(books)
    ]
    checkpoints = CHECKPOINTS.frame(rows)
    assert checkpoints.height == len(books)
    connection.execute("CREATE OR REPLACE TABLE books.checkpoints AS FROM checkpoints")
    return connection.sql(CHECKPOINT_DEPTH.query).order("messages").pl()


def test_within_a_distance(connection):
    """Mid 10,000: bids at 9,999 and 9,990 are 1 and 10 bps away; the edge is included."""
    (row,) = depth_of(connection, (BIDS, ASKS, 9_950, 10_020, 0)).to_dicts()

    assert (1_000.0, 50.0, 20.0) == tuple(
        row[name] for name in ("mid", "bid_confirmed_bps", "ask_confirmed_bps")
    )
    assert [1.0, 4.0, 3.0, 4.0, 3.0, None, 3.0, None, None, None] == [
        row[f"{side}_depth_{bps}bps"] for bps in CHECKPOINT_BPS for side in ("bid", "ask")
    ]


def test_books_that_are_not_known(connection):
    """An invalid book and a one-sided one have no row; before a snapshot nothing is confirmed."""
    found = depth_of(
        connection,
        (BIDS, ASKS, 9_000, 11_000, BookFlag.GAP),
        ([], ASKS, 9_000, 11_000, BookFlag.EMPTY_SIDE),
        (BIDS, ASKS, None, None, 0),
    )

    assert [2] == found["messages"].to_list()
    names = [n for n in found.columns if n.endswith("bps")]
    assert {None} == set(found.select(names).row(0))


def test_columns_and_types(connection):
    """They are those declared."""
    declared = Table("a", "b", "c", CHECKPOINT_DEPTH.columns, "duckdb").empty().schema
    assert declared == depth_of(connection).schema


@st.composite
def books(draw):
    """Both sides around 10,000, and how far they are confirmed."""
    sides = []
    for sign in (-1, 1):
        away = itertools.accumulate(draw(st.lists(st.integers(1, 40), min_size=1, max_size=9)))
        sides.append([(10_000 + sign * ticks, draw(st.integers(1, 9))) for ticks in away])
    return (*sides, 10_000 - draw(st.integers(0, 150)), 10_000 + draw(st.integers(0, 150)), 0)


@settings(max_examples=25, deadline=None)
@given(of=books())
def test_agrees_with_the_naive_twin(connection, of):
    """Every sum equals the exact one."""
    bids, asks, *horizons, _ = of
    mid = Fraction(bids[0][0] + asks[0][0], 2)
    (row,) = depth_of(connection, of).to_dicts()
    for side, levels, sign, horizon in zip(
        ("bid", "ask"), (bids, asks), (-1, 1), horizons, strict=True
    ):
        known = sign * (horizon / mid - 1) * 10_000
        assert pytest.approx(float(known)) == row[f"{side}_confirmed_bps"]
        for bps in CHECKPOINT_BPS:
            size = sum(lots for price, lots in levels if abs(price / mid - 1) * 10_000 <= bps)
            expected = pytest.approx(size / 1_000) if known >= bps else None
            assert expected == row[f"{side}_depth_{bps}bps"]
