"""Depth by interval against a naive twin in exact fractions, rule by rule."""

from __future__ import annotations

import itertools
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.flags import BookFlag
from market_pipeline.metrics.columns import DEPTH_COLUMNS
from market_pipeline.metrics.day_rows import NestedGrids
from market_pipeline.metrics.depth import depth_columns
from market_pipeline_tests.metrics.rows import (
    LOT,
    NO_TIME,
    START_NS,
    a_day,
    a_depth,
    at,
    frames_of,
    grids,
)
from market_pipeline_tests.naive.metrics import naive_depth

NAMES = [column.name for column in DEPTH_COLUMNS]
BIDS = [(1_000, 1_000), (998, 2_000)]
ASKS = [(1_002, 4_000)]


def depth_of(*rows, gap=None):
    """The depth columns of ten minutes."""
    (frame,) = frames_of(
        depth_columns(a_day(depth=a_depth(*rows), gap=gap), NestedGrids(grids(600)))
    )
    return frame.row(0, named=True)


class TestLevels:
    def test_the_best_levels_are_summed(self):
        """Levels that are not there count nothing; invalid rows count no time."""
        row = depth_of((0, BIDS, ASKS, 0), (10, ASKS, ASKS, BookFlag.NOT_SEEDED), (20, [], [], 0))

        assert (1.0, 3.0, 4.0, pytest.approx(-1 / 7), 10.0, 1) == tuple(
            row[name]
            for name in (
                *("bid_depth_1", "bid_depth_20", "ask_depth_5", "depth_imbalance_10"),
                *("depth_valid_seconds", "levels_confirmed"),
            )
        )

    def test_by_its_time(self):
        """A size of 1 for 10 s and of 4 for 20 s is 3 on average."""
        row = depth_of((0, BIDS, BIDS, 0), (10, ASKS, ASKS, 0), (30, [], [], 0))

        assert 3.0 == pytest.approx(row["bid_depth_1"])

    def test_an_empty_side_is_null(self):
        """No bid level at all is no bid depth, not a depth of zero."""
        row = depth_of((0, [], ASKS, 0), (5, [], ASKS, 0))

        assert (None, 4.0, None, 0) == tuple(
            row[name]
            for name in ("bid_depth_20", "ask_depth_20", "depth_imbalance_20", "levels_confirmed")
        )

    def test_without_a_row(self):
        """What was not built is not measured."""
        row = depth_of()

        assert {"depth_valid_seconds": 0.0, "depth_pair_count": 0} == {
            n: v for n, v in row.items() if v is not None
        }


class TestConfirmedLevels:
    def test_a_sum_over_a_level_beyond_them_is_null(self):
        """Of three levels two are confirmed: what stands before the third nobody knows."""
        bids = [(1_000 - n, 1_000) for n in range(6)]
        row = depth_of((0, bids, bids, 0, 5, 20), (20, [], [], 0))

        assert (5.0, None, 6.0, None, 5) == tuple(
            row[name]
            for name in (
                *("bid_depth_5", "bid_depth_10", "ask_depth_10", "depth_imbalance_10"),
                "levels_confirmed",
            )
        )

    def test_days_from_before_they_were_counted(self):
        """Where nothing is said of them, all levels count."""
        depth = a_depth((0, BIDS, ASKS, 0), (20, BIDS, ASKS, 0)).with_columns(
            bid_levels_confirmed=pl.lit(None, pl.Int8)
        )
        (frame,) = frames_of(depth_columns(a_day(depth=depth), NestedGrids(grids(600))))

        assert 3.0 == frame["bid_depth_20"][0]


class TestDistance:
    def test_levels_within_a_distance(self):
        """Mid 10,000: a bid at 9,999 is 1 bps away and counts, one at 9,994 is 6 away."""
        bids, asks = [(9_999, 1_000), (9_994, 2_000)], [(10_001, 4_000), (10_003, 5_000)]
        row = depth_of((0, bids, asks, 0), (9, [], [], 0))

        assert [1.0, 4.0, 1.0, None, None, None] == [
            row[f"{side}_depth_{bps}bps"] for bps in (1, 5, 10) for side in ("bid", "ask")
        ]
        assert 3.0 == pytest.approx(row["confirmed_bps"])

    def test_as_far_as_levels_are_confirmed(self):
        """An unconfirmed level proves no distance."""
        bids = [(9_999, 1_000), (9_994, 2_000)]
        row = depth_of((0, bids, [(10_001, 1)], 0, 1, 20), (9, [], [], 0))

        assert (1.0, None) == (row["bid_depth_1bps"], row["bid_depth_5bps"])

    def test_one_side_has_no_mid(self):
        """Without an ask nobody knows how far a bid is from the mid."""
        row = depth_of((0, BIDS, [], 0), (9, [], [], 0))

        assert (None, None, 3.0) == (
            *(row["bid_depth_1bps"], row["confirmed_bps"]),
            row["bid_depth_5"],
        )


SECONDS = st.integers(0, 250).map(float)
FLAGS = st.sampled_from([0, 0, 0, 1, 4, *(int(flag) for flag in NO_TIME)])


@st.composite
def sides(draw):
    """Levels of both sides, and how many are confirmed."""
    made = []
    for first, step in ((10_000, -1), (10_001, 1)):
        jumps = draw(st.lists(st.integers(1, 12), max_size=20))
        ticks = itertools.accumulate(jumps, initial=first)
        made.append(
            [
                (first + step * (at - first), draw(st.integers(1, 9)))
                for at in itertools.islice(ticks, len(jumps))
            ]
        )
    confirmed = [draw(st.integers(0, 20)) for _ in range(2)]
    return (*made, *confirmed)


ROWS = st.lists(st.tuples(SECONDS, sides(), FLAGS), max_size=8)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, gap=st.tuples(SECONDS, SECONDS).map(sorted), cuts=st.lists(st.integers(0, 8)))
def test_agrees_with_the_naive_twin(rows, gap, cuts):
    """Every figure of every interval of every grid equals the exact fraction, however rows are cut;
    a whole gives the same to the last bit.
    """
    depth = a_depth(
        *((second, state[0], state[1], flags, *state[2:]) for second, state, flags in rows)
    )
    edges = grids(20, 60, 600)
    frames = frames_of(
        depth_columns(a_day(depth=depth, gap=gap, cuts=((), cuts, ())), NestedGrids(edges))
    )

    whole = frames_of(depth_columns(a_day(depth=depth, gap=gap), NestedGrids(edges)))
    assert all(a.equals(b) for a, b in zip(whole, frames, strict=True))
    of_time = [(at(second), state, flags) for second, state, flags in rows]
    for frame, grid in zip(frames, edges, strict=True):
        for row, (begin, end) in zip(
            frame.to_dicts(), itertools.pairwise(grid.tolist()), strict=True
        ):
            expected = dict.fromkeys(NAMES) | naive_depth(
                of_time, (at(gap[0]), at(gap[1])), begin, end, lot=Fraction(LOT)
            )
            assert set(NAMES) == set(expected)
            for name, figure in expected.items():
                known = figure
                if figure is not None:
                    known = pytest.approx(float(figure), rel=1e-12, abs=1e-12)
                assert known == row[name], (name, begin - START_NS)
