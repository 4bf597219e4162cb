from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline_tests.quality.feeds import END_NS, RULE, START_NS, a_feed, gaps_of, times

HOUR = 3_600


def bounds(begin_s: float, end_s: float) -> tuple[int, int]:
    """From when until when of the day messages are expected."""
    begin_ns, end_ns = times(begin_s, end_s).tolist()
    return begin_ns, end_ns


def of_day(report):
    """The figures, head and tail of a day."""
    cover = report.cover
    return (
        report.figures.gap_count,
        round(report.figures.gap_seconds, 3),
        cover.quiet_count,
        round(cover.head_gap_seconds, 3),
        round(cover.tail_gap_seconds, 3),
    )


def test_the_day_it_is_listed():
    """Nothing is missing before it was: the head begins there."""
    feed = a_feed(begin=8 * HOUR + 1, end=24 * HOUR, every=1.0)

    assert (0, 0.0, 0, 8 * HOUR + 1.0, 1.0) == of_day(gaps_of(feed))
    assert (0, 0.0, 0, 1.0, 1.0) == of_day(gaps_of(feed, listed_ns=bounds(8 * HOUR, 24 * HOUR)))


def test_the_day_it_is_delisted():
    """Nothing is missing after it was: the tail ends there."""
    feed = a_feed(begin=0, end=9 * HOUR, every=1.0)

    assert (0, 0.0, 0, 0.0, 15 * HOUR + 1.0) == of_day(gaps_of(feed))
    assert (0, 0.0, 0, 0.0, 1.0) == of_day(gaps_of(feed, listed_ns=bounds(0, 9 * HOUR)))
    assert (0, 0.0, 0, 0.0, HOUR + 1.0) == of_day(gaps_of(feed, listed_ns=bounds(0, 10 * HOUR)))


def test_messages_before_it_trades():
    """A book that is shown before the first trade has no hole until then, and one after it."""
    feed = a_feed(end=12 * HOUR, every=1.0, silent=[(60, 8 * HOUR), (9 * HOUR, 10 * HOUR)])
    expected = bounds(8 * HOUR - 0.5, 12 * HOUR)
    found = gaps_of(feed, listed_ns=expected)

    assert 2 == gaps_of(feed).figures.gap_count
    assert (1, float(HOUR), 0, 0.0, 1.0) == of_day(found)
    assert (expected[0], int(feed[-1])) == (found.first_ns, found.last_ns)


def test_no_message_while_listed():
    """What came before is of no use to the time in which it trades."""
    expected = bounds(8 * HOUR, 12 * HOUR)
    found = gaps_of(a_feed(end=60, every=1.0), listed_ns=expected)

    assert (0, 0.0, 0, 0.0, 4.0 * HOUR) == of_day(found)
    assert (expected[0],) * 2 == (found.first_ns, found.last_ns)


day_seconds = st.integers(0, 24 * HOUR)


@given(
    st.lists(st.sampled_from([1, 1, 2, 30, 400, 9_000]), min_size=1, max_size=60),
    st.tuples(day_seconds, day_seconds).map(sorted),
    st.lists(day_seconds, max_size=5),
)
def test_is_what_is_left_of_the_whole_day(steps, listed, traded):
    """Spans of the whole day, cut to the part in which messages are expected.

    One that was cut is left if what it has of that would be a silence, or a hole, by itself.
    """
    receipt = START_NS + np.cumsum(np.array(steps)) * NS_PER_SECOND
    receipt = receipt[receipt < END_NS]
    trades = times(*traded)
    begin_ns, end_ns = bounds(*listed)
    whole, found = gaps_of(receipt, trades), gaps_of(receipt, trades, listed_ns=(begin_ns, end_ns))

    def left(spans, least_ns):
        kept = []
        for start, stop in spans[:, :2].tolist():
            cut = [min(max(each, begin_ns), end_ns) for each in (start, stop)]
            if cut == [start, stop] or cut[1] - cut[0] > least_ns:
                kept.append(cut)
        return kept

    hole_ns = max(round(RULE.quiet_floor_seconds * NS_PER_SECOND), whole.silence_ns)
    assert left(whole.spans, whole.silence_ns) == found.spans[:, :2].tolist()
    assert left(whole.quiet_spans, hole_ns) == found.quiet_spans.tolist()
    first, last = (min(max(each, begin_ns), end_ns) for each in (whole.first_ns, whole.last_ns))
    assert (first, last) == (found.first_ns, found.last_ns)
    assert (end_ns - begin_ns) / NS_PER_SECOND == (
        found.cover.head_gap_seconds + (last - first) / NS_PER_SECOND + found.cover.tail_gap_seconds
    )
