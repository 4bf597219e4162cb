"""Whether messages came in their order, and each only once."""

from __future__ import annotations

from market_pipeline.instruments import Thresholds
from market_pipeline.quality.checks.base import (
    Check,
    CheckOutcome,
    Fault,
    Severity,
    in_force,
    number_of,
    outcome,
    time_text,
)
from market_pipeline.quality.row import ReportRow

__all__ = ["ORDERING", "check_ordering"]

ORDERING = Check(
    name="ordering",
    sentence="Messages stand in the order of their sequence numbers, and none stands there twice.",
    asset="raw_book_deltas",
    severity="WARN",
    degrades="on_error",
)


def check_ordering(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Counts messages behind their time, duplicates, and sequence numbers that go backwards."""
    if row.unordered_messages is None or row.duplicate_messages is None:
        return None
    backwards, twice = row.sequence_backwards or 0, row.duplicate_messages
    late = row.unordered_messages
    faulty = backwards + twice + late
    tolerated = thresholds.ordering_error_share * (row.messages or 0)
    severity: Severity = "ERROR" if faulty > tolerated else "WARN"
    threshold = tolerated if severity == "ERROR" else 0.0
    faults = []
    if backwards:
        text = (
            f"the sequence number goes backwards at {number_of(backwards, 'message')}, first at "
            f"{time_text(row.first_sequence_backwards_ns)}"
        )
        faults.append(Fault(severity, float(faulty), threshold, text))
    if twice:
        text = f"{number_of(twice, 'message')} came before already"
        faults.append(Fault(severity, float(faulty), threshold, text))
    if late:
        text = f"{number_of(late, 'message')} stand behind a later receipt time"
        faults.append(Fault(severity, float(faulty), threshold, text))
    return outcome(
        ORDERING,
        faults,
        figure=float(faulty),
        threshold=threshold,
        fine="Every message stands in its order, and none twice.",
        thresholds=in_force(thresholds, "ordering_error_share"),
        per_hour=row.unordered_per_hour,
    )
