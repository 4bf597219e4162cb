"""Suspected gaps: planted ones are found where they are, and nothing else is."""

from __future__ import annotations

from datetime import date
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.config.instruments import BUILT_IN_CONVERTERS, NATIVE_SOURCES
from market_pipeline.quality import intervals
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.quality.measures.gap import GapRule, find_gaps, proven_gaps
from market_pipeline.sources.registry import GAP_EVIDENCE, GapEvidence, gap_evidence
from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.naive.gaps import Message, Shot, naive_gaps
from market_pipeline_tests.quality.feeds import (
    DAY,
    END_NS,
    MS,
    RULE,
    START_NS,
    a_feed,
    as_found,
    as_told,
    gaps_of,
    times,
    touches_of,
)
from market_pipeline_tests.quality.sample import SAMPLE_DAYS, sample_day


class TestSilence:
    def test_a_silence_with_a_trade_inside_is_a_gap(self):
        """Five silent seconds with two trades inside are one gap, with its place and its trades."""
        report = gaps_of(a_feed(silent=[(300, 305)]), times(299, 301, 302.5, 400))

        assert [[*times(300, 305).tolist(), 2]] == report.spans.tolist()
        assert (1, 5.0, 5.0) == (
            report.figures.gap_count,
            report.figures.gap_seconds,
            report.figures.longest_gap_seconds,
        )
        assert times(300)[0] == report.figures.first_gap_ns == report.figures.longest_gap_ns
        assert 1 == report.figures.gaps_per_hour[0] == sum(report.figures.gaps_per_hour)

    def test_a_silence_without_a_trade_is_none(self):
        """A market in which nobody trades may be silent."""
        report = gaps_of(a_feed(silent=[(300, 305)]), times(299, 400))

        assert (0, 0.0, 0) == (
            report.figures.gap_count,
            report.figures.gap_seconds,
            len(report.quiet_spans),
        )
        assert report.figures.first_gap_ns is None
        assert report.figures.longest_gap_ns is None

    @pytest.mark.parametrize("at", [300, 305])
    def test_a_trade_at_the_edge_is_not_inside(self, at):
        """A trade at the very time of a message before or after the silence proves nothing."""
        assert 0 == gaps_of(a_feed(silent=[(300, 305)]), times(at)).figures.gap_count

    @pytest.mark.parametrize("edge", [300, 304.9])
    def test_a_trade_must_be_inside_on_both_clocks(self, edge):
        """A trade in the middle of the silence on one clock and at its edge on the other is out."""
        feed = a_feed(silent=[(300, 305)])

        assert 0 == gaps_of(feed, times(edge), trade_origin=times(302)).figures.gap_count
        assert 0 == gaps_of(feed, times(302), trade_origin=times(edge)).figures.gap_count

    def test_the_trade_that_ended_the_silence_is_not_inside(self):
        """A trade within one usual inter-arrival time before the message it caused is no proof."""
        assert 0 == gaps_of(a_feed(silent=[(300, 305)]), times(304.95)).figures.gap_count

    def test_the_longest_of_several_is_told_apart_from_the_first(self):
        """First and longest gap are located separately; a gap counts in the hour it begins in."""
        feed = a_feed(end=7300, silent=[(300, 302), (3700, 3709), (7250, 7253)], every=0.25)
        report = gaps_of(feed, times(301, 3705, 7251))

        figures = report.figures
        assert (times(300)[0], times(302)[0]) == (figures.first_gap_ns, figures.gap_ends_ns[0])
        assert (times(3700)[0], 9.0) == (figures.longest_gap_ns, figures.longest_gap_seconds)
        assert (1, 1, 1) == report.figures.gaps_per_hour[:3]
        assert 14.0 == report.figures.gap_seconds

    def test_the_threshold_follows_the_feed(self):
        """In a feed of one message in three seconds a silence of ten is nothing unusual."""
        feed = a_feed(end=6000, silent=[(3000, 3012)], every=3.0)
        report = gaps_of(feed, times(3005))

        assert (15.0, 0) == (report.figures.gap_threshold_seconds, report.figures.gap_count)

    def test_the_threshold_has_a_floor(self):
        """In a feed of a message every 10 ms a silence below a second is not suspected."""
        feed = a_feed(end=60, silent=[(30, 30.9)], every=0.01)
        report = gaps_of(feed, times(30.4))

        assert (1.0, 0) == (report.figures.gap_threshold_seconds, report.figures.gap_count)

    def test_one_silence_does_not_raise_its_own_threshold(self):
        """The quantile is a time that occurred, rounded down, even in a day of few messages."""
        assert 1 == gaps_of(a_feed(end=20, silent=[(10, 15)]), times(12)).figures.gap_count

    def test_trades_may_come_in_any_order(self):
        """Trades are looked up by time, not by row."""
        feed = a_feed(silent=[(300, 305)])

        assert 3 == gaps_of(feed, times(400, 303, 301, 1, 302)).spans[0, 2]


class TestClocks:
    def test_a_step_of_the_receipt_clock_is_not_a_gap(self):
        """A receipt clock set forward by ten seconds makes no gap: the exchange's clock ran on."""
        origin = a_feed()
        receipt = np.where(origin > times(300)[0], origin + 10 * NS_PER_SECOND, origin)

        assert (
            0
            == gaps_of(
                receipt, times(305), origin=origin, trade_origin=times(300.05)
            ).figures.gap_count
        )

    def test_a_large_step_of_the_receipt_clock_is_a_hole_in_which_nothing_is_lost(self):
        """Of two minutes by which the receipt clock is set forward no message tells."""
        origin = a_feed()
        receipt = np.where(origin > times(300)[0], origin + 120 * NS_PER_SECOND, origin)
        report = gaps_of(receipt, origin=origin)

        assert [times(300, 420.1).tolist()] == report.quiet_spans.tolist()
        assert (0, []) == (report.figures.gap_count, report.lost_before.tolist())

    def test_a_run_of_wrong_receipt_times_covers_nothing(self):
        """Messages stamped with the day's last second, among others, are not the day's end."""
        receipt = a_feed()
        wrong = receipt.copy()
        wrong[1_000:1_100] = times(86_399)[0]
        report = gaps_of(wrong, origin=receipt)

        assert int(receipt[-1]) == report.last_ns

    def test_a_burst_after_a_stalled_line_is_not_a_gap(self):
        """Messages that were only late are all there."""
        origin = a_feed()
        stalled = (origin > times(300)[0]) & (origin < times(310)[0])
        receipt = np.where(stalled, times(310)[0], origin)

        assert 0 == gaps_of(receipt, times(305), origin=origin).figures.gap_count

    def test_a_receipt_clock_that_is_set_back_makes_no_overlapping_spans(self):
        """Spans stay sorted and disjoint when the receipt clock runs through a silence twice."""
        first = a_feed(silent=[(300, 310)])
        again = a_feed(begin=290, end=900, silent=[(305, 315)])
        receipt = np.concatenate((first[first < times(311)[0]], again))
        origin = np.concatenate(
            (first[first < times(311)[0]], again + 30 * NS_PER_SECOND),
        )
        report = gaps_of(
            receipt,
            times(302, 303, 312, 313),
            origin=origin,
            trade_origin=times(302, 303, 342, 343),
        )

        spans = report.not_observed
        assert report.figures.gap_count >= 1
        assert (spans[1:, 0] >= spans[:-1, 1]).all()

    def test_an_offset_between_the_clocks_changes_nothing(self):
        """A receipt clock that is 1.27 s behind finds the same gap."""
        receipt = a_feed(silent=[(300, 305)])
        trades = times(302)
        offset = 1_270 * MS
        report = gaps_of(receipt, trades, origin=receipt + offset, trade_origin=trades + offset)

        assert [[*times(300, 305).tolist(), 1]] == report.spans.tolist()


class TestQuietHoles:
    def test_a_long_silence_that_may_be_the_markets_is_a_quiet_hole(self):
        """Longer than the tolerance, but not as long as an outage of such a day."""
        ranks = (np.arange(20_000) + 0.5) / 20_000
        steps = 0.3 * ranks[np.random.default_rng(3).permutation(20_000)] ** (-1 / 1.5)
        steps[10_000] = 200.0
        seconds = np.cumsum(steps)
        report = gaps_of(times(*seconds))

        hole = times(seconds[9_999], seconds[10_000]).tolist()
        assert 0 == report.figures.gap_count
        assert hole in report.quiet_spans.tolist()
        assert hole in report.not_observed.tolist()
        lengths = np.diff(report.quiet_spans)[:, 0]
        assert (max(lengths) / NS_PER_SECOND, report.quiet_spans[lengths.argmax(), 0]) == (
            report.cover.longest_quiet_seconds,
            report.cover.longest_quiet_ns,
        )


class TestEdges:
    def test_head_and_tail_are_the_unseen_ends_of_the_utc_day(self):
        """What is missing before the first and after the last message is told in seconds."""
        report = gaps_of(a_feed(begin=90, end=600.05))

        assert (90.0, 85_800.0) == (
            report.cover.head_gap_seconds,
            pytest.approx(report.cover.tail_gap_seconds),
        )

    def test_messages_beyond_the_day_cover_nothing_of_it(self):
        """Another day's rows before and after leave head, tail and gaps as they are."""
        inside = a_feed(begin=90, silent=[(300, 310)])
        outside = a_feed() - 86_400 * NS_PER_SECOND, a_feed() + 86_400 * NS_PER_SECOND
        alone = gaps_of(inside)
        report = gaps_of(np.concatenate((outside[1], outside[0], inside, outside[1])))

        assert (90.0, alone.cover.tail_gap_seconds) == (
            report.cover.head_gap_seconds,
            report.cover.tail_gap_seconds,
        )
        assert alone.spans.tolist() == report.spans.tolist()
        assert (
            alone.messages_after + 2 * len(outside[0])
        ).tolist() == report.messages_after.tolist()
        assert (alone.first_ns, alone.last_ns) == (report.first_ns, report.last_ns)

    def test_a_day_of_another_days_messages_is_all_head(self):
        """No message inside the day covers nothing of it."""
        report = gaps_of(np.array([START_NS - 5, END_NS, END_NS + 5], dtype=np.int64))

        assert (86_400.0, 0.0, 0) == (
            report.cover.head_gap_seconds,
            report.cover.tail_gap_seconds,
            report.figures.gap_count,
        )
        assert (None, START_NS, START_NS) == (report.first_message, report.first_ns, report.last_ns)

    def test_absurd_times_are_outside_the_day(self):
        """No time overflows, whatever an int64 holds."""
        limits = np.iinfo(np.int64)
        report = gaps_of(np.array([limits.max, limits.min, START_NS, 0], dtype=np.int64))

        assert (0.0, 86_400.0) == (report.cover.head_gap_seconds, report.cover.tail_gap_seconds)

    def test_one_message_is_a_day(self):
        """A single message has no silence, and the floor is the threshold."""
        report = gaps_of(times(50), times(10))

        assert (0, 1.0, 50.0) == (
            report.figures.gap_count,
            report.figures.gap_threshold_seconds,
            report.cover.head_gap_seconds,
        )

    def test_no_message_is_missing_data(self):
        """An empty day is refused: it has no gaps, it is missing."""
        with pytest.raises(ValueError, match="missing data"):
            gaps_of(times())


class TestSequence:
    def test_holes_in_the_sequence_are_not_gaps(self):
        """The ids of vendor rows jump by thousands from message to message; that proves nothing."""
        feed = a_feed()
        report = gaps_of(feed, feed[::3], sequence=np.arange(len(feed)) * 4_711)

        assert (0, 0) == (report.figures.gap_count, report.figures.sequence_backwards)
        assert report.figures.first_sequence_backwards_ns is None

    def test_going_backwards_is_counted_and_located(self):
        """Each message whose id is below the one before counts; the first is located."""
        report = gaps_of(times(1, 2, 3, 4, 5), sequence=np.array([10, 9, 11, 11, 3]))

        assert (2, times(2)[0]) == (
            report.figures.sequence_backwards,
            report.figures.first_sequence_backwards_ns,
        )


class TestProof:
    def test_every_source_has_its_rule_and_the_page_says_it(self):
        """A source without a rule has no gaps; the page tells researchers which rule it is."""
        page = (REPOSITORY / "docs" / "checks" / "gap.md").read_text()

        assert set(GAP_EVIDENCE) == set(NATIVE_SOURCES)
        for source in (*NATIVE_SOURCES, *BUILT_IN_CONVERTERS):
            assert f"| `{source}` | {gap_evidence(source).sentence} |" in page

    def test_only_linked_ids_prove_and_silences_are_explained(self):
        """A doubt that begins with a suspected silence is that one's, and is not told twice."""
        doubts = np.array([[10, 20], [30, 90], [95, 99]], dtype=np.int64)
        silences = np.array([[2, 5], [30, 60]], dtype=np.int64)

        assert [[10, 20], [95, 99]] == proven_gaps(
            GapEvidence(True, "Linked."), doubts, silences, (0, 100)
        ).tolist()
        assert [[10, 20]] == proven_gaps(
            GapEvidence(True, "Linked."), doubts, silences, (10, 95)
        ).tolist()
        for evidence in GAP_EVIDENCE.values():
            assert 0 == len(proven_gaps(evidence, doubts, silences, (0, 100)))


STEPS_MS = st.sampled_from([0, 100, 900, 1_500, 8_000, 70_000])


@settings(max_examples=150, deadline=None)
@given(
    begin=st.sampled_from([0, -20_000, 86_395_000]),
    steps=st.lists(
        st.tuples(STEPS_MS, st.sampled_from([0, -2_000, -90_000, 20]), st.sampled_from([1, 5, 0])),
        min_size=1,
        max_size=25,
    ),
    trades=st.lists(st.tuples(st.integers(0, 200_000), st.integers(-50, 50)), max_size=30),
    shots=st.lists(
        st.tuples(st.integers(0, 200_000), st.integers(0, 60), st.integers(0, 1)), max_size=30
    ),
    quantile=st.sampled_from([0.001, 0.5, 0.9, 0.999]),
    chunk=st.sampled_from([1, 2, 7, 1_000]),
    cut=st.integers(1, 9),
)
def test_agrees_with_the_rule_in_plain_python(begin, steps, trades, shots, quantile, chunk, cut):
    """The rule finds what the plain loop finds, on any clocks, numbers, trades and snapshots, in
    chunks of any size, also where messages lie outside the day.
    """
    rule = GapRule(silence_quantile=quantile, silence_factor=2.0)
    origin = START_NS + np.cumsum([begin * MS] + [step * MS for step, _, _ in steps])[1:]
    receipt = origin + np.array([shift * MS for _, shift, _ in steps])
    number = np.cumsum([rise for _, _, rise in steps])
    sold = [(START_NS + at * MS, START_NS + (at + shift) * MS) for at, shift in trades]
    seen = [
        Shot(START_NS + (begin + at) * MS, START_NS + (begin + at) * MS, of, (float(touch),) * 4)
        for at, of, touch in sorted(shots)
    ]

    with patch.object(intervals, "CHUNK_MESSAGES", chunk):
        report = gaps_of(
            receipt,
            np.array([each for each, _ in sold], dtype=np.int64),
            origin=origin,
            trade_origin=np.array([each for _, each in sold], dtype=np.int64),
            sequence=number,
            rule=rule,
            snapshots=touches_of(seen, cut),
        )

    messages = [
        Message(*each)
        for each in zip(receipt.tolist(), origin.tolist(), number.tolist(), strict=True)
    ]
    expected = naive_gaps(messages, sold, seen, rule, (START_NS, END_NS))
    assert as_found(expected) == as_told(report)


@pytest.mark.parametrize(("exchange", "symbol", "day"), SAMPLE_DAYS)
def test_real_days_have_a_head_and_a_tail_and_no_gap(exchange, symbol, day):
    """The sample captures minutes around midnight: no gap in them, the rest of the day missing."""
    sample = sample_day(exchange, symbol, day)
    report = find_gaps(
        ts_receipt_ns=sample.ts_receipt_ns,
        ts_origin_ns=sample.ts_origin_ns,
        sequence_number=sample.sequence_number,
        trade_receipt_ns=sample.trades["ts_receipt_ns"].to_numpy(),
        trade_origin_ns=sample.trades["ts_origin_ns"].to_numpy(),
        day=day,
        rule=RULE,
    )

    assert (0, 0, 0) == (
        report.figures.gap_count,
        len(report.quiet_spans),
        report.figures.sequence_backwards,
    )
    evening = day in (date(2024, 8, 8), date(2024, 7, 18))
    seen, unseen = report.cover.head_gap_seconds, report.cover.tail_gap_seconds
    if evening:
        seen, unseen = unseen, seen
    assert seen < 1.1
    assert unseen > 86_000
    assert (np.diff(sample.sequence_number) > 1).sum() > 1_000


def test_a_silence_cut_into_a_real_day_is_found():
    """Two seconds of messages taken out of a real day, trades left in, are found to the message."""
    sample = sample_day("BINANCE_FUTURES", "BTC-USDT-PERP", DAY)
    receipt = sample.ts_receipt_ns
    kept = (receipt < receipt[3_000]) | (receipt > receipt[3_000] + 2 * NS_PER_SECOND)
    report = find_gaps(
        ts_receipt_ns=receipt[kept],
        ts_origin_ns=sample.ts_origin_ns[kept],
        sequence_number=sample.sequence_number[kept],
        trade_receipt_ns=sample.trades["ts_receipt_ns"].to_numpy(),
        trade_origin_ns=sample.trades["ts_origin_ns"].to_numpy(),
        day=DAY,
        rule=RULE,
    )

    assert 1 == report.figures.gap_count
    after = receipt[3_000:][kept[3_000:]][0]
    assert [[receipt[2_999], after]] == report.spans[:, :2].tolist()
