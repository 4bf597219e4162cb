"""Whether the object store still has the day as it was first fetched."""

from __future__ import annotations

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import Check, CheckOutcome, Fault, outcome
from market_pipeline.quality.row import ReportRow

__all__ = ["DELIVERY", "check_delivery"]

DELIVERY = Check(
    name="delivery",
    sentence="The object store was asked, and has the day's objects as they were first fetched.",
    asset="raw_book_deltas",
    severity="WARN",
    degrades="never",
)


def check_delivery(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Tells every object that changed, is gone or could not be fetched; none of a folder."""
    if row.delivery_remarks is None:
        return None
    remarks = row.delivery_remarks
    return outcome(
        DELIVERY,
        [Fault("WARN", float(len(remarks)), 0.0, remark.rstrip(".")) for remark in remarks],
        figure=0.0,
        threshold=0.0,
        fine="The objects are those that were first fetched.",
    )
