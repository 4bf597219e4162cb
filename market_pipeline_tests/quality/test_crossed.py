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


MESSAGES = st.lists(
    st.tuples(st.integers(0, 50), st.sampled_from([0, 1, 4, 5, 8, 256, 4 | 256])),
    min_size=1,
    max_size=20,
)
GAP = st.tuples(st.integers(0, 50), st.integers(0, 50)).map(sorted)


@settings(max_examples=150, deadline=None)
@given(messages=MESSAGES, gap=GAP)
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


@settings(max_examples=150, deadline=None)
@given(messages=MESSAGES, gap=GAP)
def test_runs_are_those_of_a_loop_over_messages(messages, gap):
    """Count, first and longest crossed run, and locked runs, whatever the clock and the flags."""
    receipt, flags = arrays(*messages)
    spans = np.array([gap], dtype=np.int64) * NS_PER_SECOND
    spans = spans[spans[:, 0] < spans[:, 1]]
    touch = touch_report(ts_receipt_ns=receipt, flags=flags, not_observed=spans)

    clock = list(itertools.accumulate((second for second, _ in messages), max))
    held = [
        sum(not gap[0] <= second < gap[1] for second in range(start, end))
        for start, end in itertools.pairwise([*clock, clock[-1]])
    ]
    runs = {}
    for wanted in (CROSSED, LOCKED):
        marked = zip(clock, held, (bool(flag & wanted) for _, flag in messages), strict=True)
        grouped = [list(run) for bit, run in itertools.groupby(marked, lambda row: row[2]) if bit]
        runs[wanted] = [(run[0][0], sum(seconds for _, seconds, _ in run)) for run in grouped]
    crossed = runs[CROSSED]
    longest = max(crossed, key=lambda run: run[1], default=(None, 0))

    assert (len(crossed), len(runs[LOCKED])) == (touch.crossed_count, touch.locked_count)
    assert longest[1] == touch.crossed_longest_seconds
    assert [crossed[0][0] if crossed else None, longest[0]] == [
        None if ns is None else ns / NS_PER_SECOND
        for ns in (touch.crossed_first_ns, touch.crossed_longest_ns)
    ]
