"""Whether the day goes on where the day before ended."""

from __future__ import annotations

from market_pipeline.config.instruments import Thresholds
from market_pipeline.quality.checks.base import (
    Check,
    CheckOutcome,
    Fault,
    in_force,
    number_of,
    outcome,
    seconds_text,
    share_text,
)
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
        # It has no measure: there is one where none may be.
        faults.append(Fault("WARN", 1.0, 0.0, row.joint_problem))
    if share > bound:
        text = (
            f"{share_text(share)} of {number_of(row.joint_levels, 'level')} differ across "
            f"midnight, and the mid by {row.joint_mid_deviation_ticks or 0.0:g} ticks"
        )
        faults.append(Fault("WARN", share, bound, text))
    return outcome(
        JOINT,
        faults,
        figure=share,
        threshold=bound,
        fine=_fine(row),
        thresholds=in_force(
            thresholds,
            "joint_warn_share",
            "silence_floor_seconds",
            "silence_quantile",
            "silence_factor",
        ),
    )


def _fine(row: ReportRow) -> str:
    pause = f"The day goes on {seconds_text(row.joint_pause_seconds or 0.0)} after the closing book"
    if not row.joint_levels:
        return f"{pause}; no snapshot could be placed soon enough to compare levels."
    compared = number_of(row.joint_levels, "level")
    return f"{pause}; {compared} compared, of which {share_text(row.joint_mismatch_share)} differ."
