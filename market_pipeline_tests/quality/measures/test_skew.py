"""The clock report: drift despite congestion, steps despite drift, the same in chunks."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.flags import BookFlag
from market_pipeline.quality import intervals
from market_pipeline.quality.intervals import NS_PER_SECOND, day_bounds_ns
from market_pipeline.quality.measures import skew
from market_pipeline.quality.measures.skew import MAX_DRIFT_PPM, BadStamps, bad_stamps, clock_report
from market_pipeline_tests.quality.sample import SAMPLE_DAYS, sample_day

DAY = date(2024, 8, 8)
START_NS, _ = day_bounds_ns(DAY)
MS = 1_000_000
STAMP_FLAGS = (int(BookFlag.BAD_TS_RECEIPT), int(BookFlag.BAD_TS_ORIGIN))


def a_day(seed=7, *, seconds=3_600, per_second=20, delay_ms=2.0, jitter_ms=1.0, drift_ppm=0.0):
    """Origin times in whole milliseconds and receipt times with exponential jitter."""
    random = np.random.default_rng(seed)
    elapsed_ms = np.sort(random.integers(0, seconds * 1_000, seconds * per_second))
    origin = START_NS + elapsed_ms * MS
    delay = delay_ms + random.exponential(jitter_ms, len(origin)) + elapsed_ms * drift_ppm * 1e-6
    return origin, origin + np.round(delay * MS).astype(np.int64)


def at(seconds):
    """An instant of the day."""
    return START_NS + round(seconds * NS_PER_SECOND)


def report_of(origin, receipt, step_warn_ms=1.0, flags=None):
    """The report of a day with a step bound of a millisecond."""
    return clock_report(
        ts_origin_ns=origin,
        ts_receipt_ns=receipt,
        day=DAY,
        step_warn_ms=step_warn_ms,
        flags=flags,
    )


class TestQuantiles:
    def test_quantiles_and_negative_share(self):
        """Quantiles are of receipt minus origin in milliseconds; early messages are counted."""
        origin = START_NS + np.arange(1_001) * MS
        receipt = origin + np.arange(-100, 901) * MS
        report = report_of(origin, receipt)

        assert (-99.0, -90.0, 400.0, 890.0, 899.0) == pytest.approx(
            (
                report.figures.skew_p001_ms,
                report.figures.skew_p01_ms,
                report.figures.skew_p50_ms,
                report.figures.skew_p99_ms,
                report.figures.skew_p999_ms,
            )
        )
        assert 100 / 1_001 == report.figures.negative_latency_share
        assert 0 == report.first_early_index

    def test_the_first_early_message_is_located(self):
        """And there is none where every message came later than it was sent."""
        origin, receipt = a_day()
        assert report_of(origin, receipt).first_early_index is None
        receipt[[700, 900]] = origin[[700, 900]] - 1
        assert 700 == report_of(origin, receipt).first_early_index

    def test_the_worst_message_is_located(self):
        """The message farthest from the median either way is named by index, value and time."""
        origin, receipt = a_day()
        receipt[500] -= 700 * MS
        report = report_of(origin, receipt)

        assert (500, receipt[500]) == (report.worst_index, report.figures.worst_skew_ns)
        assert (receipt[500] - origin[500]) / MS == report.figures.worst_skew_ms

    def test_hours_without_messages_have_no_median(self):
        """The median by hour is null where nothing was received."""
        origin = np.array([at(10), at(20), at(7_300)])
        report = report_of(origin, origin + np.array([1, 3, 8]) * MS)

        assert (2.0, None, 8.0, None) == report.figures.skew_p50_ms_per_hour[:4]
        assert 24 == len(report.figures.skew_p50_ms_per_hour)

    def test_no_message_is_missing_data(self):
        """An empty day is refused: it has no clock, it is missing."""
        with pytest.raises(ValueError, match="missing data"):
            report_of(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


class TestGranularity:
    def test_it_sees_through_the_vendors_quantisation(self):
        """Milliseconds that were rounded to 256 ns are still milliseconds."""
        random = np.random.default_rng(3)
        exact = START_NS + np.cumsum(random.integers(1, 50, 500)) * MS
        report = report_of(exact // 256 * 256 + 128, exact + 1_000 * random.integers(0, 9, 500))

        assert (1_000, 1) == (
            report.figures.origin_granularity_us,
            report.figures.receipt_granularity_us,
        )

    def test_a_clock_that_stands_still_has_none(self):
        """Without two different times there is no granularity to tell."""
        report = report_of(np.array([at(1), at(1)]), np.array([at(1), at(2)]))

        assert report.figures.origin_granularity_us is None
        assert 1_000_000 == report.figures.receipt_granularity_us


class TestDrift:
    def test_congestion_in_half_of_the_day_is_not_drift(self):
        """Rising queues in the second half leave the hull where least squares would be misled."""
        origin, receipt = a_day(seconds=14_400, per_second=5, drift_ppm=0.2)
        late = origin > at(7_200)
        queue = np.random.default_rng(1).exponential(5.0, late.sum()) * MS
        receipt[late] += queue.astype(np.int64)
        report = report_of(origin, receipt)
        least_squares = np.polyfit(origin - START_NS, receipt - origin, 1)[0] * 1e6

        assert 0.2 == pytest.approx(report.figures.clock_drift_ppm, abs=0.02)
        assert abs(least_squares - 0.2) > 0.3

    def test_a_step_is_not_drift(self):
        """The slope is fitted between steps: a step of 50 ms in an hour would be 14 ppm."""
        origin, receipt = a_day(drift_ppm=3.0)
        receipt[origin >= at(1_800)] += 50 * MS
        report = report_of(origin, receipt)

        assert 1 == len(report.steps)
        assert 3.0 == pytest.approx(report.figures.clock_drift_ppm, abs=0.3)

    def test_less_than_a_minute_says_nothing(self):
        """Too short a stretch has no drift rather than a wrong one."""
        assert report_of(*a_day(seconds=50)).figures.clock_drift_ppm is None

    def test_a_receipt_clock_that_loses_time_has_a_negative_drift(self):
        """The sign is that of the receipt clock against the exchange's."""
        assert -80.0 == pytest.approx(
            report_of(*a_day(drift_ppm=-80.0)).figures.clock_drift_ppm, abs=0.3
        )


class TestBadStamps:
    ODD = (0, -1, -(2**63), 2**63 - 1, 2**62, START_NS // 1_000, START_NS - 3_600 * NS_PER_SECOND)

    @pytest.mark.parametrize("clock", ["origin", "receipt"])
    @pytest.mark.parametrize("stamp", [*ODD, at(86_399), at(1_800) + 2 * NS_PER_SECOND])
    @pytest.mark.parametrize("places", [[9_000], [0], [-1], [0, 1, 2], [100, 30_000, 71_000]])
    def test_no_stamp_makes_a_drift_or_a_step(self, clock, stamp, places):
        """One odd time, flagged or not, changes neither the drift nor the steps of a day."""
        origin, receipt = a_day(drift_ppm=20.0)
        receipt[origin >= at(2_000)] += 40 * MS
        expected = report_of(origin, receipt)
        (origin if clock == "origin" else receipt)[places] = stamp
        flags = np.zeros(len(origin), np.uint16)
        flags[places] = BookFlag.BAD_TS_ORIGIN if clock == "origin" else BookFlag.BAD_TS_RECEIPT

        for given_flags in (None, flags):
            report = report_of(origin, receipt, flags=given_flags)
            assert expected.figures.clock_drift_ppm == pytest.approx(
                report.figures.clock_drift_ppm, abs=0.2
            )
            assert report.figures.clock_drift_remark is None
            assert [step.index for step in expected.steps] == [each.index for each in report.steps]

    def test_what_is_flagged_has_no_part_in_any_figure(self):
        """The report is that of the other messages, with the places of all."""
        origin, receipt = a_day(seconds=600)
        receipt[origin >= at(300)] += 40 * MS
        random = np.random.default_rng(3)
        flags = random.choice([0, 0, 0, 1, *STAMP_FLAGS], len(origin)).astype(np.uint16)
        bad = (flags & np.uint16(sum(STAMP_FLAGS))) != 0
        expected = report_of(origin[~bad], receipt[~bad])
        odd = bad.sum()
        origin[bad] = random.integers(-(2**63), 2**63 - 1, odd)
        receipt[bad] = random.integers(-(2**63), 2**63 - 1, odd)
        report = report_of(origin, receipt, flags=flags)
        places = np.flatnonzero(~bad)

        assert (places[expected.worst_index], [places[step.index] for step in expected.steps]) == (
            report.worst_index,
            [step.index for step in report.steps],
        )
        assert replace(
            report,
            worst_index=expected.worst_index,
            steps=expected.steps,
            first_early_index=expected.first_early_index,
        ) == replace(expected)

    def test_are_counted_and_located(self):
        """By clock, with the first of each; a message may have both."""
        flags = np.zeros(9, np.uint16)
        flags[[2, 5]] |= np.uint16(BookFlag.BAD_TS_RECEIPT)
        flags[[5, 7, 8]] |= np.uint16(BookFlag.BAD_TS_ORIGIN)

        assert BadStamps(2, 3, 2, 5) == bad_stamps(flags)
        assert BadStamps(0, 0, None, None) == bad_stamps(np.ones(3, np.uint16))

    def test_all_bad_is_no_clock(self):
        """A day of nothing but bad stamps has no figure to be validated by."""
        origin, receipt = a_day(seconds=5)
        flags = np.full(len(origin), BookFlag.BAD_TS_RECEIPT, np.uint16)

        with pytest.raises(ValueError, match="to go by"):
            report_of(origin, receipt, flags=flags)

    @pytest.mark.parametrize("stamp", ODD)
    def test_all_stamps_may_be_the_same_nonsense(self, stamp):
        """Of either clock or of both: figures, whatever they are, and no error."""
        origin, receipt = a_day(seconds=300)
        same = np.full(len(origin), stamp, np.int64)

        for clocks in ((same, receipt), (origin, same), (same, same)):
            report = report_of(*clocks)
            assert (
                report.figures.clock_drift_ppm is None
                or abs(report.figures.clock_drift_ppm) <= MAX_DRIFT_PPM
            )
            assert np.isfinite(report.figures.skew_p50_ms)

    def test_what_is_no_drift_is_said_in_words(self):
        """A clock in another unit gains half a million parts and more: no drift is told."""
        origin, receipt = a_day()
        slow = START_NS + (origin - START_NS) // 3
        report = report_of(slow, receipt)

        assert report.figures.clock_drift_ppm is None
        assert (
            report.figures.clock_drift_remark is not None
            and "which is no drift" in report.figures.clock_drift_remark
        )

    def test_the_stretches_that_drift_still_do(self):
        """A part of the day with a mad clock leaves the drift of the others."""
        origin, receipt = a_day(drift_ppm=15.0)
        mad = origin >= at(2_400)
        receipt[mad] += (origin[mad] - at(2_400)) // 20 + 600_000 * MS
        report = report_of(origin, receipt)

        assert 15.0 == pytest.approx(report.figures.clock_drift_ppm, abs=0.5)
        assert "in 1,200 s the least delay" in (report.figures.clock_drift_remark or "")


class TestSteps:
    @settings(max_examples=25, deadline=None)
    @given(
        seed=st.integers(0, 999),
        at_second=st.floats(120, 3_480),
        size_ms=st.floats(4, 5_000),
        falls=st.booleans(),
        drift_ppm=st.floats(-60, 60),
    )
    def test_a_planted_step_is_found_where_it_is(self, seed, at_second, size_ms, falls, drift_ppm):
        """One step, at its second, of its size, whatever the drift around it."""
        origin, receipt = a_day(seed, drift_ppm=drift_ppm)
        size_ms = -size_ms if falls else size_ms
        receipt[origin >= at(at_second)] += round(size_ms * MS)
        report = report_of(origin, receipt)

        assert 1 == len(report.steps)
        step = report.steps[0]
        assert size_ms == pytest.approx(step.size_ms, abs=1.0)
        assert abs(int(origin[step.index]) - at(at_second)) < 2 * NS_PER_SECOND
        assert receipt[step.index] == step.ts_receipt_ns

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 999), drift_ppm=st.floats(-300, 300))
    def test_a_drift_however_steep_has_no_step(self, seed, drift_ppm):
        """What the local trend explains is no step."""
        assert () == report_of(*a_day(seed, drift_ppm=drift_ppm)).steps

    def test_a_drift_that_changes_slowly_has_no_step(self):
        """A clock that warms up and cools down by 20 ppm in an hour does not step."""
        origin, receipt = a_day(seconds=14_400, per_second=5)
        phase = (origin - START_NS) / NS_PER_SECOND / 14_400 * 2 * np.pi
        receipt += np.round(20e-6 * 14_400 / (2 * np.pi) * 1e9 * np.sin(phase)).astype(np.int64)

        assert () == report_of(origin, receipt).steps

    def test_twenty_seconds_of_congestion_are_no_step(self):
        """A raised floor in two windows moves no median of five."""
        origin, receipt = a_day()
        receipt[(origin >= at(1_000)) & (origin < at(1_020))] += 80 * MS

        assert () == report_of(origin, receipt).steps

    def test_a_hole_in_the_feed_does_not_turn_drift_into_a_step(self):
        """Four silent minutes of a drifting clock are explained by its drift."""
        origin, receipt = a_day(drift_ppm=30.0)
        kept = (origin < at(1_500)) | (origin > at(1_740))

        assert () == report_of(origin[kept], receipt[kept]).steps

    def test_no_step_is_claimed_across_a_long_hole(self):
        """After ten silent minutes a shift cannot be told from drift; it is not fitted either."""
        origin, receipt = a_day(drift_ppm=2.0)
        receipt[origin > at(1_800)] += 40 * MS
        kept = (origin < at(1_500)) | (origin > at(2_100))
        report = report_of(origin[kept], receipt[kept])

        assert () == report.steps
        assert 2.0 == pytest.approx(report.figures.clock_drift_ppm, abs=0.5)

    @settings(max_examples=25, deadline=None)
    @given(
        seed=st.integers(0, 999),
        sizes_ms=st.lists(st.floats(2, 2_000), max_size=5),
        signs=st.lists(st.booleans(), min_size=5, max_size=5),
        drift_ppm=st.floats(-60, 60),
        jitter_ms=st.sampled_from([0.3, 1.0]),
    )
    def test_exactly_the_planted_steps_are_found(self, seed, sizes_ms, signs, drift_ppm, jitter_ms):
        """From 2 ms to 2 s, up and down, on a clock that drifts: each at its place, no other."""
        origin, receipt = a_day(seed, drift_ppm=drift_ppm, jitter_ms=jitter_ms)
        places = np.sort(np.random.default_rng(seed).permutation(11)[: len(sizes_ms)] + 1) * 300
        signed = [-size if falls else size for size, falls in zip(sizes_ms, signs, strict=False)]
        for second, size_ms in zip(places, signed, strict=True):
            receipt[origin >= at(second)] += round(size_ms * MS)
        steps = report_of(origin, receipt).steps

        assert signed == pytest.approx([step.size_ms for step in steps], abs=0.5)
        for second, step in zip(places, steps, strict=True):
            assert abs(int(origin[step.index]) - at(second)) < NS_PER_SECOND

    @settings(max_examples=25, deadline=None)
    @given(
        seed=st.integers(0, 999),
        begins=st.floats(130, 3_400),
        drift_ppm=st.floats(-60, 60),
        size_ms=st.sampled_from([0.0, -1_200.0, 250.0]),
    )
    def test_a_drift_that_begins_is_no_step(self, seed, begins, drift_ppm, size_ms):
        """A clock that begins to drift, with a step or without, has no other step near it."""
        origin, receipt = a_day(seed)
        late = origin >= at(begins)
        gained_ms = size_ms + (origin - at(begins)) / MS * drift_ppm * 1e-6
        receipt += np.where(late, np.round(gained_ms * MS), 0).astype(np.int64)
        steps = report_of(origin, receipt).steps

        assert [each for each in (size_ms,) if each] == pytest.approx(
            [step.size_ms for step in steps], abs=1.0
        )

    def test_a_receipt_clock_that_is_wrong_for_most_of_the_day(self):
        """As on the simulated day: slow and drifting from 00:05 on, a step, set right at 23:55."""
        origin, receipt = a_day(seconds=86_400, per_second=1, jitter_ms=5.0)
        wrong = (origin >= at(300)) & (origin < at(86_100))
        off_ms = -1_200.0 - 60e-6 * (origin - at(300)) / MS + 250.0 * (origin >= at(57_600))
        receipt += np.where(wrong, np.round(off_ms * MS), 0).astype(np.int64)
        steps = report_of(origin, receipt).steps

        expected = [-1_200.0, 250.0, 1_200.0 - 250.0 + 60e-3 * 85_800]
        assert expected == pytest.approx([step.size_ms for step in steps], abs=1.5)

    def test_two_steps_are_told_apart_and_the_largest_is_known(self):
        """Steps come in time order with their signs."""
        origin, receipt = a_day()
        receipt[origin >= at(900)] += 5 * MS
        receipt[origin >= at(2_700)] -= 30 * MS
        report = report_of(origin, receipt)

        assert [5.0, -30.0] == pytest.approx([step.size_ms for step in report.steps], abs=0.5)
        assert report.steps[1].size_ms == report.figures.largest_clock_step_ms

    def test_a_clock_set_back_by_minutes_is_one_step(self):
        """The axis is the exchange's clock, so the day is not folded over itself."""
        origin, receipt = a_day(drift_ppm=3.0)
        receipt[origin >= at(1_800)] -= 600_000 * MS
        report = report_of(origin, receipt)

        assert [-600_000.0] == pytest.approx([step.size_ms for step in report.steps], abs=0.5)
        assert 3.0 == pytest.approx(report.figures.clock_drift_ppm, abs=0.3)

    def test_the_bound_is_a_setting(self):
        """A step below the bound in force is not reported."""
        origin, receipt = a_day()
        receipt[origin >= at(1_800)] += 5 * MS

        assert 1 == len(report_of(origin, receipt, step_warn_ms=4.0).steps)
        assert 0 == len(report_of(origin, receipt, step_warn_ms=6.0).steps)

    def test_noise_raises_the_bound(self):
        """Where the least delay itself jumps about by 20 ms, a shift of 10 ms is no step."""
        origin, receipt = a_day(per_second=1, jitter_ms=200.0)
        receipt[origin >= at(1_800)] += 10 * MS

        assert () == report_of(origin, receipt).steps


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    messages=st.sampled_from([1, 2, 3, 50, 2_000]),
    mean_seconds=st.sampled_from([0.01, 0.5, 9.0]),
    disorder_ms=st.sampled_from([0, 5_000]),
    set_back_seconds=st.integers(-50, 50),
    chunk=st.sampled_from([3, 40, 100, 1_999]),
)
def test_chunks_change_nothing(seed, messages, mean_seconds, disorder_ms, set_back_seconds, chunk):
    """However the messages are cut, the report is the same, also with times out of order."""
    random = np.random.default_rng(seed)
    gaps_ns = random.exponential(mean_seconds * NS_PER_SECOND, messages)
    origin = START_NS - NS_PER_SECOND + np.cumsum(gaps_ns).astype(np.int64)
    origin += random.integers(0, disorder_ms * MS + 1, messages)
    receipt = origin + np.round(random.exponential(2 * MS, messages)).astype(np.int64)
    receipt[messages // 2 :] += set_back_seconds * NS_PER_SECOND
    whole = report_of(origin, receipt)
    with (
        patch.object(intervals, "CHUNK_MESSAGES", chunk),
        patch.object(skew, "CHUNK_MESSAGES", chunk),
    ):
        cut = report_of(origin, receipt)

    # The mean time of the drift's fit is a sum of parts, rounded by each.
    drift_ppm, of_cut = whole.figures.clock_drift_ppm, cut.figures.clock_drift_ppm
    assert (drift_ppm is None) == (of_cut is None)
    assert (drift_ppm or 0.0) == pytest.approx(of_cut or 0.0, rel=1e-9)
    same = replace(cut, figures=replace(cut.figures, clock_drift_ppm=drift_ppm))
    assert whole == same


@settings(max_examples=60, deadline=None)
@given(
    delays_ms=st.lists(st.integers(-500, 500), min_size=1, max_size=40),
    hours=st.lists(st.integers(-1, 25), min_size=40, max_size=40),
)
def test_quantiles_are_those_of_all_delays(delays_ms, hours):
    """The day's and each hour's quantiles, and the worst, are numpy's of the delays as they are."""
    delays = np.array(delays_ms) + 0.25
    hours = np.array(hours[: len(delays)])
    receipt = START_NS + hours * 3_600 * NS_PER_SECOND + 17
    report = report_of(receipt - (delays * MS).astype(np.int64), receipt)
    quantiles = np.quantile(delays, (0.001, 0.01, 0.5, 0.99, 0.999)).tolist()
    worst = int(np.argmax(np.abs(delays - np.median(delays))))

    assert [
        report.figures.skew_p001_ms,
        report.figures.skew_p01_ms,
        report.figures.skew_p50_ms,
        report.figures.skew_p99_ms,
        report.figures.skew_p999_ms,
    ] == (quantiles)
    assert [
        np.median(delays[hours == hour]) if (hours == hour).any() else None for hour in range(24)
    ] == list(report.figures.skew_p50_ms_per_hour)
    assert (worst, delays[worst]) == (report.worst_index, report.figures.worst_skew_ms)
    assert (delays < 0).sum() / len(delays) == report.figures.negative_latency_share


@pytest.mark.parametrize(("exchange", "symbol", "day"), SAMPLE_DAYS)
def test_real_receipt_clocks_are_early_on_every_message(exchange, symbol, day):
    """The sample's host is 1.27 s (in July 1.52 s) behind the exchange, drifts, and never steps."""
    sample = sample_day(exchange, symbol, day)
    report = clock_report(
        ts_origin_ns=sample.ts_origin_ns,
        ts_receipt_ns=sample.ts_receipt_ns,
        day=day,
        step_warn_ms=1.0,
    )

    assert (-1_520 if day.month == 7 else -1_270) == pytest.approx(
        report.figures.skew_p50_ms, abs=5
    )
    assert 1.0 == report.figures.negative_latency_share
    assert ((), None) == (report.steps, report.figures.clock_drift_remark)
    assert report.figures.clock_drift_ppm is not None
    assert -8 < report.figures.clock_drift_ppm < -2
    assert (1_000, 1) == (
        report.figures.origin_granularity_us,
        report.figures.receipt_granularity_us,
    )
