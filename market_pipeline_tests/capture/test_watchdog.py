from __future__ import annotations

import pytest

from market_pipeline.capture.watchdog import Watchdog


def states(watchdog, now_s):
    return [(found.stream, found.level) for found in watchdog.changes(now_s)]


class TestWatchdog:
    def test_silence_from_the_subscription_on(self):
        """A stream that never sent anything is a warning at 120 s and an error at 300 s, once."""
        watchdog = Watchdog(120.0, 300.0)
        watchdog.subscribed("a", 0.0)
        assert [] == states(watchdog, 120.0)
        assert [("a", "warning")] == states(watchdog, 120.1)
        assert [] == states(watchdog, 300.0)
        assert [("a", "error")] == states(watchdog, 300.1)
        watchdog.heard("a", 301.0)
        assert [("a", "")] == states(watchdog, 301.0)

    @pytest.mark.parametrize(("interval_s", "limit_s"), [(0.01, 5.0), (1.0, 20.0), (30.0, 120.0)])
    def test_limit_is_relative_to_the_rate(self, interval_s, limit_s):
        """20 usual intervals, no less than 5 s and no more than 120 s."""
        watchdog = Watchdog(120.0, 300.0)
        watchdog.subscribed("a", 0.0)
        for number in range(1, 200):
            watchdog.heard("a", number * interval_s)
        assert limit_s == pytest.approx(watchdog.limit_s("a"))

    def test_others_are_not_watched(self):
        """A stream that nobody subscribed to is neither watched nor an error."""
        watchdog = Watchdog(120.0, 300.0)
        watchdog.heard("b", 0.0)
        assert [] == states(watchdog, 1_000.0)
