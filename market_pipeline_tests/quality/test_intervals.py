"""Span arithmetic against plain loops over single nanoseconds."""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.quality import intervals
from market_pipeline.quality.intervals import (
    NO_SPANS,
    chunks,
    day_bounds_ns,
    held_ns,
    overlap_ns,
    running_chunks,
    running_time_ns,
    runs,
    union,
    union_of_disjoint,
)

INSTANTS = st.lists(st.integers(0, 60), min_size=1, max_size=12)


@st.composite
def disjoint_spans(draw):
    """Sorted spans without overlap, some of them touching."""
    edges = draw(st.lists(st.integers(0, 60), max_size=8))
    edges = sorted(edges)[: len(edges) // 2 * 2]
    spans = np.array(edges, dtype=np.int64).reshape(-1, 2)
    return spans[spans[:, 0] < spans[:, 1]]


@given(instants=INSTANTS, spans=disjoint_spans(), size=st.integers(1, 14))
def test_overlap_counts_every_nanosecond_inside_a_span(instants, spans, size):
    """The overlap is the nanoseconds of an interval that some span holds, however it is cut."""
    covered = {ns for start, end in spans.tolist() for ns in range(start, end)}
    times = np.sort(np.array(instants, dtype=np.int64))
    starts, ends = times[:-1], times[1:]

    expected = [
        sum(ns in covered for ns in range(start, end))
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]

    with patch.object(intervals, "CHUNK_MESSAGES", size):
        assert expected == overlap_ns(starts, ends, spans).tolist()


@given(instants=INSTANTS)
def test_held_times_add_up_to_the_time_between_first_and_largest(instants):
    """However the clock jumps, no time is negative and none is counted twice."""
    held = held_ns(running_time_ns(np.array(instants, dtype=np.int64)))

    assert held.min() >= 0
    assert max(instants) - instants[0] == held.sum()
    assert held[-1] == 0


@given(messages=st.integers(0, 40), size=st.integers(1, 45))
def test_every_pair_of_neighbours_is_in_one_chunk(messages, size):
    """However long chunks are, no pair is lost or met twice, and a single message is a chunk."""
    with patch.object(intervals, "CHUNK_MESSAGES", size):
        cut = [range(messages)[chunk] for chunk in chunks(messages)]

    assert list(pairwise(range(messages))) == [pair for chunk in cut for pair in pairwise(chunk)]
    assert set(range(messages)) == {message for chunk in cut for message in chunk}
    assert all(0 < len(chunk) <= size + 1 for chunk in cut)


@given(instants=INSTANTS, size=st.integers(1, 14))
def test_the_running_clock_is_the_same_in_chunks(instants, size):
    """A clock that was set back before a chunk stands still in it until it has caught up."""
    times = np.array(instants, dtype=np.int64)
    whole = running_time_ns(times)
    with patch.object(intervals, "CHUNK_MESSAGES", size):
        for first, time_ns in running_chunks(times):
            assert whole[first : first + len(time_ns)].tolist() == time_ns.tolist()


@given(mask=st.lists(st.booleans(), max_size=20))
def test_runs_are_the_maximal_stretches_of_true(mask):
    """A run begins after a false and ends before one, and together they hold every true."""
    first, after = runs(np.array(mask, dtype=np.bool_))

    padded = [False, *mask, False]
    expected_first = [i for i in range(len(mask)) if padded[i + 1] and not padded[i]]
    expected_after = [i + 1 for i in range(len(mask)) if padded[i + 1] and not padded[i + 2]]
    assert (expected_first, expected_after) == (first.tolist(), after.tolist())


def test_without_spans_nothing_overlaps():
    """No span, no overlap."""
    times = np.array([1, 5], dtype=np.int64)

    assert [0, 0] == overlap_ns(times, times + 3, NO_SPANS).tolist()


def test_union_sorts_spans_and_leaves_further_columns_out():
    """Gaps (with their trades) and quiet holes come out as one sorted set of spans."""
    gaps = np.array([[10, 20, 3]], dtype=np.int64)
    holes = np.array([[0, 5], [30, 40]], dtype=np.int64)

    assert [[0, 5], [10, 20], [30, 40]] == union_of_disjoint(gaps, holes).tolist()


@given(sets=st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9))), min_size=1))
def test_a_union_holds_what_any_set_holds_and_is_disjoint(sets):
    """However sets overlap, their union has each nanosecond once, in order, with room between."""
    arrays = [
        np.array([(start, start + length) for start, length in spans], np.int64).reshape(-1, 2)
        for spans in sets
    ]
    joined = union(*arrays)

    assert {ns for spans in arrays for start, end in spans for ns in range(start, end)} == {
        ns for start, end in joined for ns in range(start, end)
    }
    assert all(before[1] < after[0] for before, after in pairwise(joined.tolist()))
    assert (joined[:, 0] <= joined[:, 1]).all()


def test_a_day_has_86400_seconds_of_utc():
    """A day begins at its own midnight UTC, whatever the machine's time zone."""
    assert (1_723_075_200_000_000_000, 1_723_161_600_000_000_000) == day_bounds_ns(date(2024, 8, 8))
