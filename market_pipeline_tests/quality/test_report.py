"""From arrays to a validated row, on made days with planted faults and on the real ones."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest

from market_pipeline.books.evidence import position_of
from market_pipeline.books.flags import BookFlag
from market_pipeline.quality.figures.book import PrecisionFigures, RebuildFigures
from market_pipeline.quality.figures.comparisons import BarFigures, SnapshotMatchFigures
from market_pipeline.quality.findings import Finding, Measured, merged
from market_pipeline.quality.intervals import NS_PER_SECOND, day_bounds_ns
from market_pipeline.quality.report import (
    BookDay,
    Messages,
    measure_book,
    report_failure,
    report_row,
)
from market_pipeline.sources.registry import GAP_EVIDENCE, GapEvidence
from market_pipeline_tests.quality.factory import (
    DAY,
    DAY_END_NS,
    DAY_START_NS,
    INSTRUMENT,
    LONG_AFTER_NS,
    NOON_NS,
    THRESHOLDS,
    a_record,
)
from market_pipeline_tests.quality.sample import sample_day
from market_pipeline_tests.quality.spans import book_spans, spans_of

REBUILT = Measured(
    (
        RebuildFigures(
            seed="book row 0",
            rows=86_400,
            snapshots=10,
            trades=1_440,
            unknown_removals=3,
            tick="0.1",
            lot="0.001",
            tick_inferred=False,
            lot_inferred=True,
            code_version="0.1.0",
        ),
        SnapshotMatchFigures(snapshots_compared=0),
        PrecisionFigures(price_precision_losses=0, size_precision_losses=0),
    )
)


def a_clean_day():
    """The arrays of a day with two messages a second and a trade a minute, 5 ms late."""
    origin = DAY_START_NS + np.arange(172_800) * (NS_PER_SECOND // 2)
    trades = DAY_START_NS + np.arange(1_440) * 60 * NS_PER_SECOND + 7
    return {
        "ts_origin_ns": origin,
        "ts_receipt_ns": origin + 5_000_000,
        "sequence_number": np.arange(172_800) * 3,
        "trade_origin_ns": trades,
        "trade_receipt_ns": trades + 5_000_000,
    }


def validated(arrays, *others, flags=None, spans=None, instrument=INSTRUMENT):
    """The validated row of the arrays, and the places where the day is wrong."""
    receipt = arrays["ts_receipt_ns"]
    if flags is None:
        flags = np.zeros(len(receipt), np.uint16)
    else:
        spans = spans_of(receipt, flags)
    names = ("ts_origin_ns", "ts_receipt_ns", "sequence_number")
    book = BookDay(
        instrument=instrument,
        day=DAY,
        read_messages=lambda: Messages(*(arrays[name] for name in names), flags),
        read_spans=lambda: spans or book_spans(),
        trade_origin_ns=arrays["trade_origin_ns"],
        trade_receipt_ns=arrays["trade_receipt_ns"],
    )
    all_of_it = merged([REBUILT, *others, measure_book(book)])
    return report_row(instrument, DAY, all_of_it, as_of_ns=LONG_AFTER_NS), all_of_it.findings


def row_of(arrays, *others, **more):
    """The validated row of the arrays."""
    return validated(arrays, *others, **more)[0]


def a_faulty_day():
    """A silence, a crossed minute, a late seed and a clock step, and the flags of the book."""
    arrays = a_clean_day()
    seconds = np.arange(172_800) // 2
    flags = np.zeros(172_800, dtype=np.uint16)
    flags[seconds < 1] = BookFlag.NOT_SEEDED
    flags[(seconds >= 7_200) & (seconds < 7_260)] = BookFlag.CROSSED
    arrays["ts_receipt_ns"][seconds >= 50_000] += 40_000_000
    kept = (seconds <= 3_590) | (seconds >= 3_610)
    for name in ("ts_origin_ns", "ts_receipt_ns", "sequence_number"):
        arrays[name] = arrays[name][kept]
    return arrays, flags[kept]


def test_a_clean_day_is_available():
    """Nothing planted, nothing found; every second from first to last message is valid."""
    row = row_of(a_clean_day())

    assert ("available", (), ()) == (row.condition, row.reasons, row.warnings)
    assert (172_800, 86_399.5, 86_399.5) == (row.messages, row.observed_seconds, row.valid_seconds)
    assert 5.0 == row.skew_p50_ms


def test_planted_faults_are_measured_and_validated():
    """A silence, a crossed minute, a late seed, a clock step and an off-tick price in one day."""
    arrays, flags = a_faulty_day()
    losses = PrecisionFigures(
        price_precision_losses=1,
        size_precision_losses=0,
        first_precision_file="1.snappy.parquet",
        first_precision_row=17,
        first_precision_column="price",
        first_precision_value=61_800.25,
    )
    row = row_of(arrays, Measured((losses,)), flags=flags)

    assert "degraded" == row.condition
    assert (1, 19.5, (1,)) == (row.gap_count, row.gap_seconds, row.gap_trades)
    assert DAY_START_NS + 3_590_505_000_000 == row.first_gap_ns == row.longest_gap_ns
    assert (60.0, DAY_START_NS + 7_200_005_000_000) == (row.crossed_seconds, row.first_crossed_ns)
    assert (1, pytest.approx(40.0, abs=0.1)) == (row.clock_steps, row.largest_clock_step_ms)
    assert (1.0, 1.0) == (row.not_seeded_seconds, row.invalid_seconds)
    assert row.observed_seconds - 61 == pytest.approx(row.valid_seconds, abs=1e-6)
    assert (0, 60.0) == (row.proven_gap_count, row.crossed_seconds_per_hour[2])
    assert ["gap", "price off", "crossed"] == [
        next(word for word in ("gap", "price off", "crossed") if word in reason)
        for reason in row.reasons
    ]
    assert 1 == len(row.warnings)


class TestPlaces:
    def test_a_clean_day_has_none(self):
        """What keeps its bounds is no finding, but what others measured is passed on."""
        other = Finding(check="bars", place="first", note="An odd bar.")
        measured = Measured((BarFigures(bars=5),), [other])
        row, findings = validated(a_clean_day(), measured)

        assert (5, [other]) == (row.bars, findings)

    def test_each_fault_has_its_place(self):
        """A gap and a step name the message after them, a crossed run its times."""
        arrays, flags = a_faulty_day()
        _, (gap, step, crossed) = validated(arrays, flags=flags)
        second = NS_PER_SECOND
        late = 5_000_000

        assert ("gap", "first", 3_610 * 2 * 3) == (gap.check, gap.place, gap.sequence_number)
        assert (DAY_START_NS + 3_610 * second + late, "19.5 s") == (gap.end_ns, gap.value)
        assert "1 trade meanwhile: a suspected gap" in gap.note
        assert ("skew", "first", 100_000 * 3) == (step.check, step.place, step.sequence_number)
        assert "+40.000 ms" == step.value
        assert ("crossed", "first", DAY_START_NS + 7_200 * second + late, "60 s") == (
            crossed.check,
            crossed.place,
            crossed.ts_receipt_ns,
            crossed.value,
        )

    def test_missing_ends_and_holes(self):
        """A head and a hole name the message that ended them, a tail the last one before it."""
        arrays = a_clean_day()
        seconds = np.arange(172_800) // 2
        kept = (seconds >= 100) & (seconds < 86_000)
        for name in ("ts_origin_ns", "ts_receipt_ns", "sequence_number"):
            arrays[name] = arrays[name][kept]
        for name in ("trade_origin_ns", "trade_receipt_ns"):
            arrays[name] = arrays[name][:80]
        row, findings = validated(arrays)

        assert (0, 0, 85_899.5) == (row.quiet_count, row.gap_count, row.observed_seconds)
        assert 86_400 - 85_899.5 == row.missing_seconds
        assert [
            ("completeness", "first", 100 * 6, "100.005 s"),
            ("completeness", "worst", 86_000 * 6 - 3, "400.495 s"),
        ] == [(each.check, each.place, each.sequence_number, each.value) for each in findings]

    def test_an_outage_tells_what_it_is(self):
        """Nothing came at all for half a minute: no trade and no snapshot is needed to say so."""
        arrays = a_clean_day()
        seconds = np.arange(172_800) // 2
        kept = (seconds < 5_005) | (seconds >= 5_035)
        for name in ("ts_origin_ns", "ts_receipt_ns", "sequence_number"):
            arrays[name] = arrays[name][kept]
        row, (gap,) = validated(arrays)

        assert (1, 1, 30.5, (0,), (0,)) == (
            row.gap_count,
            row.outage_count,
            row.outage_seconds,
            row.gap_trades,
            row.gap_snapshots,
        )
        assert ("gap", "30.5 s", 5_035 * 6) == (gap.check, gap.value, gap.sequence_number)
        assert "an outage" in gap.note
        assert "at most 5 s by the rhythm of the day and of the minutes around it" == gap.expected
        assert "far longer than the day's own rhythm" in row.reasons[0]

    def test_stamps_that_others_contradict_cover_nothing(self):
        """One message of the evening and one of the day before move neither end of the day."""
        arrays = a_clean_day()
        flags = np.zeros(600, dtype=np.uint16)
        for name in ("ts_origin_ns", "ts_receipt_ns", "sequence_number"):
            arrays[name] = arrays[name][1_000:1_600]
        arrays["ts_receipt_ns"][300] = DAY_END_NS - 1
        arrays["ts_receipt_ns"][400] = DAY_START_NS - 5
        flags[[300, 400]] = BookFlag.BAD_TS_RECEIPT
        row = row_of(arrays, flags=flags)

        assert (500.005, 299.5, 85_600.495) == (
            row.head_gap_seconds,
            row.observed_seconds,
            row.tail_gap_seconds,
        )
        assert 86_100.5 == row.missing_seconds
        assert "messages cover 299.5 s of the day" in row.reasons[0]
        assert "degraded" == row.condition

    def test_clocks_that_are_early_name_the_first_and_the_worst_message(self):
        """Neither rejects a row."""
        arrays = a_clean_day()
        arrays["ts_receipt_ns"] -= 1_270 * 1_000_000
        arrays["ts_receipt_ns"][9] -= 300 * 1_000_000
        row, findings = validated(arrays)

        assert "before the exchange's time" in row.warnings[0]
        assert [("first", 0, "-1,265.000 ms"), ("worst", 27, "-1,565.000 ms")] == [
            (each.place, each.sequence_number, each.value)
            for each in findings
            if each.check == "skew"
        ]


class TestProvenGaps:
    SILENCE_NS = DAY_START_NS + 3_590_505_000_000
    NOON_NS = DAY_START_NS + 43_200 * NS_PER_SECOND
    DOUBTED = book_spans(
        (position_of(BookFlag.GAP), SILENCE_NS, SILENCE_NS + 30 * NS_PER_SECOND),
        (position_of(BookFlag.GAP), NOON_NS, NOON_NS + 4 * NS_PER_SECOND),
    )

    def test_ids_prove_what_no_silence_explains(self, monkeypatch):
        """A source whose ids are linked has its gaps counted and shown beside the suspected one."""
        linked = GapEvidence(ids_prove=True, sentence="Linked.")
        monkeypatch.setitem(GAP_EVIDENCE, "crypto_lake", linked)
        row, findings = validated(a_faulty_day()[0], spans=self.DOUBTED)

        assert (1, 1, 14.5) == (row.gap_count, row.proven_gap_count, row.after_gap_seconds)
        assert "1 suspected gap of 19.5 s in all" in row.reasons[0]
        assert "the ids prove that messages are lost at 1 place" in row.reasons[0]
        suspected, proven = (each for each in findings if each.check == "gap")
        assert (self.SILENCE_NS, self.NOON_NS) == (suspected.ts_receipt_ns, proven.ts_receipt_ns)
        assert ("4 s", None) == (proven.value, proven.sequence_number)

    def test_without_linked_ids_nothing_is_proven(self):
        """Whatever the book was doubted for, Lake days have no proven gap."""
        assert 0 == row_of(a_faulty_day()[0], spans=self.DOUBTED).proven_gap_count


def test_the_arrays_are_not_changed():
    """Measuring a day leaves its arrays as they were, read-only ones included."""
    arrays = a_clean_day()
    copies = {name: array.copy() for name, array in arrays.items()}
    for array in arrays.values():
        array.flags.writeable = False
    row_of(arrays)

    assert all(np.array_equal(copies[name], array) for name, array in arrays.items())


@pytest.mark.parametrize("outcome", ["no_data", "quarantined"])
@pytest.mark.parametrize(("lag_seconds", "expected"), [(3_599, "missing"), (3_601, "pending")])
def test_a_failure_has_a_row_too(outcome, lag_seconds, expected):
    """An instrument that could not be rebuilt has a row with the error's kind and whole text."""
    row = report_failure(
        a_record(
            dt=DAY,
            outcome=outcome,
            failure_kind="SchemaError",
            failure="A column is missing. Fetch the file again.",
        ),
        INSTRUMENT,
        measured=Measured((RebuildFigures(rows=7),)),
        as_of_ns=DAY_END_NS + 3_600 * NS_PER_SECOND,
        vendor_lag_seconds=lag_seconds,
    )

    assert (outcome, "SchemaError", expected) == (row.outcome, row.failure_kind, row.condition)
    assert ("A column is missing. Fetch the file again.",) == row.reasons == (row.failure,)
    assert (None, None, 7) == (row.valid_seconds, row.code_version, row.rows)


def test_a_real_day_is_degraded_for_its_head_and_early_on_every_row():
    """Of the sample's 345 seconds every one is valid; the head is missing, the clock warns."""
    sample = sample_day("BINANCE_FUTURES", "BTC-USDT-PERP", date(2024, 8, 8))
    row = row_of(
        {
            "ts_origin_ns": sample.ts_origin_ns,
            "ts_receipt_ns": sample.ts_receipt_ns,
            "sequence_number": sample.sequence_number,
            "trade_origin_ns": sample.trades["ts_origin_ns"].to_numpy(),
            "trade_receipt_ns": sample.trades["ts_receipt_ns"].to_numpy(),
        }
    )

    assert ("degraded", 1, 1) == (row.condition, len(row.reasons), len(row.warnings))
    assert row.reasons[0].startswith("The first 86,055.03 s are missing, up to 23:54:15.030314 UTC")
    assert -1_270.0 == pytest.approx(row.skew_p50_ms, abs=1.0)
    assert (1.0, 0, 0) == (row.negative_latency_share, row.gap_count, row.clock_steps)
    assert (row.last_message_ns - row.first_message_ns) / NS_PER_SECOND == row.valid_seconds
    assert THRESHOLDS == INSTRUMENT.thresholds
    assert day_bounds_ns(DAY)[0] == DAY_START_NS


class TestListing:
    HALF = INSTRUMENT.model_copy(update={"listed": datetime(2024, 8, 8, 12, tzinfo=UTC)})

    def test_the_day_it_is_listed(self):
        """A half day is all there is of a day on which it is listed at noon, and half otherwise."""
        arrays = a_clean_day()
        late = {
            name: each[-86_400:] if len(each) == 172_800 else each[each >= NOON_NS]
            for name, each in arrays.items()
        }
        half, whole = row_of(late, instrument=self.HALF), row_of(late)

        assert (43_200.0, NOON_NS, None) == (
            half.expected_seconds,
            half.listed_ns,
            half.delisted_ns,
        )
        assert half.expected_seconds == pytest.approx(half.observed_seconds + half.missing_seconds)
        assert half.valid_seconds == pytest.approx(43_200, abs=1)
        assert ("available", "degraded") == (half.condition, whole.condition)
        assert (86_400.0, None) == (whole.expected_seconds, whole.listed_ns)

    def test_messages_before_it_is_listed(self):
        """They cover nothing that is expected: coverage is never above one."""
        row = row_of(a_clean_day(), instrument=self.HALF)

        assert (43_200.0, "available") == (row.expected_seconds, row.condition)
        assert row.expected_seconds - 1 < row.valid_seconds <= row.expected_seconds

    def test_no_message_while_it_is_listed(self):
        """What is missing begins when it is listed, and not with the last message before."""
        arrays = a_clean_day()
        early = {
            name: each[:7_200] if len(each) == 172_800 else each[each < DAY_START_NS]
            for name, each in arrays.items()
        }
        row = row_of(early, instrument=self.HALF)

        assert row.last_message_ns < NOON_NS
        assert row.reasons[0].startswith("The last 43,200 s are missing, from 12:00:00.000000 UTC")

    def test_no_book(self):
        """What was expected is known of a day without data, too."""
        row = report_failure(
            a_record(outcome="no_data", failure="No file."),
            self.HALF,
            measured=Measured(),
            as_of_ns=LONG_AFTER_NS,
            vendor_lag_seconds=0,
        )

        assert (43_200.0, "missing") == (row.expected_seconds, row.condition)
