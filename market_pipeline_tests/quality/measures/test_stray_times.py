"""Stray times: against a naive twin, and one bad stamp costs one time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.quality.measures.stray_times import TOLERANCE_NS, limited, stray_times
from market_pipeline_tests.naive.stray_times import naive_strays

SECOND = 10**9
INT64 = np.iinfo(np.int64)


def strays(times):
    """Which of some times are strays."""
    return stray_times(np.array(times, np.int64)).tolist()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 30).map(lambda each: each * SECOND // 4), max_size=25))
def test_agrees_with_the_naive_twin(times):
    """For any times the same ones are strays."""
    assert naive_strays(times, TOLERANCE_NS) == strays(times)


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(st.integers(0, 10**10), min_size=1, max_size=40),
    off=st.integers(0, 39),
    bad=st.integers(INT64.min, INT64.max),
)
def test_one_bad_stamp_costs_one_time(steps, off, bad):
    """Whatever stands in its place, at most one time of an ordered feed is a stray."""
    times = np.array(list(itertools.accumulate(steps)), np.int64)
    times[off % len(times)] = bad

    assert 1 >= np.count_nonzero(stray_times(limited(times)))


@pytest.mark.parametrize("off_seconds", [-3_600, -2, 2, 3_600])
@pytest.mark.parametrize("many", [1, 5, 40])
def test_a_block_of_bad_stamps_moves_no_clock(off_seconds, many):
    """As many as there are sound ones that contradict them are not believed."""
    times = np.arange(2_000) * (SECOND // 20)
    begin = 1_000 if off_seconds > 0 else 1_000 - many
    bad = slice(begin, begin + many)
    expected = np.zeros(len(times), bool)
    # A block of two seconds at 20 a second is 40 messages: then the sound ones are no more.
    if abs(off_seconds) * 20 > many:
        expected[bad] = True
        times[bad] += off_seconds * SECOND

        assert expected.tolist() == strays(times)


@pytest.mark.parametrize(
    "times",
    [
        [],
        [5],
        [0, 5 * SECOND, 100 * SECOND],
        [10 * SECOND, 9 * SECOND, 10 * SECOND],
        [0, 0, 0],
    ],
)
def test_nothing_stray(times):
    """Holes are no strays, nor what overtakes by a second at most."""
    assert not any(strays(times))


def test_a_feed_all_in_another_unit_agrees_with_itself():
    """Stamps in microseconds contradict nothing if all are."""
    assert not any(strays(np.arange(50) * 1_000))


def test_limited_times_can_be_reckoned_with():
    """No difference of two leaves an int64; times of our centuries stay as they are."""
    extremes = limited(np.array([INT64.min, -1, 0, 1_723_000_000 * SECOND, INT64.max]))
    apart = [int(one) - int(other) for one in extremes for other in extremes]

    assert INT64.min < min(apart) and max(apart) < INT64.max
    assert [-1, 0, 1_723_000_000 * SECOND] == extremes[1:4].tolist()
