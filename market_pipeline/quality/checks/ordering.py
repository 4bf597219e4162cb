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
    """Counts messages behind their time, double ones, and sequence numbers that go backwards, and
    tells what the rebuild made of them.

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
    old = _old(row)
    restarts, bad = row.sequence_restarts or 0, row.bad_sequences or 0
    split = row.split_messages or 0
    rebuilt = sum(old.values()) + bad + restarts + split
    # The raw profile sees no repeat from far back, and the rebuild no disorder it need not mind.
    faulty = float(max(sum(measured(row.unordered_per_hour)), rebuilt))
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
    if any(old.values()):
        told = ", ".join(f"{count:,} {kind}" for kind, count in old.items() if count)
        text = (
            f"of the messages behind later ones the rebuild found {told}, first at "
            f"{time_text(row.first_old_ns)}"
        )
        faults.append(Fault(severity, faulty, threshold, text))
    if restarts:
        text = (
            f"the sequence numbers begin anew {number_of(restarts, 'time')}, first at "
            f"{time_text(row.first_restart_ns)}"
        )
        faults.append(Fault(severity, faulty, threshold, text))
    if split:
        text = (
            f"{number_of(split, 'message')} are a part of the next one, or stand twice in a row, "
            f"first at {time_text(row.first_split_ns)}"
        )
        faults.append(Fault(severity, faulty, threshold, text))
    if bad:
        text = (
            f"the sequence number of {number_of(bad, 'message')} contradicts those around it, "
            f"first at {time_text(row.first_bad_sequence_ns)}"
        )
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


def _old(row: ReportRow) -> dict[str, int]:
    """The messages that stand behind later ones, by what became of them."""
    return {
        "repeated (not applied again)": row.repeated_messages or 0,
        "late (applied where nothing was newer)": row.late_messages or 0,
        "stale (not applied)": row.stale_messages or 0,
    }
