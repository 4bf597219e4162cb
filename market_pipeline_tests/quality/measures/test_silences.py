"""Outages: found by the rhythm of the day and around them, and not in markets that are quiet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.quality.measures.gap import find_gaps
from market_pipeline_tests.naive.gaps import Message, naive_gaps
from market_pipeline_tests.quality.feeds import (
    END_NS,
    RULE,
    START_NS,
    a_feed,
    as_found,
    as_told,
    gaps_of,
    times,
)
from market_pipeline_tests.quality.sample import SAMPLE_DAYS, sample_day


class TestOutages:
    def test_a_silence_of_everything_is_one(self):
        """Twenty seconds of nothing in a feed of ten messages a second are a gap."""
        report = gaps_of(a_feed(silent=[(200, 220)]), times(100, 400))

        assert [[*times(200, 220).tolist(), 0]] == report.spans.tolist()
        assert ([0], 1, 0) == (
            report.changes.tolist(),
            report.figures.outage_count,
            len(report.quiet_spans),
        )
        assert 10.0 == pytest.approx(report.figures.outage_factor)
        assert [times(200, 220).tolist()] == report.not_observed.tolist()

    def test_up_to_the_floor_a_market_may_hold_its_breath(self):
        """What nothing contradicts is no outage for five seconds."""
        assert 0 == gaps_of(a_feed(silent=[(200, 205)])).figures.gap_count
        assert 1 == gaps_of(a_feed(silent=[(200, 205.1)])).figures.gap_count

    def test_a_thin_market_has_none(self):
        """Where a message in two minutes is usual, four silent minutes are nothing."""
        report = gaps_of(a_feed(end=36_000, silent=[(3_600, 3_840)], every=120))

        assert (0, 0) == (report.figures.gap_count, len(report.quiet_spans))

    def test_the_days_own_tail_decides(self):
        """A minute of nothing is an outage where times thin out quickly, and not where slowly."""
        ranks = (np.arange(20_000) + 0.5) / 20_000
        order = np.random.default_rng(3).permutation(20_000)
        light, heavy = -np.log(ranks), 0.3 * ranks ** (-1 / 1.5)
        for steps, expected in ((light, 1), (heavy, 0)):
            seconds = np.cumsum(steps[order])
            seconds[10_000:] += 60
            assert expected == gaps_of(times(*seconds)).figures.gap_count

    def test_a_quiet_night_after_a_busy_day_is_none(self):
        """The neighbourhood is asked: where one message in ten seconds came, ten are nothing."""
        busy = np.arange(0, 5_000, 0.05)
        night = 5_000 + np.cumsum(np.random.default_rng(5).exponential(10, 50))
        report = gaps_of(times(*busy, *night))

        assert (0, 0) == (report.figures.gap_count, len(report.quiet_spans))

    def test_a_feed_that_breaks_off_again_and_again_hides_nothing(self):
        """Six outages of ten seconds, a minute apart, are all found."""
        silent = [(60 * k + 5, 60 * k + 15) for k in range(1, 7)]

        assert 6 == gaps_of(a_feed(silent=silent)).figures.gap_count

    def test_a_few_messages_tell_no_rhythm(self):
        """Of a day of some messages nobody can say what is unusual; a long hole is a quiet one."""
        report = gaps_of(times(1, 2, 3, 4, 5, 400, 401, 402))

        assert (0, None) == (report.figures.gap_count, report.figures.outage_factor)
        assert [times(5, 400).tolist()] == report.quiet_spans.tolist()

    @pytest.mark.parametrize("origin", [0, 1_723_075_200])
    def test_an_exchange_clock_that_stands_still_is_not_asked(self, origin):
        """Exchange times of 0 throughout, or in other units, hide no outage."""
        receipt = a_feed(silent=[(200, 220)])

        report = gaps_of(receipt, origin=np.full_like(receipt, origin))
        assert [times(200, 220).tolist()] == report.not_observed.tolist()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    messages=st.integers(60, 1_500),
    every=st.sampled_from([0.02, 0.5, 20.0]),
    shape=st.sampled_from([0.3, 0.6, 1.0]),
    silent=st.lists(
        st.tuples(st.integers(1, 1_499), st.sampled_from([2, 6, 30, 400])), max_size=12
    ),
    slower=st.sampled_from([1.0, 30.0]),
    pace=st.sampled_from([1.0, 0.001, 0.0]),
)
def test_outages_are_those_of_the_plain_rule(seed, messages, every, shape, silent, slower, pace):
    """Heavy and light tails, a rhythm that slows down, and an exchange clock that says nothing."""
    steps = every * np.random.default_rng(seed).weibull(shape, messages)
    steps[messages // 2 :] *= slower
    for at, factor in silent:
        steps[at % messages] += factor
    receipt = START_NS + np.round(np.cumsum(steps) * 1e6).astype(np.int64) * 1_000
    origin = np.round(receipt * pace).astype(np.int64)
    number = np.arange(messages)
    report = gaps_of(receipt, origin=origin, sequence=number)

    given_messages = [
        Message(*each)
        for each in zip(receipt.tolist(), origin.tolist(), number.tolist(), strict=True)
    ]
    expected = naive_gaps(given_messages, [], [], RULE, (START_NS, END_NS))
    assert as_found(expected) == as_told(report)


@pytest.mark.parametrize("seconds", [8, 20])
@pytest.mark.parametrize(("exchange", "symbol", "day"), SAMPLE_DAYS)
def test_an_outage_of_all_streams_is_found_in_a_real_day(exchange, symbol, day, seconds):
    """Seconds cut out of a real day in all its streams are an outage, and nothing else is."""
    sample = sample_day(exchange, symbol, day)
    start_ns = int(sample.ts_receipt_ns[len(sample.ts_receipt_ns) // 3])

    def heard(ts_ns):
        return (ts_ns <= start_ns) | (ts_ns >= start_ns + seconds * NS_PER_SECOND)

    kept = heard(sample.ts_receipt_ns)
    traded = sample.trades.filter(heard(sample.trades["ts_receipt_ns"].to_numpy()))
    report = find_gaps(
        ts_receipt_ns=sample.ts_receipt_ns[kept],
        ts_origin_ns=sample.ts_origin_ns[kept],
        sequence_number=sample.sequence_number[kept],
        trade_receipt_ns=traded["ts_receipt_ns"].to_numpy(),
        trade_origin_ns=traded["ts_origin_ns"].to_numpy(),
        day=day,
        rule=RULE,
    )

    assert (1, 0) == (report.figures.gap_count, len(report.quiet_spans))
    assert start_ns == report.figures.first_gap_ns
    assert seconds <= report.figures.gap_seconds < seconds + 1
