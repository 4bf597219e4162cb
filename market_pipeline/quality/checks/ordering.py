"""Whether messages came in their order, and each only once."""

from __future__ import annotations

from market_pipeline.instruments import Thresholds
from market_pipeline.quality.checks.base import (
    Check,
    CheckOutcome,
    Fault,
    Severity,
    in_force,
    measured,
    number_of,
    outcome,
    time_text,
)
from market_pipeline.quality.row import ReportRow

__all__ = ["ORDERING", "check_ordering"]

ORDERING = Check(
    name="ordering",
    sentence="Messages stand in the order of their times and sequence numbers, and none twice.",
    asset="raw_book_deltas",
    severity="WARN",
    degrades="on_error",
)


def check_ordering(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Counts messages behind their time, double ones, and sequence numbers that go backwards.

    The figure counts a message once, whatever is wrong with it. Without a rebuild nobody knows what
    share of the messages that is, and it stays a warning.
    """
    if row.unordered_messages is None or row.duplicate_messages is None:
        return None
    late, twice, backwards = (
        row.unordered_messages,
        row.duplicate_messages,
        row.sequence_backwards or 0,
    )
    faulty = float(sum(measured(row.unordered_per_hour)))
    severity: Severity = "WARN"
    threshold = 0.0
    if row.messages is not None and faulty > thresholds.ordering_error_share * row.messages:
        severity, threshold = "ERROR", thresholds.ordering_error_share * row.messages
    faults = []
    if backwards:
        text = (
            f"the sequence number goes backwards at {number_of(backwards, 'message')}, first at "
            f"{time_text(row.first_sequence_backwards_ns)}"
        )
        faults.append(Fault(severity, faulty, threshold, text))
    if twice:
        text = f"{number_of(twice, 'message')} came before already"
        faults.append(Fault(severity, faulty, threshold, text))
    if late:
        text = f"{number_of(late, 'message')} received before the one in front"
        faults.append(Fault(severity, faulty, threshold, text))
    return outcome(
        ORDERING,
        faults,
        figure=faulty,
        threshold=threshold,
        fine="Every message stands in its order, and none twice.",
        thresholds=in_force(thresholds, "ordering_error_share"),
        per_hour=row.unordered_per_hour,
    )
