"""Whether later snapshots agree with the rebuilt book."""

from __future__ import annotations

from market_pipeline.instruments import Thresholds
from market_pipeline.quality.checks.base import (
    Check,
    CheckOutcome,
    Fault,
    in_force,
    measured,
    number_of,
    outcome,
    share_text,
    time_text,
)
from market_pipeline.quality.row import ReportRow

__all__ = ["EXAM", "check_exam"]

EXAM = Check(
    name="exam",
    sentence="Every later snapshot agrees with the rebuilt book, level by level.",
    asset="book_bbo",
    severity="WARN",
    degrades="on_error",
)


def check_exam(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Holds the share of failed exams against its bounds; not asked of a day without an exam."""
    if row.outcome != "rebuilt" or not row.exam_snapshots:
        return None
    failed = measured(row.exams_failed)
    share = failed / row.exam_snapshots
    bound = thresholds.exam_error_share
    faults = []
    if failed:
        text = (
            f"{number_of(failed, 'snapshot')} of {row.exam_snapshots:,} disagree with the book at "
            f"the touch, first at {time_text(row.first_failed_exam_ns)}"
        )
        severe = share > bound
        faults.append(Fault("ERROR" if severe else "WARN", share, bound if severe else 0.0, text))
    fine = (
        f"{number_of(row.exam_snapshots, 'snapshot')} agree with the book at the touch, and in "
        f"{share_text(row.exam_matching_share)} of the levels that can be compared."
    )
    return outcome(
        EXAM,
        faults,
        figure=share,
        threshold=bound,
        fine=fine,
        thresholds=in_force(thresholds, "exam_error_share"),
        per_hour=row.exams_failed_per_hour,
    )
