"""The time of books cut at the borders of intervals, against a count of every nanosecond."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.metrics.time_weighted import Grid, pieces

FLAGS = st.sampled_from([0, 0, int(BookFlag.LOCKED), int(BookFlag.GAP), int(BookFlag.NOT_SEEDED)])
ROWS = st.lists(st.tuples(st.integers(-20, 60), FLAGS), min_size=1, max_size=8)
EDGES = st.lists(st.integers(-20, 60), max_size=8, unique=True).map(sorted)


def cut(rows, grid, spans):
    """The pieces as (row, interval, ns)."""
    times, flags = zip(*rows, strict=True)
    found = pieces(np.array(times), np.array(flags, np.uint16), grid, spans)
    return list(zip(*(each.tolist() for each in found), strict=True))


def naive_cut(rows, grid, spans):
    """The same, of each nanosecond by itself; a clock that ran back stands still."""
    clock = list(itertools.accumulate((ts for ts, _ in rows), max))
    held = Counter()
    for now in range(*grid.starts_ns[[0, -1]].tolist()):
        row = bisect.bisect_right(clock, now) - 1
        is_lost = any(begin <= now < end for begin, end in spans.tolist())
        if 0 <= row < len(rows) - 1 and not is_lost and not rows[row][1] & INVALIDATING:
            held[row, (now - grid.starts_ns[0]) // 7] += 1
    return [(*key, ns) for key, ns in sorted(held.items())]


class TestPieces:
    def test_a_book_is_cut_at_borders_and_spans(self):
        """What was not observed counts for no row, and the last row for no time."""
        grid = Grid.between(-10, 18, 7)
        spans = np.array([[-1, 2], [5, 6]])

        assert [(0, 1, 4), (1, 2, 6), (1, 3, 4)] == cut([(-3, 0), (4, 0), (15, 0)], grid, spans)

    @given(rows=ROWS, edges=EDGES, intervals=st.integers(1, 6))
    def test_agrees_with_a_count_of_nanoseconds(self, rows, edges, intervals):
        """Wherever rows, spans and the grid begin and end, and if the clock runs back."""
        grid = Grid.between(-10, -10 + 7 * intervals, 7)
        spans = np.array(edges[: len(edges) // 2 * 2], np.int64).reshape(-1, 2)

        assert naive_cut(rows, grid, spans) == cut(rows, grid, spans)
