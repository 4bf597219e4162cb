"""Whether the day was there when it was due."""

from __future__ import annotations

from market_pipeline.instruments import Thresholds
from market_pipeline.quality.checks.base import Check, CheckOutcome, Fault, measured, outcome
from market_pipeline.quality.row import ReportRow

__all__ = ["FRESHNESS", "check_freshness"]

FRESHNESS = Check(
    name="freshness",
    sentence="The day can be used by the time it is due, 04:00 UTC of the next day by default.",
    asset="validation_report",
    severity="WARN",
    degrades="never",
)


def check_freshness(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Fails for a day that is overdue; a row that was not judged yet is not asked."""
    if row.condition is None:
        return None
    faults = []
    if row.condition == "missing":
        faults.append(Fault("WARN", 1.0, 0.0, f"the day is overdue: {measured(row.failure)}"))
    fine = "The day is not due yet." if row.condition == "pending" else "The day is there."
    return outcome(FRESHNESS, faults, figure=0.0, threshold=0.0, fine=fine)
