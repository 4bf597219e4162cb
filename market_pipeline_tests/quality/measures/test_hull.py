"""The best line below all points, by brute force over all lines through two of them."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.quality.measures._hull import LowerHull

POINTS = st.lists(st.tuples(st.integers(0, 12), st.integers(-9, 9)), min_size=2, max_size=9).filter(
    lambda points: len({t for t, _ in points}) > 1
)


def hull_of(*parts):
    """The hull of points that come in parts, each a list of (t, y)."""
    hull = LowerHull()
    for part in parts:
        t, y = np.array(part, dtype=np.float64).reshape(-1, 2).T
        hull.add(t, y)
    return hull


def summed_distance(points, slope):
    """How far all points lie above the highest line of a slope that is below them all."""
    floor = min(Fraction(y) - slope * t for t, y in points)
    return sum(Fraction(y) - slope * t - floor for t, y in points)


@settings(max_examples=200, deadline=None)
@given(points=POINTS, cut=st.integers(0, 9))
def test_the_slope_is_that_of_the_best_line_below_all_points(points, cut):
    """No line through two points and below all has a smaller summed distance (the LP's corners)."""
    candidates = [
        Fraction(y2 - y1, t2 - t1) for (t1, y1), (t2, y2) in combinations(points, 2) if t1 != t2
    ]
    best = min(summed_distance(points, slope) for slope in candidates)

    found = Fraction(hull_of(points[:cut], points[cut:]).slope()).limit_denominator(12)

    assert best == summed_distance(points, found)


@settings(max_examples=100, deadline=None)
@given(points=POINTS, cuts=st.lists(st.integers(0, 9), max_size=4).map(sorted))
def test_the_parts_change_nothing(points, cuts):
    """However the points are cut into parts, slope and width are those of all at once."""
    edges = [0, *cuts, len(points)]
    parts = [points[begin:end] for begin, end in pairwise(edges)]
    whole, cut = hull_of(points), hull_of(*parts)

    assert (whole.slope(), whole.width) == (cut.slope(), cut.width)


@pytest.mark.parametrize("points", [[], [(1, 1)], [(1, 1), (1, 2)]])
def test_a_slope_needs_two_times(points):
    """Points at one time have no slope, and the error says so."""
    with pytest.raises(ValueError, match="two times"):
        hull_of(points).slope()
