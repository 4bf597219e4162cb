"""Whether the day was there when it was due."""

from __future__ import annotations

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import Check, CheckOutcome, Fault, outcome
from market_pipeline.quality.row import ReportRow
from market_pipeline.quality.words import measured

__all__ = ["FRESHNESS", "check_freshness"]

FRESHNESS = Check(
    name="freshness",
    sentence="The day can be used by the time it is due, 04:00 UTC of the next day by default.",
    asset="validation_report",
    severity="WARN",
    degrades="never",
)


def check_freshness(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Fails for a day that is overdue, passes for one that is available or degraded.

    A degraded day has arrived; what is wrong with it, its own checks say. A day that is still
    pending is not asked, nor is a row that was not validated yet.
    """
    if row.condition in {None, "pending"}:
        return None
    faults = []
    if row.condition == "missing":
        faults.append(Fault("WARN", 1.0, 0.0, f"the day is overdue: {measured(row.failure)}"))
    return outcome(FRESHNESS, faults, figure=0.0, threshold=0.0, fine="The day is there.")
