"""What changed between rows of depth against a naive twin in exact fractions, rule by rule."""

from __future__ import annotations

import itertools
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.flags import BookFlag
from market_pipeline.metrics.change_columns import DEPTH_CHANGE_COLUMNS
from market_pipeline.metrics.day_rows import NestedGrids
from market_pipeline.metrics.depth import depth_columns
from market_pipeline.metrics.touch import touch_columns
from market_pipeline_tests.metrics.rows import (
    A_BOOK,
    LOT,
    NO_TIME,
    a_bbo,
    a_day,
    a_depth,
    at,
    frames_of,
    grids,
)
from market_pipeline_tests.naive.changes import naive_changes

COLUMNS = [column.name for column in DEPTH_CHANGE_COLUMNS]
BIDS = [(100, 1_000), (99, 2_000), (97, 3_000)]
ASKS = [(102, 4_000), (103, 5_000)]


def a_day_of(*messages, gap=None, cuts=((), (), ())):
    """A day of messages (second, levels or None, flags): each a book, and a row of depth where it
    has levels, which are bids, asks and if not all how many of each are confirmed.
    """
    shown = [(second, *levels[:2], f, *levels[2:]) for second, levels, f in messages if levels]
    numbers = [number for number, (_, levels, _) in enumerate(messages) if levels]
    bbo = a_bbo(*((second, A_BOOK, flags) for second, _, flags in messages))
    bbo = bbo.with_columns(sequence_number=pl.int_range(pl.len()))
    depth = a_depth(*shown).with_columns(sequence_number=pl.Series(numbers, dtype=pl.Int64))
    return a_day(bbo, depth, gap=gap, cuts=cuts)


def changes_of(*messages, gap=None):
    """The columns of ten minutes."""
    (frame,) = frames_of(depth_columns(a_day_of(*messages, gap=gap), NestedGrids(grids(600))))
    return frame.select(COLUMNS).row(0, named=True)


def counts_of(bids, asks=ASKS):
    """Which counts are not 0 where this comes after `BIDS` and `ASKS`."""
    row = changes_of((0, (BIDS, ASKS), 0), (1, (bids, asks), 0))
    return {n.removeprefix("change_count_"): v for n, v in row.items() if "change" in n and v}


class TestFlow:
    def test_each_level(self):
        """Bid 2 gains 500 lots and ask 2 gains 2,000; ask 1 loses 1,000; there is no ask 3."""
        now = [(100, 1_000), (99, 2_500), (97, 3_000)], [(102, 3_000), (103, 7_000)]
        row = changes_of((0, (BIDS, ASKS), 0), (1, now, 0))

        assert (1.0, pytest.approx(0.5 - 2.0), None, None) == tuple(
            row[f"ofi_level{name}"] for name in ("_1", "_2", "_3", "s_1_10")
        )
        assert (1, 2) == (row["depth_pair_count"], row["levels_compared"])

    def test_a_price_that_moved(self):
        """A better bid adds its size; a worse ask takes away what was offered, the same way."""
        better = [(101, 700), *BIDS[:2]], [(103, 600), (104, 5_000)]
        row = changes_of((0, (BIDS, ASKS), 0), (1, better, 0))

        assert (0.7 + 4.0, 1.0 + 5.0) == (
            pytest.approx(row["ofi_level_1"]),
            pytest.approx(row["ofi_level_2"]),
        )

    def test_the_sum_is_of_whole_pairs(self):
        """Ten bids gain 1 to 10 lots: 55 in all; nine of them lose those, in no sum of ten."""
        bids = [(1_000 - n, 100) for n in range(10)]
        asks = [(1_001 + n, 100) for n in range(10)]
        more = [(ticks, lots + n) for n, (ticks, lots) in enumerate(bids, start=1)]
        row = changes_of(*((n, (each, asks), 0) for n, each in enumerate((bids, more, bids[:9]))))

        assert (2, pytest.approx(0.055)) == (row["depth_pair_count"], row["ofi_levels_1_10"])
        assert [0.0] * 9 + [0.01] == [row[f"ofi_level_{level}"] for level in range(1, 11)]

    def test_the_first_level_is_the_touch(self):
        """With a row for every message it is the order flow imbalance of books.bbo."""
        books = [(100 + n % 3, 5 + n % 7, 104 + n % 2, 3 + n % 5) for n in range(50)]
        bbo = a_bbo(*((n, book, 0) for n, book in enumerate(books)))
        depth = a_depth(
            *((n, [(bid, b)], [(ask, a)], 0) for n, (bid, b, ask, a) in enumerate(books))
        )
        edges = NestedGrids(grids(20, 600))
        for ours, theirs in zip(
            frames_of(depth_columns(a_day(bbo, depth), edges)),
            frames_of(touch_columns(a_day(bbo), edges)),
            strict=True,
        ):
            assert ours["ofi_level_1"].head(2).equals(theirs["ofi"].head(2))
            assert ours["depth_pair_count"].equals(theirs["ofi_event_count"])


class TestCounts:
    def test_an_insert_and_a_removal(self):
        """The level of what came is that after it, of what went that before it."""
        assert {"level_1": 1, "inside_spread": 1} == counts_of([(101, 1), *BIDS])
        assert {"level_1": 1, "at_touch": 1} == counts_of(BIDS[1:])
        assert {"1_tick": 1} == counts_of([BIDS[0], (99, 1), BIDS[2]])

    def test_what_one_row_alone_shows(self):
        """A price behind the last one of the other row is not known to have come or gone."""
        assert {} == counts_of([*BIDS, (95, 1)]) == counts_of(BIDS[:2])

    def test_as_far_as_both_rows_show(self):
        """Two levels of asks: nothing of levels 2 to 5, nor of 2 ticks, is known."""
        row = changes_of((0, (BIDS, ASKS), 0), (1, (BIDS, ASKS), 0))

        assert (0, None, 0, 0, 0, None) == tuple(
            row[f"change_count_{name}"]
            for name in (
                *("level_1", "levels_2_5", "inside_spread"),
                *("at_touch", "1_tick", "2_5_ticks"),
            )
        )
        assert (2, 1) == (row["levels_compared"], row["ticks_compared"])


class TestPairs:
    @pytest.mark.parametrize(
        ("between", "gap"),
        [
            ([(1, None, BookFlag.GAP)], None),
            ([(0, None, BookFlag.CROSSED)], None),
            ([(1, (BIDS, ASKS), BookFlag.NOT_SEEDED)], None),
            ([(1, ([], ASKS), BookFlag.EMPTY_SIDE)], None),
            ([(1, (BIDS, ASKS, 0, 20), 0)], None),
            ([], (0.5, 0.6)),
        ],
        ids=["gap", "no time", "not seeded", "one side", "unconfirmed", "silence"],
    )
    def test_across_what_is_not_known(self, between, gap):
        """No row is compared across an invalid book, a silence, an empty or unconfirmed side."""
        row = changes_of((0, (BIDS, ASKS), 0), *between, (2, (BIDS, ASKS), 0), gap=gap)

        assert (0, {None}) == (row.pop("depth_pair_count"), set(row.values()))

    def test_after_a_reset(self):
        """The first row after it is compared with none, the next one is."""
        rows = [(n, (BIDS, ASKS), BookFlag.GAP if n == 1 else 0) for n in range(5)]

        assert 2 == changes_of(*rows)["depth_pair_count"]

    def test_a_row_that_is_not_of_the_books(self):
        """It is compared with nothing, rather than across what nobody looked at."""
        day = a_day(a_bbo((0, A_BOOK, 0)), a_depth(*((n, BIDS, ASKS, 0) for n in range(3))))
        (frame,) = frames_of(depth_columns(day, NestedGrids(grids(600))))

        assert 0 == frame["depth_pair_count"][0]


SECONDS = st.integers(0, 250).map(float)
FLAGS = st.sampled_from([0, 0, 0, 0, 1, 4, 256, *(int(flag) for flag in NO_TIME)])


@st.composite
def levels(draw):
    """Levels of both sides around a touch that moves, and how many are confirmed."""
    made = []
    for sign, first in ((-1, 9_999), (1, 10_001)):
        jumps = draw(st.lists(st.integers(1, 2), max_size=20))
        away = itertools.accumulate(jumps, initial=draw(st.integers(-1, 3)))
        made.append([(first + sign * ticks, draw(st.integers(1, 3))) for ticks in away][:20])
        if draw(st.integers(0, 9)) == 0:
            made[-1] = []
    return (*made, *(draw(st.sampled_from([20, 20, 20, 11, 4, 0])) for _ in range(2)))


MESSAGES = st.lists(st.tuples(SECONDS, st.one_of(st.none(), levels(), levels()), FLAGS), max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    messages=MESSAGES,
    gap=st.tuples(SECONDS, SECONDS).map(sorted),
    cuts=st.tuples(*[st.lists(st.integers(0, 8))] * 2),
)
def test_agrees_with_the_naive_twin(messages, gap, cuts):
    """Every figure of every interval of every grid equals the exact one, however rows are cut."""
    edges = grids(20, 60, 600)
    day = a_day_of(*messages, gap=gap, cuts=(*cuts, ()))
    of_time = [(at(second), state, flags) for second, state, flags in messages]
    for frame, grid in zip(frames_of(depth_columns(day, NestedGrids(edges))), edges, strict=True):
        for row, (begin, end) in zip(
            frame.select(COLUMNS).to_dicts(), itertools.pairwise(grid.tolist()), strict=True
        ):
            expected = naive_changes(
                of_time, (at(gap[0]), at(gap[1])), begin, end, lot=Fraction(LOT)
            )
            assert {
                name: figure and pytest.approx(float(figure), rel=1e-12)
                for name, figure in expected.items()
            } == row
