"""Whether messages came in their order, and each only once."""

from __future__ import annotations

from collections.abc import Iterator

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import (
    Check,
    CheckOutcome,
    Fault,
    Severity,
    in_force,
    outcome,
)
from market_pipeline.quality.row import ReportRow
from market_pipeline.quality.words import measured, number_of, time_text

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
    made_of = (row.sequence_restarts, row.split_messages, row.bad_sequences)
    rebuilt = sum(_old(row).values()) + sum(count or 0 for count in made_of)
    # The raw profile sees no repeat from far back, and the rebuild no disorder it need not mind.
    faulty = float(max(sum(measured(row.unordered_per_hour)), rebuilt))
    severity: Severity = "WARN"
    threshold = 0.0
    if row.messages is not None and faulty > thresholds.ordering_error_share * row.messages:
        severity, threshold = "ERROR", thresholds.ordering_error_share * row.messages
    faults = [Fault(severity, faulty, threshold, text) for text in _disorders(row)]
    return outcome(
        ORDERING,
        faults,
        figure=faulty,
        threshold=threshold,
        fine="Every message stands in its order, and none twice.",
        thresholds=in_force(thresholds, "ordering_error_share"),
        per_hour=row.unordered_per_hour,
    )


def _disorders(row: ReportRow) -> Iterator[str]:
    """Each disorder that was counted, in words."""
    if row.sequence_backwards:
        yield (
            f"the sequence number goes backwards at {number_of(row.sequence_backwards, 'message')}"
            f", first at {time_text(row.first_sequence_backwards_ns)}"
        )
    if row.duplicate_messages:
        yield f"{number_of(row.duplicate_messages, 'message')} came before already"
    if row.unordered_messages:
        yield f"{number_of(row.unordered_messages, 'message')} received before the one in front"
    old = ", ".join(f"{count:,} {kind}" for kind, count in _old(row).items() if count)
    if old:
        yield (
            f"of the messages behind later ones the rebuild found {old}, first at "
            f"{time_text(row.first_old_ns)}"
        )
    if row.sequence_restarts:
        yield (
            f"the sequence numbers begin anew {number_of(row.sequence_restarts, 'time')}, first at "
            f"{time_text(row.first_restart_ns)}"
        )
    if row.split_messages:
        yield (
            f"{number_of(row.split_messages, 'message')} received as a part of the next one, or "
            f"twice in a row, first at {time_text(row.first_split_ns)}"
        )
    if row.bad_sequences:
        yield (
            f"the sequence number of {number_of(row.bad_sequences, 'message')} contradicts those "
            f"around it, first at {time_text(row.first_bad_sequence_ns)}"
        )


def _old(row: ReportRow) -> dict[str, int]:
    """The messages that stand behind later ones, by what became of them."""
    return {
        "repeated (not applied again)": row.repeated_messages or 0,
        "late (applied where nothing was newer)": row.late_messages or 0,
        "stale (not applied)": row.stale_messages or 0,
    }
