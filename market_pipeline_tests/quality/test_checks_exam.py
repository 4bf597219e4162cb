"""The exam and the joint: what warns, what is an error, and what is told of it."""

from __future__ import annotations

import pytest

from market_pipeline.instruments import Thresholds
from market_pipeline.quality.checks.exam import check_exam
from market_pipeline.quality.checks.joint import check_joint
from market_pipeline_tests.quality.factory import NOON_NS, THRESHOLDS, a_failed_row, a_row

EXAMS = {"exam_snapshots": 1_000, "max_mid_deviation_ticks": 3.5}
ONE_FAILED = {**EXAMS, "exams_failed": 1, "first_failed_exam_ns": NOON_NS}
THREE_FAILED = {**ONE_FAILED, "exams_failed": 3}
EXAM_FAULTS = [
    (ONE_FAILED, "WARN", 0.001, 0.0, "1 of 1,000 snapshots (0.1000%) disagree"),
    (ONE_FAILED, "WARN", 0.001, 0.0, "first at 12:00:00.000000 UTC"),
    (THREE_FAILED, "ERROR", 0.003, 0.002, "the mid is off by 3.5 ticks at most"),
    ({"exam_matching_share": 0.9985}, "WARN", 0.0015, 0.0, "0.1500% of the snapshots' levels"),
    (
        {"exam_matching_share": 0.95, "missing_share": 0.04},
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


class TestExam:
    @pytest.mark.parametrize(("fault", "severity", "figure", "threshold", "text"), EXAM_FAULTS)
    def test_a_fault_is_told(self, fault, severity, figure, threshold, text):
        """The gravest fault gives severity, figure and threshold; all are in the summary."""
        said = check_exam(a_row(**fault), THRESHOLDS)

        assert said is not None
        assert (False, severity, threshold) == (said.passed, said.severity, said.threshold)
        assert figure == pytest.approx(said.figure)
        assert text in said.summary
        assert severity == "ERROR" or not said.degrades

    def test_every_threshold_looked_at_is_shown(self):
        """Raising each threshold to what was found turns every fault off; all are in force."""
        fault = {
            **THREE_FAILED,
            "exam_matching_share": 0.9,
            "ghost_share": 0.5,
            "longest_reconvergence_seconds": 90.0,
            "max_mid_deviation_ticks": 20_000.0,
        }
        lenient = {
            "exam_warn_share": 0.003,
            "exam_error_share": 0.003,
            "exam_level_warn_share": 0.5,
            "exam_level_error_share": 0.5,
            "exam_mid_error_ticks": 20_000.0,
            "exam_reconverge_error_seconds": 90.0,
        }
        said = check_exam(a_row(**fault), Thresholds(**lenient))

        assert said is not None
        assert said.passed
        assert lenient == said.thresholds
        for name in lenient:
            stricter = Thresholds(**{**lenient, name: 0.0})
            again = check_exam(a_row(**fault), stricter)
            assert again is not None
            assert again.passed == (name in ("exam_error_share", "exam_level_error_share")), name

    def test_a_clean_day_is_told_in_figures(self):
        """Without a fault the summary says how many snapshots and which share of levels agree."""
        said = check_exam(a_row(**EXAMS), THRESHOLDS)

        assert said is not None
        assert "All 1,000 snapshots agree with the book at the touch" in said.summary
        assert "100.0000% of the levels" in said.summary

    def test_failures_by_hour_are_shown(self):
        """The counts per hour are those of the failed exams."""
        by_hour = (0,) * 12 + (3,) + (0,) * 11
        said = check_exam(a_row(**THREE_FAILED, exams_failed_per_hour=by_hour), THRESHOLDS)

        assert said is not None
        assert tuple(map(float, by_hour)) == said.per_hour

    @pytest.mark.parametrize("row", [a_row(exam_snapshots=0), a_failed_row()])
    def test_is_not_asked_without_an_exam(self, row):
        """A day without a later snapshot, or without a book, has no outcome."""
        assert check_exam(row, THRESHOLDS) is None


class TestJoint:
    def test_levels_that_differ(self):
        """A single level is enough by default, and never degrades the day."""
        row = a_row(joint_mismatch_share=0.025, joint_mid_deviation_ticks=1.5)
        said = check_joint(row, THRESHOLDS)

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
        row = a_row(joint_mismatch_share=0.025)
        said = check_joint(row, Thresholds(joint_warn_share=0.025))

        assert said is not None
        assert said.passed
        assert 0.025 == said.thresholds["joint_warn_share"]

    def test_a_problem_is_told_before_the_levels(self):
        """What keeps two days from joining leads the summary."""
        row = a_row(joint_problem="the ids began anew", joint_mismatch_share=0.5)
        said = check_joint(row, THRESHOLDS)

        assert said is not None
        assert "The ids began anew; 50.0000% of 40 levels" in said.summary

    def test_without_a_snapshot_to_compare(self):
        """Days that join in time and numbers pass without an exam, and say so."""
        said = check_joint(a_row(joint_levels=0, joint_mismatch_share=None), THRESHOLDS)

        assert said is not None
        assert said.passed
        assert "no snapshot could be placed" in said.summary

    def test_is_not_asked_without_yesterday(self):
        """A day whose day before has no closing book has no outcome."""
        assert check_joint(a_row(joint_levels=None), THRESHOLDS) is None
