"""Whether the day is there from midnight to midnight."""

from __future__ import annotations

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import (
    Check,
    CheckOutcome,
    Fault,
    Severity,
    in_force,
    outcome,
)
from market_pipeline.quality.intervals import SECONDS_PER_DAY
from market_pipeline.quality.row import ReportRow
from market_pipeline.quality.words import measured, number_of, seconds_text, share_text, time_text

__all__ = ["COMPLETENESS", "check_completeness"]

COMPLETENESS = Check(
    name="completeness",
    sentence="The day has messages and a trades file, and they cover it from midnight to midnight "
    "without holes.",
    asset="raw_book_deltas",
    severity="WARN",
    degrades="always",
)


def check_completeness(row: ReportRow, thresholds: Thresholds) -> CheckOutcome:
    """Looks for a missing head or tail, for holes, for too little time covered in all, and for
    trades; a day without a book fails.
    """
    if row.outcome != "rebuilt":
        return _no_book(row)
    head, tail = measured(row.head_gap_seconds), measured(row.tail_gap_seconds)
    hole, holes = measured(row.longest_quiet_seconds), measured(row.quiet_seconds)
    tolerance = thresholds.edge_tolerance_seconds
    missing = sum(edge for edge in (head, tail) if edge > tolerance) + holes
    severity: Severity = "ERROR" if missing > thresholds.gap_error_share * row.expected else "WARN"
    faults = []
    if row.first_message_ns is None:
        faults.append(Fault(severity, head, tolerance, "no message lies inside the UTC day"))
    elif head > tolerance:
        first_ns = _within_listing(row, row.first_message_ns)
        text = f"the first {seconds_text(head)} are missing, up to {time_text(first_ns)}"
        faults.append(Fault(severity, head, tolerance, text))
    if tail > tolerance:
        last_ns = _within_listing(row, row.last_message_ns)
        text = f"the last {seconds_text(tail)} are missing, from {time_text(last_ns)}"
        faults.append(Fault(severity, tail, tolerance, text))
    if hole:
        text = (
            f"no message came for {seconds_text(holes)} in "
            f"{number_of(row.quiet_count, 'hole')}, the longest {seconds_text(hole)} from "
            f"{time_text(row.longest_quiet_ns)}"
        )
        faults.append(Fault(severity, hole, tolerance, text))
    faults += _uncovered(row, thresholds)
    if row.strategy == "snapshots_only":
        text = f"the day is published from snapshots only: {measured(row.strategy_reason)}"
        faults.append(Fault("WARN", 0.0, 1.0, text.rstrip(".")))
    if row.trades is None and row.rows is not None:  # what the rebuild read is known
        text = "there is no trades file, so a silence cannot be distinguished from a quiet market"
        faults.append(Fault("WARN", 0.0, 1.0, text))
    fine = (
        f"{number_of(row.messages, 'message')} cover the day but for {seconds_text(head)} at "
        f"its start and {seconds_text(tail)} at its end."
    )
    longest = max(head, tail, hole)
    return outcome(
        COMPLETENESS,
        faults,
        figure=longest,
        threshold=tolerance,
        fine=fine,
        thresholds=in_force(
            thresholds, "edge_tolerance_seconds", "coverage_warn_share", "gap_error_share"
        ),
    )


def _within_listing(row: ReportRow, message_ns: int | None) -> int | None:
    """The time of a message, no farther out than it is listed: a head ends where that does."""
    if message_ns is None:
        return None
    if row.listed_ns is not None:
        message_ns = max(message_ns, row.listed_ns)
    return message_ns if row.delisted_ns is None else min(message_ns, row.delisted_ns)


def _uncovered(row: ReportRow, thresholds: Thresholds) -> list[Fault]:
    """One fault if too much of the day is missing, whatever took it: ends, holes, or gaps."""
    observed = measured(row.observed_seconds)
    expected = thresholds.coverage_warn_share * row.expected
    if observed >= expected:
        return []
    missing = row.expected - observed
    is_grave = missing > thresholds.gap_error_share * row.expected
    whole = "the day" if row.expected == SECONDS_PER_DAY else "the time listed"
    covered = f"{seconds_text(observed)} of {whole} ({share_text(observed / row.expected)})"
    text = f"messages cover {covered}, at least {seconds_text(expected)} are expected"
    severity: Severity = "ERROR" if is_grave else "WARN"
    return [Fault(severity, missing, row.expected - expected, text)]


def _no_book(row: ReportRow) -> CheckOutcome:
    fault = Fault("ERROR", 0.0, 1.0, f"no message could be used: {measured(row.failure)}")
    return outcome(COMPLETENESS, [fault], figure=0.0, threshold=1.0, fine="")
