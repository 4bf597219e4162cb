"""Snapshots inside a silence: which of them show that the book changed."""

from __future__ import annotations

import numpy as np
import pytest

from market_pipeline_tests.naive.gaps import Shot
from market_pipeline_tests.quality.feeds import a_feed, gaps_of, times, touches_of


class TestSnapshotsInside:
    """Three silent seconds, in which no trade was, but snapshots."""

    FEED = a_feed(silent=[(300, 303)])
    NUMBERS = np.arange(len(FEED)) * 100
    BEFORE = int(np.searchsorted(FEED, times(300)[0])) * 100
    """Number of the last message before the silence."""

    def found(self, *shots):
        """(second, number, touch) of the snapshots."""
        made = [Shot(*times(at, at), number, (touch,) * 4) for at, number, touch in shots]
        return gaps_of(self.FEED, sequence=self.NUMBERS, snapshots=touches_of(made, 1)).changes

    def test_the_same_book_shows_nothing(self):
        """Snapshots that go on with the last message's number are a quiet market."""
        same = [(300 + k / 10, self.BEFORE, 1.0) for k in range(1, 30)]
        assert [] == self.found((299.9, self.BEFORE - 100, 2.0), *same).tolist()

    def test_a_number_that_no_message_has(self):
        """A snapshot of an update in between shows that a message is lost."""
        shots = (299.9, self.BEFORE - 100, 2.0), (301, self.BEFORE + 40, 3.0)
        assert [1] == self.found(*shots).tolist()

    def test_another_touch_under_the_same_number(self):
        """Numbers may stand still while the book goes on; each change counts."""
        shots = [(301 + k / 10, 7, float(k // 2)) for k in range(6)]
        assert [2] == self.found(*shots).tolist()

    def test_numbers_that_are_all_off_by_one_show_nothing(self):
        """A quiet market in which each snapshot has the number after its message's is quiet."""
        shots = [
            (299.9, self.BEFORE - 99, 2.0),
            *((300.2 + k, self.BEFORE + 1, 3.0) for k in (0, 1)),
        ]
        assert [] == self.found(*shots).tolist()

    def test_off_by_one_but_going_on(self):
        """Several numbers inside show changes, whatever they are off by."""
        shots = [(299.9, self.BEFORE - 99, 2.0)]
        shots += [(300.2 + k, self.BEFORE + 1 + 10 * k, 3.0 + k) for k in (0, 1, 2)]
        assert [2] == self.found(*shots).tolist()

    def test_a_snapshot_of_the_message_that_ended_it(self):
        """It may come a little before that message, and shows nothing."""
        shots = (299.9, self.BEFORE - 100, 2.0), (302.95, self.BEFORE + 100, 3.0)
        assert [] == self.found(*shots).tolist()

    def test_snapshots_are_not_read_without_a_silence(self):
        """A clean day, or one whose silences trades explain, costs no look at the snapshots."""

        def refuse():
            raise AssertionError("read")

        gaps_of(a_feed(), snapshots=refuse)
        gaps_of(a_feed(silent=[(300, 305)]), times(302), snapshots=refuse)
        with pytest.raises(AssertionError, match="read"):
            gaps_of(a_feed(silent=[(300, 305)]), snapshots=refuse)
