"""Crossed, locked and valid time, against a plain loop over messages."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.quality.crossed import touch_report, valid_time
from market_pipeline.quality.intervals import NO_SPANS, NS_PER_SECOND

CROSSED, LOCKED, SEEDLESS = BookFlag.CROSSED, BookFlag.LOCKED, BookFlag.NOT_SEEDED


def arrays(*messages):
    """Receipt times in ns and flags from (second, flags)."""
    receipt = np.array([round(second * NS_PER_SECOND) for second, _ in messages], dtype=np.int64)
    return receipt, np.array([int(flag) for _, flag in messages], dtype=np.uint16)


def touch_of(*messages, not_observed=NO_SPANS):
    """The touch report of messages given as (second, flags)."""
    receipt, flags = arrays(*messages)
    return touch_report(ts_receipt_ns=receipt, flags=flags, not_observed=not_observed)


class TestTouch:
    def test_a_run_lasts_until_the_next_uncrossed_message(self):
        """Two crossed messages in a row are one run, timed to the message that ends it."""
        report = touch_of((1, 0), (2, CROSSED), (3, CROSSED), (3.5, 0), (9, CROSSED), (9.25, 0))

        assert (2, 1.75) == (report.crossed_count, report.crossed_seconds)
        assert (1.5, 2 * NS_PER_SECOND) == (
            report.crossed_longest_seconds,
            report.crossed_longest_ns,
        )
        assert 2 * NS_PER_SECOND == report.crossed_first_ns

    def test_a_locked_book_is_not_crossed(self):
        """Locked time is counted on its own."""
        report = touch_of((1, LOCKED), (3, 0))

        assert (0, 0.0, 1, 2.0) == (
            report.crossed_count,
            report.crossed_seconds,
            report.locked_count,
            report.locked_seconds,
        )
        assert report.crossed_first_ns is None
        assert report.crossed_longest_ns is None

    def test_time_in_a_gap_is_not_crossed_time(self):
        """What the book did while nobody listened is not known."""
        gap = np.array([[2, 10]], dtype=np.int64) * NS_PER_SECOND
        report = touch_of((1, CROSSED), (2, CROSSED), (10, CROSSED), (11, 0), not_observed=gap)

        assert (1, 2.0) == (report.crossed_count, report.crossed_seconds)

    def test_the_last_message_holds_for_no_time(self):
        """A day that ends crossed has a crossed run of the time that was seen."""
        report = touch_of((1, 0), (2, CROSSED))

        assert (1, 0.0) == (report.crossed_count, report.crossed_seconds)


class TestValidTime:
    def test_warnings_do_not_invalidate(self):
        """A locked book, an empty side and unconfirmed depth are told but valid."""
        told = BookFlag.LOCKED | BookFlag.EMPTY_SIDE | BookFlag.UNCONFIRMED_DEPTH
        receipt, flags = arrays((0, told), (5, 0), (6, 0))
        valid = valid_time(ts_receipt_ns=receipt, flags=flags, not_observed=NO_SPANS)

        assert (6.0, 6.0, 0.0) == (
            valid.observed_seconds,
            valid.valid_seconds,
            valid.invalid_seconds,
        )

    def test_every_invalidating_flag_takes_its_time(self):
        """Each cause has its seconds; crossed time is left to its own check."""
        messages = [(second, flag) for second, flag in enumerate(INVALIDATING)]
        receipt, flags = arrays(*messages, (len(messages), 0), (20, 0))
        valid = valid_time(ts_receipt_ns=receipt, flags=flags, not_observed=NO_SPANS)

        assert dict.fromkeys(INVALIDATING, 1.0) == valid.seconds_by_flag
        assert (20.0, 14.0, 5.0) == (
            valid.observed_seconds,
            valid.valid_seconds,
            valid.invalid_seconds,
        )


@settings(max_examples=150, deadline=None)
@given(
    messages=st.lists(
        st.tuples(st.integers(0, 50), st.sampled_from([0, 1, 4, 5, 8, 256, 4 | 256])),
        min_size=1,
        max_size=20,
    ),
    gap=st.tuples(st.integers(0, 50), st.integers(0, 50)).map(sorted),
)
def test_agrees_with_a_loop_over_seconds(messages, gap):
    """Every second of the running clock belongs to one message and is counted once at most."""
    receipt, flags = arrays(*messages)
    spans = np.array([gap], dtype=np.int64) * NS_PER_SECOND
    spans = spans[spans[:, 0] < spans[:, 1]]
    touch = touch_report(ts_receipt_ns=receipt, flags=flags, not_observed=spans)
    valid = valid_time(ts_receipt_ns=receipt, flags=flags, not_observed=spans)

    counts = dict.fromkeys(("observed", "valid", "invalid", "crossed", "locked"), 0)
    latest = messages[0][0]
    for (_, flag), (following, _) in itertools.pairwise(messages):
        for second in range(latest, max(latest, following)):
            if gap[0] <= second < gap[1]:
                continue
            counts["observed"] += 1
            counts["valid"] += not flag & INVALIDATING
            counts["invalid"] += bool(flag & SEEDLESS)
            counts["crossed"] += bool(flag & CROSSED)
            counts["locked"] += bool(flag & LOCKED)
        latest = max(latest, following)

    assert list(counts.values()) == [
        valid.observed_seconds,
        valid.valid_seconds,
        valid.invalid_seconds,
        touch.crossed_seconds,
        touch.locked_seconds,
    ]
