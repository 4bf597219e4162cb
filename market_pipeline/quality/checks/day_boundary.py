"""Whether the day goes on where the day before ended."""

from __future__ import annotations

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import Check, CheckOutcome, Fault, in_force, outcome
from market_pipeline.quality.row import ReportRow
from market_pipeline.quality.words import number_of, seconds_text, share_text

__all__ = ["DAY_BOUNDARY", "check_day_boundary"]

DAY_BOUNDARY = Check(
    name="day_boundary",
    sentence="Yesterday's close, replayed over midnight, agrees with today's first snapshot.",
    asset="book_checkpoints",
    severity="WARN",
    degrades="never",
)


def check_day_boundary(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Looks at the comparison across midnight; not asked where yesterday has no closing book."""
    if row.day_boundary_levels is None:
        return None
    share, bound = row.day_boundary_mismatch_share or 0.0, thresholds.day_boundary_warn_share
    faults = []
    if row.day_boundary_problem is not None:
        # It has no measure: there is one where none may be.
        faults.append(Fault("WARN", 1.0, 0.0, row.day_boundary_problem))
    if share > bound:
        text = (
            f"{share_text(share)} of {number_of(row.day_boundary_levels, 'level')} differ across "
            f"midnight, and the mid by {row.day_boundary_mid_deviation_ticks or 0.0:g} ticks"
        )
        faults.append(Fault("WARN", share, bound, text))
    return outcome(
        DAY_BOUNDARY,
        faults,
        figure=share,
        threshold=bound,
        fine=_fine(row),
        thresholds=in_force(thresholds, "day_boundary_warn_share"),
    )


def _fine(row: ReportRow) -> str:
    after = seconds_text(row.day_boundary_pause_seconds or 0.0)
    pause = f"The day goes on {after} after the closing book"
    if not row.day_boundary_levels:
        return f"{pause}; no snapshot could be placed soon enough to compare levels."
    compared = number_of(row.day_boundary_levels, "level")
    share = share_text(row.day_boundary_mismatch_share)
    return f"{pause}; {compared} compared, of which {share} differ."
