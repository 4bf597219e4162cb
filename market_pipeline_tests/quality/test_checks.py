"""Each check: silent on a clean day; on a planted fault the right severity, figure and place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.bars import BARS
from market_pipeline.quality.checks.completeness import COMPLETENESS
from market_pipeline.quality.checks.crossed import CROSSED
from market_pipeline.quality.checks.day_boundary import DAY_BOUNDARY
from market_pipeline.quality.checks.domain import DOMAIN
from market_pipeline.quality.checks.freshness import FRESHNESS
from market_pipeline.quality.checks.gap import GAP
from market_pipeline.quality.checks.ordering import ORDERING
from market_pipeline.quality.checks.precision import PRECISION
from market_pipeline.quality.checks.reference_replay import REFERENCE_REPLAY
from market_pipeline.quality.checks.schema import SCHEMA
from market_pipeline.quality.checks.skew import SKEW
from market_pipeline.quality.checks.snapshot_match import SNAPSHOT_MATCH
from market_pipeline.quality.checks.trade_through import TRADE_THROUGH
from market_pipeline.quality.evaluate import CHECKS, evaluate, thresholds_in_force
from market_pipeline.quality.verdict import validate
from market_pipeline_tests.quality.factory import (
    GAP_OF_5_S,
    LONG_AFTER_NS,
    NOON_NS,
    THRESHOLDS,
    a_failed_row,
    a_row,
)

DOCS = Path(__file__).parents[2] / "docs"

A_STEP = {
    "clock_steps": 1,
    "first_clock_step_ns": NOON_NS,
    "largest_clock_step_ns": NOON_NS,
    "largest_clock_step_ms": -20.0,
}
CROSSED_FOR_2_S = {
    "crossed_count": 3,
    "crossed_seconds": 2.0,
    "first_crossed_ns": NOON_NS,
    "longest_crossed_ns": NOON_NS,
    "longest_crossed_seconds": 1.5,
}
OFF_TICK = {
    "price_precision_losses": 2,
    "first_precision_file": "1.snappy.parquet",
    "first_precision_row": 17,
    "first_precision_column": "price",
    "first_precision_value": 61_800.25,
}
OFF_LOT = {
    **OFF_TICK,
    "price_precision_losses": 0,
    "size_precision_losses": 1,
    "first_precision_column": "size",
    "first_precision_value": 0.0005,
}
ONE_AT_NOON = (0,) * 12 + (1,) + (0,) * 11
SNAPSHOT_MISMATCH = {"snapshots_mismatched": 1, "first_mismatch_ns": NOON_NS}
A_HOLE = {
    "quiet_count": 1,
    "quiet_seconds": 90.0,
    "longest_quiet_seconds": 90.0,
    "longest_quiet_ns": NOON_NS,
}


def outcome_of(check, thresholds=THRESHOLDS, **changes):
    """What one check says about a day that is clean but for the changes."""
    return next(each for each in evaluate(a_row(**changes), thresholds) if each.check == check)


class TestRegistry:
    def test_a_clean_day_passes_every_check(self):
        """Every check is asked, in the order of the registry, and none finds anything."""
        outcomes = evaluate(a_row(), THRESHOLDS)

        assert list(CHECKS) == [outcome.check for outcome in outcomes]
        assert all(outcome.passed and not outcome.degrades for outcome in outcomes)
        assert all(outcome.figure <= outcome.threshold for outcome in outcomes)
        assert [check.severity for check in CHECKS] == [outcome.severity for outcome in outcomes]

    def test_names_are_unique_and_sentences_end(self):
        """A check is known by its name everywhere."""
        assert len(CHECKS) == len({check.name for check in CHECKS})
        assert all(check.sentence.endswith(".") for check in CHECKS)

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
    def test_every_check_has_its_page(self, check):
        """The page opens with the check's own sentence and says what it means and what to do."""
        page = (DOCS / check.docs_page).read_text()

        assert check.sentence in page
        assert "## What it means" in page
        assert "## What to do" in page


FAULTS = [
    (GAP, GAP_OF_5_S, "WARN", 5.0, 0.0, "first from 12:00:00.000000 UTC to 12:00:05.000000 UTC"),
    (GAP, {**GAP_OF_5_S, "gap_seconds": 900.0}, "ERROR", 900.0, 864.0, "14 trades inside"),
    (GAP, {"proven_gap_count": 2}, "WARN", 2.0, 0.0, "messages are lost at 2 places"),
    (
        GAP,
        {**GAP_OF_5_S, "proven_gap_count": 1},
        "WARN",
        5.0,
        0.0,
        "; the ids prove that messages are lost at 1 place",
    ),
    (
        ORDERING,
        {
            "sequence_backwards": 1,
            "first_sequence_backwards_ns": NOON_NS,
            "unordered_per_hour": ONE_AT_NOON,
        },
        "WARN",
        1.0,
        0.0,
        "goes backwards at 1 message, first at 12:00:00.000000 UTC",
    ),
    (
        ORDERING,
        {"duplicate_messages": 2, "unordered_per_hour": tuple(2 * n for n in ONE_AT_NOON)},
        "ERROR",
        2.0,
        1.0,
        "2 messages",
    ),
    (
        DOMAIN,
        {"domain_violations": 3, "first_domain_violation": "price -1.0 in 1.parquet, row 4"},
        "ERROR",
        3.0,
        0.0,
        "price -1.0 in 1.parquet, row 4",
    ),
    (
        SNAPSHOT_MATCH,
        SNAPSHOT_MISMATCH,
        "ERROR",
        1 / 99,
        THRESHOLDS.snapshot_mismatch_error_share,
        "first at 12:00:00.000000 UTC",
    ),
    (
        DAY_BOUNDARY,
        {"day_boundary_mismatch_share": 0.5},
        "WARN",
        0.5,
        THRESHOLDS.day_boundary_warn_share,
        "50.0000% of 40 levels differ across midnight",
    ),
    (
        TRADE_THROUGH,
        {
            "trades_through": 5,
            "first_trade_through_ns": NOON_NS,
            "worst_trade_through_ticks": 7.0,
        },
        "WARN",
        0.5,
        THRESHOLDS.trade_through_warn_share,
        "5 orders of 10 (50.0000%) print outside the book, first at 12:00:00.000000 UTC",
    ),
    (
        REFERENCE_REPLAY,
        {
            "reference_differing_messages": 1,
            "reference_first_difference": "at noon: 5 instead of 6",
        },
        "ERROR",
        1.0,
        0.0,
        "at noon: 5 instead of 6",
    ),
    (
        BARS,
        {"bar_violations": 2, "first_bar_violation_ns": NOON_NS},
        "WARN",
        2.0,
        0.0,
        "12:00:00.000000 UTC",
    ),
    (
        COMPLETENESS,
        {"strategy": "snapshots_only", "strategy_reason": "There are no deltas."},
        "WARN",
        0.0,
        1.0,
        "The day is published from snapshots only: There are no deltas",
    ),
    (COMPLETENESS, {"head_gap_seconds": 61.0}, "WARN", 61.0, 60.0, "first 61 s are missing"),
    (COMPLETENESS, {"tail_gap_seconds": 9e3}, "ERROR", 9e3, 60.0, "last 9,000 s are missing"),
    (
        COMPLETENESS,
        {"head_gap_seconds": 500.0, "tail_gap_seconds": 400.0},
        "ERROR",
        500.0,
        60.0,
        "500 s are missing",
    ),
    (COMPLETENESS, A_HOLE, "WARN", 90.0, 60.0, "the longest 90 s from 12:00:00.000000 UTC"),
    (COMPLETENESS, {"trades": None}, "WARN", 0.0, 1.0, "no trades file"),
    (SKEW, {"skew_p50_ms": -1_270.1}, "WARN", 1_270.1, 1_000.0, "1,270.100 ms before"),
    (SKEW, {"skew_p50_ms": 1_270.1}, "WARN", 1_270.1, 1_000.0, "1,270.100 ms after"),
    (SKEW, {"negative_latency_share": 0.5}, "WARN", 0.5, 0.001, "50.0000% of the messages"),
    (SKEW, {"clock_drift_ppm": -51.0}, "WARN", 51.0, 50.0, "loses 51.0 ppm"),
    (SKEW, A_STEP, "WARN", 20.0, 1.0, "the largest of -20.000 ms at 12:00:00.000000 UTC"),
    (PRECISION, OFF_TICK, "ERROR", 2.0, 0.0, "first 61800.25 in 1.snappy.parquet, row 17"),
    (PRECISION, OFF_LOT, "WARN", 1.0, 0.0, "1 size off the lot 0.001, first 0.0005"),
    (
        PRECISION,
        {**OFF_TICK, "size_precision_losses": 3},
        "ERROR",
        2.0,
        0.0,
        "3 sizes off the lot 0.001",
    ),
    (CROSSED, CROSSED_FOR_2_S, "WARN", 2.0, 0.0, "in 3 runs, the first from 12:00:00.000000 UTC"),
    (CROSSED, {**CROSSED_FOR_2_S, "crossed_seconds": 61.0}, "ERROR", 61.0, 60.0, "1.5 s from"),
]


@pytest.mark.parametrize(("check", "fault", "severity", "figure", "threshold", "place"), FAULTS)
def test_a_fault_fails_its_check_alone(check, fault, severity, figure, threshold, place):
    """A planted fault is told by its own check with figure, threshold and place, and no other."""
    outcomes = evaluate(a_row(**fault), THRESHOLDS)
    failed = [outcome for outcome in outcomes if not outcome.passed]

    assert [check] == [outcome.check for outcome in failed]
    assert (severity, figure, threshold) == (
        failed[0].severity,
        failed[0].figure,
        failed[0].threshold,
    )
    assert place in failed[0].summary


@pytest.mark.parametrize(
    ("check", "at_bound", "thresholds"),
    [
        (GAP, {**GAP_OF_5_S}, {"gap_warn_seconds": 5.0}),
        (COMPLETENESS, {"head_gap_seconds": 60.0, "tail_gap_seconds": 60.0}, {}),
        (SKEW, {"skew_p50_ms": -1_000.0, "negative_latency_share": 0.001}, {}),
        (SKEW, {"clock_drift_ppm": 50.0}, {}),
        (SKEW, {"clock_drift_ppm": None}, {}),
        (PRECISION, OFF_TICK, {"precision_error_count": 2}),
        (CROSSED, CROSSED_FOR_2_S, {"crossed_warn_seconds": 2.0}),
    ],
)
def test_a_figure_at_its_bound_passes(check, at_bound, thresholds):
    """Only a figure beyond its threshold fails; the thresholds are the instrument's."""
    assert outcome_of(check, Thresholds(**thresholds), **at_bound).passed


def test_several_faults_of_one_check_are_all_told():
    """The first decides the figure, the worst message is named once at the end."""
    outcome = outcome_of(SKEW, skew_p50_ms=-1_270.1, negative_latency_share=1.0, **A_STEP)

    assert (1_270.1, 1_000.0) == (outcome.figure, outcome.threshold)
    assert (
        "The median message is received 1,270.100 ms before the exchange's time; 100.0000% of the "
        "messages are received before the exchange's time; 1 clock step, the first at "
        "12:00:00.000000 UTC, the largest of -20.000 ms at 12:00:00.000000 UTC; worst message "
        "9.000 ms at 12:00:00.000000 UTC, median -1,270.100 ms."
    ) == outcome.summary


def test_what_is_shown_with_a_figure():
    """An outcome carries the thresholds it looked at, and the fault by hour where it has a time."""
    gap = outcome_of(GAP, **GAP_OF_5_S, gaps_per_hour=ONE_AT_NOON)
    seconds = tuple(2.0 * each for each in ONE_AT_NOON)
    crossed = outcome_of(CROSSED, **CROSSED_FOR_2_S, crossed_seconds_per_hour=seconds)

    assert (0.0, 0.01) == (gap.thresholds["gap_warn_seconds"], gap.thresholds["gap_error_share"])
    assert (ONE_AT_NOON, seconds) == (gap.per_hour, crossed.per_hour)


class TestFreshness:
    def test_a_day_that_is_overdue_fails(self):
        """Whatever is missing, its error is told."""
        (late,) = [
            each
            for each in evaluate(a_failed_row(condition="missing"), THRESHOLDS)
            if each.check == FRESHNESS
        ]

        assert not late.passed
        assert "There is no raw file" in late.summary

    @pytest.mark.parametrize("condition", ["pending", None])
    def test_a_day_that_may_still_come_is_not_asked(self, condition):
        """Before it is due nothing is late."""
        outcomes = evaluate(a_failed_row(condition=condition), THRESHOLDS)

        assert FRESHNESS not in [each.check for each in outcomes]


class TestFailures:
    @pytest.mark.parametrize("kind", ["SchemaError", "LakeFileError"])
    def test_an_unusable_file_fails_the_schema_and_leaves_no_day(self, kind):
        """The error's own text, which names file and column, is what both checks say."""
        outcomes = evaluate(
            a_failed_row(kind, failure="Column x is missing. Fetch it."), THRESHOLDS
        )

        assert [SCHEMA, COMPLETENESS] == [outcome.check for outcome in outcomes]
        assert ["ERROR", "ERROR"] == [outcome.severity for outcome in outcomes]
        assert "Column x is missing. Fetch it." == outcomes[0].summary
        assert all(outcome.degrades for outcome in outcomes)

    @pytest.mark.parametrize("kind", ["MissingDataError", "DomainError", "ZeroDivisionError"])
    def test_a_day_without_a_book_is_incomplete(self, kind):
        """No figure was measured, so no other check is asked, and the schema is not praised."""
        outcomes = evaluate(a_failed_row(kind), THRESHOLDS)

        assert [COMPLETENESS] == [outcome.check for outcome in outcomes]
        assert not outcomes[0].passed

    def test_a_figure_that_is_not_there_fails_its_check_alone(self, caplog):
        """It is never taken for a good one; the day degrades, and the log has the traceback."""
        outcomes = evaluate(replace(a_row(), crossed_seconds=None), THRESHOLDS)
        failed = [said for said in outcomes if not said.passed]

        assert list(CHECKS) == [said.check for said in outcomes]
        assert [(CROSSED, "ERROR", True, False)] == [
            (said.check, said.severity, said.degrades, said.measured) for said in failed
        ]
        assert "The check crossed could not be measured: ValueError: a rebuilt" in failed[0].summary
        assert "Traceback" in caplog.text


class TestUnmeasured:
    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
    def test_fails_and_degrades(self, check):
        """Whatever its severity else, a check that could not be measured says so as an ERROR."""
        row = a_row(unmeasured_checks=(check.name,), unmeasured_errors=("KeyError: 'x'",))
        failed = [said for said in evaluate(row, THRESHOLDS) if not said.passed]

        assert [(check, "ERROR", True, False)] == [
            (said.check, said.severity, said.degrades, said.withholds_metrics) for said in failed
        ]
        assert f"The check {check.name} could not be measured: KeyError: 'x'." == failed[0].summary
        assert "degraded" == validate(row, THRESHOLDS, as_of_ns=LONG_AFTER_NS).condition

    def test_what_was_measured_is_told_too(self):
        """One measurement of two that a check looks at does not hide what the other found."""
        row = a_row(**OFF_TICK, unmeasured_checks=("precision",), unmeasured_errors=("OSError",))
        (said,) = (each for each in evaluate(row, THRESHOLDS) if not each.passed)

        assert "could not be measured: OSError. Besides: 2 prices off the tick" in said.summary

    def test_of_rows_of_a_version_before(self):
        """They do not have the columns."""
        row = a_row(unmeasured_checks=None, unmeasured_errors=None)

        assert all(said.passed for said in evaluate(row, THRESHOLDS))


class TestThresholdsInForce:
    def test_are_those_of_the_verdict(self):
        """What is configured later contradicts no verdict of before."""
        strict = THRESHOLDS.model_copy(update={"crossed_warn_seconds": 9.0})
        row = validate(a_row(), strict, as_of_ns=LONG_AFTER_NS)

        assert strict == thresholds_in_force(row, THRESHOLDS)

    @pytest.mark.parametrize("recorded", [None, "", "no json", "[]", '{"skew_warn_ms": -5}'])
    def test_are_the_configured_ones_without_a_record(self, recorded):
        """Rows of a version before have none, and a damaged one is none."""
        assert THRESHOLDS == thresholds_in_force(a_row(thresholds=recorded), THRESHOLDS)

    def test_are_filled_up_with_the_configured_ones(self):
        """A threshold that is newer than the verdict, or gone since."""
        row = a_row(thresholds='{"skew_warn_ms": 7.0, "of_another_version": 1}')

        assert THRESHOLDS.model_copy(update={"skew_warn_ms": 7.0}) == thresholds_in_force(
            row, THRESHOLDS
        )
