"""The comparison and the day boundary: what warns, what is an error, and what is told of it."""

from __future__ import annotations

import pytest

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.day_boundary import check_day_boundary
from market_pipeline.quality.checks.snapshot_match import check_snapshot_match
from market_pipeline_tests.quality.factory import NOON_NS, THRESHOLDS, a_failed_row, a_row

COMPARED = {"snapshots_compared": 1_000, "max_mid_deviation_ticks": 3.5}
ONE_FAILED = {**COMPARED, "snapshots_mismatched": 1, "first_mismatch_ns": NOON_NS}
THREE_FAILED = {**ONE_FAILED, "snapshots_mismatched": 3}
SNAPSHOT_MATCH_FAULTS = [
    (ONE_FAILED, "WARN", 0.001, 0.0, "1 of 1,000 snapshots (0.1000%) disagree"),
    (ONE_FAILED, "WARN", 0.001, 0.0, "first at 12:00:00.000000 UTC"),
    (THREE_FAILED, "ERROR", 0.003, 0.002, "the mid is off by 3.5 ticks at most"),
    ({"snapshot_matching_share": 0.9985}, "WARN", 0.0015, 0.0, "0.1500% of the snapshots' levels"),
    (
        {"snapshot_matching_share": 0.95, "missing_share": 0.04},
        "ERROR",
        0.05,
        0.002,
        "5.0000% of the snapshots' levels differ (4.0000% are missing)",
    ),
    ({"ghost_share": 0.01}, "ERROR", 0.01, 0.002, "1.0000% of ours are ghosts"),
    (
        {**ONE_FAILED, "ghost_share": 0.01},
        "ERROR",
        0.01,
        0.002,
        "ghosts; 1 of 1,000 snapshots",
    ),
    ({"max_mid_deviation_ticks": 20_000.0}, "ERROR", 20_000.0, 10_000.0, "than 10000 ticks"),
    ({"longest_reconvergence_seconds": 61.5}, "ERROR", 61.5, 60.0, "stays wrong for 61.5 s"),
]


class TestSnapshotMatch:
    @pytest.mark.parametrize(
        ("fault", "severity", "figure", "threshold", "text"), SNAPSHOT_MATCH_FAULTS
    )
    def test_a_fault_is_told(self, fault, severity, figure, threshold, text):
        """The gravest fault gives severity, figure and threshold; all are in the summary."""
        said = check_snapshot_match(a_row(**fault), THRESHOLDS)

        assert said is not None
        assert (False, severity, threshold) == (said.passed, said.severity, said.threshold)
        assert figure == pytest.approx(said.figure)
        assert text in said.summary
        assert severity == "ERROR" or not said.degrades

    def test_every_threshold_looked_at_is_shown(self):
        """Raising each threshold to what was found turns every fault off; all are in force."""
        fault = {
            **UNCOMPARED,
            **THREE_FAILED,
            "snapshot_matching_share": 0.9,
            "ghost_share": 0.5,
            "longest_reconvergence_seconds": 90.0,
            "max_mid_deviation_ticks": 20_000.0,
            "longest_uncompared_seconds": 70.0,
            "unconfirmed_seconds": 40_000.0,
            "valid_seconds": 80_000.0,
        }
        lenient = {
            "snapshot_mismatch_warn_share": 0.003,
            "snapshot_mismatch_error_share": 0.003,
            "snapshot_level_warn_share": 0.5,
            "snapshot_level_error_share": 0.5,
            "snapshot_mid_error_ticks": 20_000.0,
            "snapshot_reconverge_error_seconds": 90.0,
            "snapshot_uncompared_warn_share": 0.25,
            "snapshot_uncompared_error_share": 0.25,
            "snapshot_uncompared_error_seconds": 70.0,
            "snapshot_unconfirmed_warn_share": 0.5,
        }
        said = check_snapshot_match(a_row(**fault), Thresholds(**lenient))

        assert said is not None
        assert said.passed
        assert lenient == said.thresholds
        for name in lenient:
            stricter = Thresholds(**{**lenient, name: 0.0})
            again = check_snapshot_match(a_row(**fault), stricter)
            assert again is not None
            graver_only = (
                "snapshot_mismatch_error_share",
                "snapshot_level_error_share",
                "snapshot_uncompared_error_share",
            )
            assert again.passed == (name in graver_only), name

    def test_a_clean_day_is_told_in_figures(self):
        """Without a fault the summary says how many snapshots and which share of levels agree."""
        said = check_snapshot_match(a_row(**COMPARED), THRESHOLDS)

        assert said is not None
        assert "All 1,000 snapshots agree with the book, in 100.0000%" in said.summary
        assert "100.0000% of the levels" in said.summary

    def test_failures_by_hour_are_shown(self):
        """The counts per hour are those of the mismatches."""
        by_hour = (0,) * 12 + (3,) + (0,) * 11
        said = check_snapshot_match(
            a_row(**THREE_FAILED, snapshots_mismatched_per_hour=by_hour), THRESHOLDS
        )

        assert said is not None
        assert tuple(map(float, by_hour)) == said.per_hour

    @pytest.mark.parametrize(
        "row", [a_row(strategy="snapshots_only", strategy_reason="No deltas."), a_failed_row()]
    )
    def test_is_not_asked_where_nothing_is_compared_by_nature(self, row):
        """A day that is published from snapshots, or without a book, has no outcome."""
        assert check_snapshot_match(row, THRESHOLDS) is None

    def test_a_day_without_a_later_snapshot_says_so(self):
        """No source need have snapshots; that nothing was compared is told, and no fault."""
        said = check_snapshot_match(a_row(snapshots_compared=0, snapshots_uncompared=0), THRESHOLDS)

        assert said is not None
        assert said.passed
        assert "could not be compared with any" in said.summary


UNCOMPARED = {
    "snapshots_compared": 3,
    "snapshots_uncompared": 1,
    "uncompared_share": 0.25,
    "first_uncompared_ns": NOON_NS,
    "uncompared_reasons": "1 have a number that never came",
    "longest_uncompared_seconds": 20.0,
    "longest_uncompared_ns": NOON_NS,
}


class TestUncompared:
    """Snapshots that are there and show nothing."""

    @pytest.mark.parametrize(
        ("fault", "severity", "figure", "threshold", "text"),
        [
            (
                UNCOMPARED,
                "WARN",
                0.25,
                0.01,
                "1 of 4 snapshots (25.0000%) were not compared with the book, first at "
                "12:00:00.000000 UTC (1 have a number that never came)",
            ),
            ({**UNCOMPARED, "uncompared_share": 0.6}, "ERROR", 0.6, 0.5, "60.0000%"),
            (
                {**UNCOMPARED, "uncompared_share": 0.0, "longest_uncompared_seconds": 61.5},
                "ERROR",
                61.5,
                60.0,
                "or 61.5 s from 12:00:00.000000 UTC snapshots came and none was compared",
            ),
            (
                {**UNCOMPARED, "snapshots_compared": 0, "snapshots_uncompared": 9},
                "ERROR",
                1.0,
                0.0,
                "one of 9 snapshots was compared with the book",
            ),
            (
                {"snapshots_misplaced": 33, "first_misplaced_ns": NOON_NS},
                "WARN",
                33 / 99,
                0.0,
                "33 snapshots belong to a neighbouring message, first at 12:00:00.000000 UTC",
            ),
            ({"snapshots_off_number": 99}, "WARN", 1.0, 0.0, "99 snapshots have a number that"),
            ({"snapshots_stale": 1}, "WARN", 1 / 99, 0.0, "1 snapshot repeats an earlier book"),
            (
                {"unconfirmed_seconds": 1_600.0, "valid_seconds": 80_000.0},
                "WARN",
                0.02,
                0.01,
                "or 1,600 s (2.0000% of the valid time) the touch lies beyond the levels",
            ),
        ],
    )
    def test_are_a_finding(self, fault, severity, figure, threshold, text):
        """How many, for how long, why and since when; one compared with none is an error."""
        said = check_snapshot_match(a_row(**fault), THRESHOLDS)

        assert said is not None
        assert (False, severity, threshold) == (said.passed, said.severity, said.threshold)
        assert figure == pytest.approx(said.figure)
        assert text in said.summary
        assert said.degrades == (severity == "ERROR")


class TestDayBoundary:
    def test_levels_that_differ(self):
        """A single level is enough by default, and never degrades the day."""
        row = a_row(day_boundary_mismatch_share=0.025, day_boundary_mid_deviation_ticks=1.5)
        said = check_day_boundary(row, THRESHOLDS)

        assert said is not None
        assert (False, "WARN", 0.025, 0.0, False) == (
            said.passed,
            said.severity,
            said.figure,
            said.threshold,
            said.degrades,
        )
        assert "2.5000% of 40 levels differ across midnight" in said.summary
        assert "the mid by 1.5 ticks" in said.summary

    def test_as_many_as_allowed(self):
        """Up to the threshold levels may differ."""
        row = a_row(day_boundary_mismatch_share=0.025)
        said = check_day_boundary(row, Thresholds(day_boundary_warn_share=0.025))

        assert said is not None
        assert said.passed
        assert 0.025 == said.thresholds["day_boundary_warn_share"]

    def test_a_problem_is_told_before_the_levels(self):
        """What keeps two days from joining leads the summary."""
        row = a_row(day_boundary_problem="the ids began anew", day_boundary_mismatch_share=0.5)
        said = check_day_boundary(row, THRESHOLDS)

        assert said is not None
        assert "The ids began anew; 50.0000% of 40 levels" in said.summary

    def test_without_a_snapshot_to_compare(self):
        """Days that join in time and numbers pass without a comparison, and say so."""
        said = check_day_boundary(
            a_row(day_boundary_levels=0, day_boundary_mismatch_share=None), THRESHOLDS
        )

        assert said is not None
        assert said.passed
        assert "no snapshot could be placed" in said.summary

    def test_is_not_asked_without_yesterday(self):
        """A day whose day before has no closing book has no outcome."""
        assert check_day_boundary(a_row(day_boundary_levels=None), THRESHOLDS) is None
