"""Whether the best bid ever stands above the best ask."""

from __future__ import annotations

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import (
    Check,
    CheckOutcome,
    graded,
    in_force,
    outcome,
)
from market_pipeline.quality.row import ReportRow
from market_pipeline.quality.words import measured, number_of, seconds_text, time_text

__all__ = ["CROSSED", "check_crossed"]

CROSSED = Check(
    name="crossed",
    sentence="The best bid is never above the best ask after a whole message.",
    asset="book_bbo",
    severity="WARN",
    degrades="always",
)


def check_crossed(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Adds up the time in which the book was crossed."""
    if row.outcome != "rebuilt":
        return None
    seconds = measured(row.crossed_seconds)
    faults = []
    if seconds > thresholds.crossed_warn_seconds:
        text = (
            f"the book is crossed for {seconds_text(seconds)} in "
            f"{number_of(row.crossed_count, 'run')}, the first from "
            f"{time_text(row.first_crossed_ns)}, the longest "
            f"{seconds_text(row.longest_crossed_seconds)} from {time_text(row.longest_crossed_ns)}"
        )
        warn, error = thresholds.crossed_warn_seconds, thresholds.crossed_error_seconds
        faults.append(graded(seconds, warn, error, text))
    fine = (
        f"The book is crossed for {seconds_text(seconds)} and locked for "
        f"{seconds_text(row.locked_seconds)}."
    )
    return outcome(
        CROSSED,
        faults,
        figure=seconds,
        threshold=thresholds.crossed_warn_seconds,
        fine=fine,
        thresholds=in_force(thresholds, "crossed_warn_seconds", "crossed_error_seconds"),
        per_hour=row.crossed_seconds_per_hour,
    )
