"""Rows of intervals that are alike give what all intervals give, to the last bit."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.metrics.day_rows import NestedGrids
from market_pipeline.metrics.moments import Moments

INTERVALS, WIDTHS = 60, (1, 5, 20, 60)
GRIDS = NestedGrids([np.arange(100, 161, width) for width in WIDTHS])
INSTANTS = st.lists(st.integers(90, 170), max_size=12)
NUMBERS = st.sampled_from([0.0, 0.1, 0.7, 1e9, -0.3])


def bits(arrays):
    """The bytes of each array."""
    return [np.ascontiguousarray(each).tobytes() for each in arrays]


def expanded(moments, arrays):
    """Those of the grid that rows are made of for each interval; of the others as they are."""
    return [arrays[0][moments.row_of], *arrays[1:]]


@st.composite
def made(draw):
    """Rows of some instants with figures, the same for each interval of a row."""
    moments = Moments(GRIDS, [np.array(draw(INSTANTS), np.int64)])
    rows = moments.number
    figures = draw(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=rows, max_size=rows))
    return moments, np.array(figures)


class TestMoments:
    def test_a_quiet_run_is_one_row(self):
        """What happens has its interval; the run after it ends where a wider interval does."""
        moments = Moments(NestedGrids([np.arange(0, 21, w) for w in (1, 10)]), [np.array([3, 25])])

        assert [0, 3, 4, 10, 20] == moments.starts_ns.tolist()
        assert [3, 1, 6, 10] == moments.repeats.tolist()
        assert [[2], [0, 1]] == [
            each.tolist() for each in moments.chosen([np.array([7]), np.array([0, 1])])
        ]

    @given(made())
    def test_agrees_with_all_intervals(self, case):
        """Sums, largest, divisors and changes of rows are those of every interval by itself."""
        moments, figures = case
        every, dense = Moments(GRIDS, None), figures[moments.row_of]
        whole = np.abs(figures).astype(np.int64)

        sums = moments.sums(figures)
        assert bits(every.sums(dense)) == bits(expanded(moments, sums))
        for rows, all_rows in ((figures, dense), (whole, whole[moments.row_of])):
            assert bits(every.largest(all_rows)) == bits(expanded(moments, moments.largest(rows)))
        whole_sums = moments.sums(whole)
        assert bits(every.sums(whole[moments.row_of])) == bits(expanded(moments, whole_sums))
        divisors = moments.divisors(whole[:, 0])
        assert bits(every.divisors(whole[moments.row_of, 0])) == bits(expanded(moments, divisors))
        assert bits(every.changes(every.sums(dense))) == bits(moments.changes(sums))

    @given(made())
    def test_agrees_with_the_naive_twin(self, case):
        """A wider interval has the sum of its intervals, added one after the other."""
        moments, figures = case
        dense = figures[moments.row_of].tolist()
        whole = np.abs(figures[:, 0]).astype(np.int64)
        of_each = whole[moments.row_of].tolist()
        found = moments.sums(figures), moments.largest(figures), moments.divisors(whole)

        for width, *arrays in list(zip(WIDTHS, *found, strict=True))[1:]:
            for at, (sums, largest, divisor) in enumerate(zip(*arrays, strict=True)):
                own = dense[at * width : (at + 1) * width]
                assert [
                    list(itertools.accumulate(column, initial=0.0))[-1]
                    for column in zip(*own, strict=True)
                ] == sums.tolist()
                assert [max(column) for column in zip(*own, strict=True)] == largest.tolist()
                assert math.gcd(*of_each[at * width : (at + 1) * width]) == divisor
