"""Crossed, locked and valid time, against plain loops over messages and over nanoseconds."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.evidence import UNVERIFIED, position_of
from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.quality.intervals import NO_SPANS, NS_PER_SECOND
from market_pipeline.quality.measures.crossed import touch_report, valid_time
from market_pipeline_tests.quality.spans import book_spans, observed_of, spans_of

BY_CAUSE = {
    BookFlag.NOT_SEEDED: "not_seeded_seconds",
    BookFlag.GAP: "after_gap_seconds",
    BookFlag.STALE: "stale_seconds",
    BookFlag.SNAPSHOT_MISMATCH: "snapshot_mismatch_seconds",
    BookFlag.PRECISION_LOSS: "precision_loss_seconds",
}
UNSOUND = (
    BookFlag.OUTSIDE_DAY,
    BookFlag.OUT_OF_ORDER,
    BookFlag.BAD_SEQUENCE,
    BookFlag.BAD_TS_RECEIPT,
)
CROSSED, LOCKED, SEEDLESS = BookFlag.CROSSED, BookFlag.LOCKED, BookFlag.NOT_SEEDED


def arrays(*messages):
    """Receipt times in ns and flags from (second, flags)."""
    receipt = np.array([round(second * NS_PER_SECOND) for second, _ in messages], dtype=np.int64)
    return receipt, np.array([int(flag) for _, flag in messages], dtype=np.uint16)


def touch_of(*messages, not_observed=NO_SPANS):
    """The touch report of messages given as (second, flags)."""
    receipt, flags = arrays(*messages)
    return touch_report(
        spans_of(receipt, flags), observed_of(receipt, not_observed), day_start_ns=0
    )


def timed(spans, observed):
    """The valid time of spans, of a whole day."""
    return valid_time(spans, observed, expected_ns=86_400 * NS_PER_SECOND)


def valid_of(receipt, flags, not_observed=NO_SPANS):
    """The valid time of messages."""
    return timed(spans_of(receipt, flags), observed_of(receipt, not_observed))


class TestTouch:
    def test_a_run_lasts_until_the_next_uncrossed_message(self):
        """Two crossed messages in a row are one run, timed to the message that ends it."""
        report = touch_of((1, 0), (2, CROSSED), (3, CROSSED), (3.5, 0), (9, CROSSED), (9.25, 0))

        assert (2, 1.75) == (report.figures.crossed_count, report.figures.crossed_seconds)
        assert (1.5, 2 * NS_PER_SECOND) == (
            report.figures.longest_crossed_seconds,
            report.figures.longest_crossed_ns,
        )
        assert 2 * NS_PER_SECOND == report.figures.first_crossed_ns

    def test_a_locked_book_is_not_crossed(self):
        """Locked time is counted on its own."""
        report = touch_of((1, LOCKED), (3, 0))

        assert (0, 0.0, 1, 2.0) == (
            report.figures.crossed_count,
            report.figures.crossed_seconds,
            report.figures.locked_count,
            report.figures.locked_seconds,
        )
        assert report.figures.first_crossed_ns is None
        assert report.figures.longest_crossed_ns is None

    def test_time_in_a_gap_is_not_crossed_time(self):
        """What the book did while nobody listened is not known."""
        gap = np.array([[2, 10]], dtype=np.int64) * NS_PER_SECOND
        report = touch_of((1, CROSSED), (2, CROSSED), (10, CROSSED), (11, 0), not_observed=gap)

        assert (1, 2.0) == (report.figures.crossed_count, report.figures.crossed_seconds)

    def test_the_last_message_holds_for_no_time(self):
        """A day that ends crossed has a crossed run of the time that was seen."""
        report = touch_of((1, 0), (2, CROSSED))

        assert (1, 0.0) == (report.figures.crossed_count, report.figures.crossed_seconds)


class TestValidTime:
    def test_warnings_do_not_invalidate(self):
        """A locked book, an empty side and unconfirmed depth are told but valid."""
        told = BookFlag.LOCKED | BookFlag.EMPTY_SIDE | BookFlag.UNCONFIRMED_DEPTH
        receipt, flags = arrays((0, told), (5, 0), (6, 0))
        valid = valid_of(receipt, flags)

        assert (6.0, 6.0, 0.0) == (
            valid.observed_seconds,
            valid.valid_seconds,
            valid.invalid_seconds,
        )

    def test_every_invalidating_flag_takes_its_time(self):
        """Each cause has its seconds; crossed time is left to its own check."""
        messages = [(second, flag) for second, flag in enumerate(INVALIDATING)]
        receipt, flags = arrays(*messages, (len(messages), 0), (20, 0))
        valid = valid_of(receipt, flags)

        assert [1.0] * len(BY_CAUSE) == [getattr(valid, name) for name in BY_CAUSE.values()]
        assert len(UNSOUND) == valid.unsound_seconds
        assert (20.0, 10.0, 9.0) == (
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
    touch = touch_of(*messages, not_observed=spans)
    valid = valid_of(receipt, flags, spans)

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
        touch.figures.crossed_seconds,
        touch.figures.locked_seconds,
    ]


@settings(max_examples=150, deadline=None)
@given(messages=MESSAGES, gap=GAP)
def test_runs_are_those_of_a_loop_over_messages(messages, gap):
    """Count, first and longest crossed run, and locked runs, whatever the clock and the flags."""
    spans = np.array([gap], dtype=np.int64) * NS_PER_SECOND
    spans = spans[spans[:, 0] < spans[:, 1]]
    touch = touch_of(*messages, not_observed=spans)

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

    assert (len(crossed), len(runs[LOCKED])) == (
        touch.figures.crossed_count,
        touch.figures.locked_count,
    )
    assert longest[1] == touch.figures.longest_crossed_seconds
    assert [crossed[0][0] if crossed else None, longest[0]] == [
        None if ns is None else ns / NS_PER_SECOND
        for ns in (touch.figures.first_crossed_ns, touch.figures.longest_crossed_ns)
    ]


class TestHours:
    def test_crossed_time_is_told_by_the_hour_it_fell_into(self):
        """A run across an hour's end is in both; what is beyond the day is in its first or last."""
        hour = 3_600
        runs = [(-5, 3), (hour - 2, hour + 4), (24 * hour - 1, 24 * hour + 1)]
        messages = [each for start, end in runs for each in ((start, CROSSED), (end, 0))]
        report = touch_of(*messages)

        assert (8.0 + 2.0, 4.0, 2.0) == (
            report.figures.crossed_seconds_per_hour[0],
            report.figures.crossed_seconds_per_hour[1],
            report.figures.crossed_seconds_per_hour[23],
        )
        assert report.figures.crossed_seconds == sum(report.figures.crossed_seconds_per_hour)
        assert 24 == len(report.figures.crossed_seconds_per_hour)


class TestMismatches:
    def test_the_longest_time_to_a_right_book(self):
        """What was silent does not count, and a book that passed every comparison has no figure."""
        failed, other = map(position_of, (BookFlag.SNAPSHOT_MISMATCH, BookFlag.GAP))
        silent = np.array([[10, 40]], dtype=np.int64)
        clock = (0, 100)
        spans = book_spans((failed, 2, 5), (failed, 9, 43), (other, 50, 99))

        assert 4e-9 == timed(spans, observed_of(clock, silent)).longest_reconvergence_seconds
        passed = book_spans((other, 50, 99))
        assert timed(passed, observed_of(clock)).longest_reconvergence_seconds is None

    def test_a_mismatch_that_was_repaired_at_once_takes_its_time(self):
        """No row carries its flag, but the book between two messages was wrong."""
        spans = book_spans((position_of(BookFlag.SNAPSHOT_MISMATCH), 3, 5))
        valid = timed(spans, observed_of((0, 10)))

        assert (8e-9, 2e-9) == (valid.valid_seconds, valid.invalid_seconds)
        assert 2e-9 == valid.snapshot_mismatch_seconds


FLAGS = st.sampled_from([*INVALIDATING, BookFlag.LOCKED, BookFlag.UNCONFIRMED_DEPTH])
_ALONE = (BookFlag.CROSSED, BookFlag.UNCONFIRMED_DEPTH)
SPAN = st.tuples(FLAGS, st.integers(0, 40), st.integers(0, 60)).filter(lambda s: s[1] <= s[2])


@settings(max_examples=200, deadline=None)
@given(
    spans=st.lists(SPAN, max_size=12),
    first=st.integers(0, 20),
    last=st.integers(20, 45),
    hole=GAP,
    unverified=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=4),
)
def test_agrees_with_a_loop_over_nanoseconds(spans, first, last, hole, unverified):
    """Observed time is valid, invalid or only crossed, and valid time is verified or not, whatever
    spans overlap, touch or reach beyond the last message.
    """
    # Runs of the flags that a message alone sets are disjoint by nature: keep those that are.
    kept, reached = [], dict.fromkeys(_ALONE, -1)
    for flag, start, end in sorted(spans, key=lambda span: span[1]):
        if flag not in _ALONE or start >= reached[flag]:
            kept.append((flag, start, end))
            reached[flag] = end
    holes = np.array([hole], dtype=np.int64)
    holes = holes[holes[:, 0] < holes[:, 1]]
    made = book_spans(
        *((position_of(flag), start, end) for flag, start, end in kept),
        *((UNVERIFIED, start, start + length) for start, length in sorted(unverified)),
    )
    valid = timed(made, observed_of((first, last), holes))

    def covered(*flags):
        return {ns for flag, start, end in kept if flag in flags for ns in range(start, end)}

    observed = {ns for ns in range(first, last) if not hole[0] <= ns < hole[1]}
    invalid = observed & covered(*(INVALIDATING & ~BookFlag.CROSSED))
    only_crossed = (observed & covered(BookFlag.CROSSED)) - invalid
    expected = (len(observed), len(observed - invalid - only_crossed), len(invalid))
    assert expected == tuple(
        round(seconds * 1e9)
        for seconds in (valid.observed_seconds, valid.valid_seconds, valid.invalid_seconds)
    )
    valid_ns = observed - invalid - only_crossed
    unconfirmed = valid_ns & covered(BookFlag.UNCONFIRMED_DEPTH)
    assert len(unconfirmed) == round(valid.unconfirmed_seconds * 1e9)
    nobody = {ns for start, length in unverified for ns in range(start, start + length)}
    assert (
        len(valid_ns - nobody),
        len(valid_ns & nobody),
        86_400 * NS_PER_SECOND - len(observed),
        len(observed & covered(*UNSOUND)),
    ) == tuple(
        round(seconds * 1e9)
        for seconds in (
            valid.verified_seconds,
            valid.unverified_seconds,
            valid.missing_seconds,
            valid.unsound_seconds,
        )
    )
    assert {flag: len(observed & covered(flag)) for flag in BY_CAUSE} == {
        flag: round(getattr(valid, name) * 1e9) for flag, name in BY_CAUSE.items()
    }
