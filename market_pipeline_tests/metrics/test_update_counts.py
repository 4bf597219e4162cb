"""Updates by level and by distance, of every message, against whole books and single rows."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.logged_replay import LoggedReplay
from market_pipeline.books.player import Player, Start
from market_pipeline.books.rebuild import RebuildOptions
from market_pipeline.metrics.update_counts import UpdateCounts, count_updates
from market_pipeline.quality.reference.feed import Row, Snapshot
from market_pipeline_tests.books.feeds import SECOND
from market_pipeline_tests.books.test_replay import rebuilt, replay
from market_pipeline_tests.books.test_resumed import Feed, cuts, options, split_gaps
from market_pipeline_tests.naive.update_counts import naive_counts, steps

pytestmark = pytest.mark.slow
EVER = 2**63 - 1
BY = pytest.mark.parametrize("by", ["level", "ticks"])


def counted(feed, asked, by, limit, *, from_ns=0, until_ns=400 * SECOND, every_ns=SECOND, cut=()):
    """The rows of the frame: interval, messages, is_bid, place, increases, decreases."""
    rows, _ = rebuilt(feed, asked)
    engine = replay(feed, asked, rows, cut, of=LoggedReplay)
    counts = UpdateCounts.between(from_ns, until_ns, every_ns, limit, by_ticks=by == "ticks")
    source = chain([Start(engine.book())], engine.until())
    assert not Player([source], count_updates, counts, -EVER, until_ns, shows_changes=True).play()
    return counts.frame().rows()


class TestUpdateCounts:
    @settings(max_examples=40)
    @given(split_gaps(), options, cuts, st.integers(1, 6), st.integers(1, 5), st.integers(0, 9))
    def test_are_those_of_whole_books(self, feed, asked, cut, limit, every, first):
        """Each count is that of single rows put into plain dicts, on feeds with all that is wrong
        in one, from anywhere, in intervals of any length.
        """
        span = {"from_ns": first * SECOND, "until_ns": 400 * SECOND, "every_ns": every * SECOND}
        rows, _ = rebuilt(feed, asked)
        messages = list(steps(replay(feed, asked, rows).until()))
        for by in ("level", "ticks"):
            compared, expected = naive_counts(messages, **span, limit=limit, by=by)
            found = counted(feed, asked, by, limit, cut=cut, **span)
            assert dict(compared) == {row[0]: row[1] for row in found}
            assert dict(expected) == {
                (at, is_bid, place, is_larger): count
                for at, _, is_bid, place, *both in found
                for is_larger, count in zip((True, False), both, strict=True)
                if count
            }

    @BY
    def test_by_hand(self, by):
        """What comes is counted where it stands after the message, what goes where it stood before,
        and distances from the touch before; what is farther out than 3 has no number.
        """
        found = {
            (is_bid, place): both
            for _, _, is_bid, place, *both in counted(a_day(), RebuildOptions(), by, 3)
            if any(both)
        }
        assert {
            "level": {
                (True, 1): [1, 0],  # 101 came, and is the best
                (True, 2): [1, 0],  # 100, which was the best, grew
                (True, 3): [0, 1],  # 97 went, and was the third
                (False, 2): [0, 1],  # 106 fell
                (False, None): [1, 0],  # 120 came as the fourth
            },
            "ticks": {
                (True, -1): [1, 0],
                (True, 0): [1, 0],
                (True, 3): [0, 1],
                (False, 1): [0, 1],
                (False, None): [1, 0],
            },
        }[by] == found

    def test_intervals(self):
        """Intervals with a message that counts have rows: each level of both sides, with zeros."""
        rows = counted(a_day(), RebuildOptions(), "level", 3)
        assert [(3 * SECOND, 1)] * 8 == [row[:2] for row in rows]
        assert 2 * [1, 2, 3, None] == [row[3] for row in rows]


def a_day() -> Feed:
    """A book of three levels a side, and a message that changes it; after it a message is lost."""
    bids, asks = [(100, 5), (98, 5), (97, 5)], [(105, 5), (106, 5), (110, 5)]
    rows = [Row(SECOND, 1, True, 100, 5), Row(2 * SECOND, 2, False, 105, 5)]
    changed = [(True, 101, 1), (True, 100, 6), (True, 97, 0), (False, 106, 4), (False, 120, 1)]
    # Of the same size as before: no change, and counted nowhere.
    changed += [(False, 110, 5), (True, 90, 0)]
    rows += [Row(3 * SECOND, 3, *each) for each in changed]
    rows += [Row(9 * SECOND, 9, True, 99, 1), Row(10 * SECOND, 10, True, 99, 0)]
    seed = Snapshot(SECOND, 1, bids, asks)
    return Feed(rows, [seed], [], [], np.array([len(rows) - 2], np.int64))
