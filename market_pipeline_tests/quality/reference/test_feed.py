from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.books.integers import SnapshotFeed
from market_pipeline.books.scale import Scale, to_steps
from market_pipeline.quality.reference.feed import (
    REFUSED,
    Row,
    messages_of,
    rows_of,
    snapshots_of,
    whole_steps,
)
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch

TENTH, ONE = Scale.of(Decimal("0.1")), Scale.of(Decimal(1))


class TestWholeSteps:
    @given(
        st.lists(
            st.one_of(
                st.floats(0, 1e300, allow_nan=False),
                st.integers(0, 2**62).map(float),
                st.integers(0, 10**9).map(lambda steps: steps * 0.05),
                st.integers(0, 10**6).map(lambda steps: steps * 0.05 + 5e-8),
            ),
            max_size=20,
        ),
        st.sampled_from(["0.05", "0.1", "1", "25", "0.00000001"]).map(Decimal).map(Scale.of),
    )
    def test_are_those_of_the_kernel(self, values: list[float], scale: Scale):
        """Any value is the same number of steps, or refused, in plain numpy and in the kernel."""
        given_values = np.array(values, np.float64)
        steps = np.empty(len(values), np.int64)
        to_steps(given_values, scale, steps)

        assert steps.tolist() == whole_steps(given_values, scale)

    @pytest.mark.parametrize(
        ("value", "steps"),
        [(0.57, REFUSED), (0.6, 6), (0.30000000000000004, 3), (0.0, 0), (1e30, REFUSED)],
    )
    def test_examples(self, value: float, steps: int):
        """A value on the tick is a whole number, another is refused and never rounded."""
        assert [steps] == whole_steps(np.array([value]), TENTH)


class TestRows:
    def test_off_the_tick_or_the_lot(self):
        """A row whose price or size is off its grid is to be refused; the others are whole."""
        batch = DeltaBatch(
            Path("deltas"),
            0,
            *(np.array(column, np.int64) for column in ([1, 2, 3], [4, 5, 6], [7, 8, 9])),
            np.array([True, False, True]),
            np.array([10.1, 10.15, 10.3]),
            np.array([2.0, 2.0, 2.5]),
        )
        rows = list(rows_of([batch], TENTH, ONE))

        assert [(101, 2), (REFUSED, REFUSED), (103, REFUSED)] == [
            (row.price_ticks, row.size_lots) for row in rows
        ]
        assert Row(4, 7, True, 101, 2, 1) == rows[0]

    def test_more_than_are_taken_at_once(self):
        """No row is lost or told twice where a large batch is cut."""
        count = 10_000
        number = np.arange(count, dtype=np.int64)
        batch = DeltaBatch(
            Path("deltas"),
            0,
            *[number] * 3,
            number % 2 == 0,
            np.ones(count),
            np.ones(count),
        )

        assert number.tolist() == [row.sequence_number for row in rows_of([batch], ONE, ONE)]


class TestMessages:
    def test_neighbouring_rows_of_one_number_and_time(self):
        """A message ends where the number or the time changes, and one that comes back is new."""
        keys = [(1, 1), (1, 1), (2, 1), (2, 2), (1, 1)]
        rows = [Row(time, number, True, 1, 1) for time, number in keys]
        found = [
            (m.first_row, len(m.rows), m.after_gap, m.recovered) for m in messages_of(rows, [2])
        ]

        assert [
            (0, 2, False, False),
            (2, 1, True, False),
            (3, 1, False, False),
            (4, 1, False, False),
        ] == found


level = st.tuples(
    st.sampled_from([0.0, 9.7, 9.8, 9.9, 10.0, 10.1, 10.2, 10.25]),
    st.sampled_from([0.0, 1.0, 2.0, 2.5]),
)
side = st.lists(level, min_size=4, max_size=4)


class TestSnapshots:
    @given(side, side)
    def test_are_those_of_the_kernel(self, bids, asks):
        """What is a usable book, and which levels it has, is the same for both."""
        arrays = [
            np.array([values]) for levels in (bids, asks) for values in zip(*levels, strict=True)
        ]
        batch = SnapshotBatch(Path("book"), 0, np.array([5]), np.array([6]), *arrays)
        feed = SnapshotFeed([batch], TENTH, ONE)
        feed.load_next()
        (plain,) = snapshots_of([batch], TENTH, ONE)
        theirs = feed.current

        assert bool(theirs.usable[0]) == plain.usable
        assert (5, 6) == (plain.ts_receipt_ns, plain.sequence_number)
        if plain.usable:
            for levels, prices, sizes in (
                (plain.bids, theirs.bid_price_ticks, theirs.bid_size_lots),
                (plain.asks, theirs.ask_price_ticks, theirs.ask_size_lots),
            ):
                there = zip(prices[0].tolist(), sizes[0].tolist(), strict=True)
                assert levels == [(price, size) for price, size in there if size]
