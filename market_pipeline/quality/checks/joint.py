"""Whether the day goes on where the day before ended."""

from __future__ import annotations

from market_pipeline.instruments import Thresholds
from market_pipeline.quality.checks.base import Check, CheckOutcome, Fault, in_force, outcome
from market_pipeline.quality.row import ReportRow

__all__ = ["JOINT", "check_joint"]

JOINT = Check(
    name="joint",
    sentence="Yesterday's closing book, carried over midnight, agrees with today's first snapshot.",
    asset="book_checkpoints",
    severity="WARN",
    degrades="never",
)


def check_joint(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Looks at the exam across midnight; not asked where yesterday has no closing book."""
    if row.joint_levels is None:
        return None
    share, bound = row.joint_mismatch_share or 0.0, thresholds.joint_warn_share
    faults = []
    if row.joint_problem is not None:
        faults.append(Fault("WARN", share, bound, row.joint_problem))
    return outcome(
        JOINT,
        faults,
        figure=share,
        threshold=bound,
        fine=f"{row.joint_levels} levels were compared across midnight.",
        thresholds=in_force(thresholds, "joint_warn_share"),
    )
