"""Metrics of the touch against a naive twin in exact fractions, rule by rule."""

from __future__ import annotations

import itertools
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.metrics.columns import TOUCH_COLUMNS
from market_pipeline.metrics.day_rows import NestedGrids
from market_pipeline.metrics.touch import touch_columns
from market_pipeline_tests.metrics.rows import (
    A_BOOK,
    LOT,
    NO_BID,
    NO_TIME,
    START_NS,
    TICK,
    a_bbo,
    a_day,
    at,
    frames_of,
    grids,
    minutes_of,
)
from market_pipeline_tests.naive.metrics import naive_touch

NAMES = [column.name for column in TOUCH_COLUMNS]


def touch_of(*messages, width=600, gap=None):
    """The touch columns of ten minutes in intervals of a width."""
    (frame,) = frames_of(touch_columns(a_day(a_bbo(*messages), gap=gap), NestedGrids(grids(width))))
    return frame.to_dicts()


class TestTimeWeighting:
    def test_figures_of_a_steady_book(self):
        """A book that never changes has its own spread, mid, sizes and imbalance."""
        (row,) = touch_of((0, A_BOOK, 0), (30, A_BOOK, 0))

        expected = {
            "valid_seconds": 30.0,
            "quoted_seconds": 30.0,
            "message_count": 2,
            "spread": pytest.approx(0.4),
            "spread_ticks": 4.0,
            "spread_bps": pytest.approx(4 / 1_002 * 1e4),
            "mid": pytest.approx(100.2),
            "weighted_mid": pytest.approx((1_000 * 10 + 1_004 * 30) / 40 * 0.1),
            "bid_touch_size": pytest.approx(0.03),
            "ask_touch_size": pytest.approx(0.01),
            "touch_imbalance": 0.5,
        }
        assert expected == {name: row[name] for name in expected}

    def test_a_book_counts_by_its_time_not_by_its_messages(self):
        """Spread 4 for 45 s and spread 8 for 15 s are 5 on average, however many messages."""
        wide = (1_000, 30, 1_008, 10)
        steady = [(45 + second / 100, wide, 0) for second in range(1_500)]
        row = touch_of((0, A_BOOK, 0), *steady, (60, wide, 0), width=60)[0]

        assert 5.0 == pytest.approx(row["spread_ticks"])
        assert (1_501, 60.0) == (row["message_count"], row["valid_seconds"])

    def test_a_message_carries_over_into_the_intervals_after_it(self):
        """Intervals without a message have the book of the last one before them."""
        rows = touch_of((50, A_BOOK, 0), (190, NO_BID, 0), width=60)[:4]

        assert [10.0, 60.0, 60.0, 10.0] == [row["valid_seconds"] for row in rows]
        assert [1, 0, 0, 1] == [row["message_count"] for row in rows]
        assert [4.0] * 4 == [row["spread_ticks"] for row in rows]

    def test_the_last_message_holds_for_no_time(self):
        """An interval that only has the day's last message has a count and no state."""
        row = touch_of((10, A_BOOK, 0), (60, A_BOOK, 0), width=60)[1]

        assert (1, 0.0, None) == (row["message_count"], row["valid_seconds"], row["mid"])

    def test_nothing_at_all(self):
        """Without a message there are counts and seconds of 0, and no figure."""
        rows = touch_of(width=60)

        zeros = {"valid_seconds", "quoted_seconds", *(n for n in NAMES if n.endswith("count"))}
        zeros |= {f"return_count_{step}" for step in ("100ms", "1s", "5s", "10s", "60s")}
        assert 10 == len(rows)
        assert {name: 0 if name in zeros else None for name in NAMES} == {
            name: rows[3][name] for name in NAMES
        }


class TestValidity:
    @pytest.mark.parametrize("flag", list(INVALIDATING & ~NO_TIME), ids=lambda flag: flag.name)
    def test_invalid_time_does_not_count(self, flag):
        """A book with an invalidating flag contributes nothing but its message."""
        odd = (1_000, 30, 9_000, 10)
        (row,) = touch_of((0, A_BOOK, 0), (10, odd, flag), (50, A_BOOK, 0), (55, A_BOOK, 0))

        assert (15.0, 4, 4.0, 1) == (
            *(row["valid_seconds"], row["message_count"], row["spread_ticks"]),
            row["ofi_event_count"],
        )

    @pytest.mark.parametrize("flag", list(NO_TIME), ids=lambda flag: flag.name)
    @pytest.mark.parametrize("second", [-(2**62) // 10**9, -86_400, 10, 86_399, 2**31])
    def test_a_row_without_a_time_moves_no_clock(self, flag, second):
        """Wherever its stamp says it is, it takes the time between its neighbours and no more."""
        (row,) = touch_of((0, A_BOOK, 0), (20, A_BOOK, 0), (second, A_BOOK, flag), (50, A_BOOK, 0))

        counted = 3 if flag == BookFlag.OUTSIDE_DAY else 4
        assert (20.0, counted, 2) == (
            *(row["valid_seconds"], row["message_count"]),
            row["inter_arrival_count"],
        )

    def test_rows_without_a_time_before_the_first_sound_one_are_left_out(self):
        """Nobody knows when they came."""
        first = (86_399, A_BOOK, BookFlag.BAD_TS_RECEIPT)
        (row,) = touch_of(first, first, (0, A_BOOK, 0), (50, A_BOOK, 0))

        assert (50.0, 2) == (row["valid_seconds"], row["message_count"])

    def test_nothing_is_carried_across_a_gap(self):
        """The book before a gap ends with it, and no figure is formed across it."""
        moved = (1_010, 30, 1_014, 10)
        rows = touch_of(
            (0, A_BOOK, 0), (30, A_BOOK, 0), (150, moved, 0), (170, moved, 0), gap=(30, 150)
        )

        (row,) = rows
        assert (50.0, 2, 2, 0, 0.0) == tuple(
            row[name]
            for name in (
                *("valid_seconds", "ofi_event_count", "inter_arrival_count", "mid_change_count"),
                "realised_variance_1s",
            )
        )

    def test_an_empty_side_is_null_and_never_zero(self):
        """Without a bid there is no mid, spread, imbalance or bid size; the ask is still there."""
        (row,) = touch_of((0, NO_BID, BookFlag.EMPTY_SIDE), (20, NO_BID, 0))

        assert (20.0, 0.0, pytest.approx(0.01), 0) == (
            *(row["valid_seconds"], row["quoted_seconds"], row["ask_touch_size"]),
            row["ofi_event_count"],
        )
        none = ("spread", "spread_ticks", "spread_bps", "mid", "weighted_mid", "bid_touch_size")
        assert {None} == {row[name] for name in (*none, "touch_imbalance", "ofi")}

    def test_time_with_an_empty_side_is_left_out_of_the_average(self):
        """Ten seconds without a bid do not pull the bid size towards zero."""
        (row,) = touch_of((0, A_BOOK, 0), (10, NO_BID, 0), (20, A_BOOK, 0), (30, A_BOOK, 0))

        assert (30.0, 20.0, pytest.approx(0.03), 4.0) == (
            *(row["valid_seconds"], row["quoted_seconds"]),
            *(row["bid_touch_size"], row["spread_ticks"]),
        )


class TestOrderFlow:
    @pytest.mark.parametrize(
        ("after", "flow"),
        [
            ((1_000, 35, 1_004, 10), 5),  # five more bid
            ((1_000, 30, 1_004, 4), 6),  # six asked less
            ((1_001, 7, 1_004, 10), 7),  # a better bid of 7
            ((999, 7, 1_004, 10), -30),  # the bid of 30 is gone
            ((1_000, 30, 1_003, 2), -2),  # a better ask of 2
            ((1_000, 30, 1_005, 9), 10),  # the ask of 10 is gone
            ((1_001, 1, 1_005, 1), 11),  # both
        ],
    )
    def test_each_kind_of_event(self, after, flow):
        """What a message adds to the bid counts for, what it adds to the ask against."""
        (row,) = touch_of((0, A_BOOK, 0), (10, after, 0))

        assert (pytest.approx(flow * 0.001), 1) == (row["ofi"], row["ofi_event_count"])

    def test_the_first_event_after_a_reset_contributes_nothing(self):
        """Neither into a book that is not valid nor out of it."""
        (row,) = touch_of(
            (0, A_BOOK, 0),
            (5, (900, 1, 901, 1), BookFlag.NOT_SEEDED),
            (5, (1_100, 9, 1_101, 9), 0),
            (6, (1_100, 10, 1_101, 9), 0),
        )

        assert (pytest.approx(0.001), 1) == (row["ofi"], row["ofi_event_count"])

    @given(
        sizes=st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99)), min_size=2, max_size=30)
    )
    def test_at_constant_prices_it_is_what_the_sizes_changed_by(self, sizes):
        """The sum telescopes: what was added to the bid minus what was added to the ask."""
        messages = [(n, (1_000, bid, 1_001, ask), 0) for n, (bid, ask) in enumerate(sizes)]
        (row,) = touch_of(*messages)

        (first_bid, first_ask), (last_bid, last_ask) = sizes[0], sizes[-1]
        expected = (last_bid - first_bid) - (last_ask - first_ask)
        assert pytest.approx(expected * 0.001) == row["ofi"]


class TestReturns:
    def test_previous_tick(self):
        """Mids of 100 from 0 s, 110 from 3 s, 121 from 12 s; sampled every 10 s: 110 and 121."""
        books = [(ticks - 1, 1, ticks + 1, 1) for ticks in (1_000, 1_100, 1_210)]
        row = touch_of(
            (0, books[0], 0), (3, books[1], 0), (12, books[2], 0), (25, books[2], 0), width=60
        )[0]

        square = 0.009084
        assert (2, pytest.approx(2 * square, rel=1e-3)) == (
            row["return_count_10s"],
            row["realised_variance_10s"],
        )
        assert (4, pytest.approx(2 * square, rel=1e-3)) == (
            row["return_count_5s"],
            row["realised_variance_5s"],
        )

    def test_a_message_at_the_point_is_sampled(self):
        """At or before: what comes at the very point is its mid."""
        before, after = (999, 1, 1_001, 1), (1_099, 1, 1_101, 1)
        row = touch_of((0, before, 0), (1, after, 0), (1.5, after, 0))[0]

        assert (1, pytest.approx(0.009084, rel=1e-3)) == (
            row["return_count_1s"],
            row["realised_variance_1s"],
        )

    def test_steps_that_do_not_divide_the_interval(self):
        """No figure of them: of one second only those of 100 ms and 1 s."""
        row = touch_of((0, A_BOOK, 0), (300, A_BOOK, 0), width=1)[0]

        known = [name for name in NAMES if name.startswith("return_count") and row[name]]
        assert ["return_count_100ms", "return_count_1s"] == known

    def test_no_return_across_an_invalid_span(self):
        """Not even of one that took no time."""
        moved = (2_000, 30, 2_004, 10)
        (row,) = touch_of(
            (0, A_BOOK, 0), (10.5, A_BOOK, BookFlag.CROSSED), (10.5, moved, 0), (20, moved, 0)
        )

        assert (0.0, 18, 0.0) == (
            *(row["realised_variance_1s"], row["return_count_1s"]),
            row["realised_variance_5s"],
        )


class TestRhythm:
    def test_times_between_messages(self):
        """Of 0, 5, 5 and 90 ms: the mean, the quantiles, the share of zeros, the clock's step."""
        seconds = (0, 0, 0.005, 0.01, 0.1)
        (row,) = touch_of(*((second, A_BOOK, 0) for second in seconds))

        names = ("count", "mean_ms", "p50_ms", "p99_ms", "zero_share")
        assert [4, 25.0, 4.980736, 89.128960, 0.25] == [
            row[f"inter_arrival_{name}"] for name in names
        ]
        assert 5_000_000 == row["receipt_granularity_ns"]

    def test_of_the_first_message_after_a_gap_nothing_is_known(self):
        """Neither after a silence nor where ids prove that messages are missing."""
        (row,) = touch_of(
            (0, A_BOOK, 0), (1, A_BOOK, 0), (3, A_BOOK, BookFlag.GAP), (4, A_BOOK, BookFlag.GAP)
        )

        assert (2, 1_000.0) == (row["inter_arrival_count"], row["inter_arrival_mean_ms"])


SECONDS = st.one_of(
    st.integers(0, 90).map(float), st.sampled_from([9.95, 10.1, 29.9999, 60.5, 599.0, 601.0])
)
FLAGS = st.sampled_from([0, 0, 0, 0, 1, 2, 4, 8, 256, *(int(flag) for flag in NO_TIME)])
EMPTY = st.just((None, None))
BID = st.one_of(EMPTY, *[st.tuples(st.integers(991, 1_001), st.integers(1, 5))] * 4)
ASK = st.one_of(EMPTY, *[st.tuples(st.integers(1_001, 1_009), st.integers(1, 5))] * 4)
MESSAGES = st.lists(st.tuples(SECONDS, BID, ASK, FLAGS), max_size=15)


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(messages=MESSAGES, gap=st.tuples(SECONDS, SECONDS).map(sorted), ordered=st.booleans())
def test_agrees_with_the_naive_twin(messages, gap, ordered):
    """Every figure of every interval equals the exact one, for any books, flags and clocks, and of
    every grid: so a larger interval is what smaller ones add up to.
    """
    messages = sorted(messages, key=lambda m: m[0]) if ordered else messages
    books = [(second, (*bid, *ask), flags) for second, bid, ask, flags in messages]
    edges = grids(30, 60, 600)
    frames = frames_of(touch_columns(a_day(a_bbo(*books), gap=gap), NestedGrids(edges)))

    rows = [(at(second), book, flags) for second, book, flags in books]
    for frame, grid in zip(frames, edges, strict=True):
        for row, (begin, end) in zip(
            frame.to_dicts(), itertools.pairwise(grid.tolist()), strict=True
        ):
            expected = dict.fromkeys(NAMES) | naive_touch(
                *(rows, (at(gap[0]), at(gap[1])), begin, end),
                **{"start_ns": START_NS, "end_ns": at(600)},
                **{"tick": Fraction(TICK), "lot": Fraction(LOT)},
            )
            assert set(NAMES) == set(expected)
            for name, figure in expected.items():
                known = figure and pytest.approx(float(figure), rel=1e-11, abs=1e-12)
                assert known == row[name], (name, begin - START_NS)


@settings(max_examples=100, deadline=None)
@given(
    messages=st.lists(st.tuples(st.floats(0, 250), BID, ASK, FLAGS), max_size=20),
    gap=st.tuples(SECONDS, SECONDS).map(sorted),
    cuts=st.lists(st.integers(0, 20), max_size=6),
)
def test_no_cut_changes_a_bit(messages, gap, cuts):
    """Batches cut anywhere, also where the clock runs back, give exactly the rows of a whole."""
    bbo = a_bbo(*((second, (*bid, *ask), flags) for second, bid, ask, flags in messages))
    edges = grids(10, 60, 600)

    whole = frames_of(touch_columns(a_day(bbo, gap=gap), NestedGrids(edges)))
    cut = frames_of(touch_columns(a_day(bbo, gap=gap, cuts=(cuts, (), ())), NestedGrids(edges)))

    assert all(a.equals(b) for a, b in zip(whole, cut, strict=True))


def test_the_minutes_of_a_day_are_in_the_table():
    """What is made here is what a day's rows have."""
    rows = minutes_of(a_bbo((0, A_BOOK, 0), (90, A_BOOK, 0)))

    assert [60.0, 30.0] == [row["valid_seconds"] for row in rows]
    assert pl.Series([4.0, 4.0]).equals(pl.Series([row["spread_ticks"] for row in rows]))
