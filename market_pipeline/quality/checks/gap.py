"""Whether messages are missing while the market went on."""

from __future__ import annotations

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import (
    Check,
    CheckOutcome,
    Fault,
    graded,
    in_force,
    outcome,
)
from market_pipeline.quality.row import ReportRow
from market_pipeline.quality.words import measured, number_of, seconds_text, time_text

__all__ = ["GAP", "check_gap"]

GAP = Check(
    name="gap",
    sentence="No message is proven to be lost, and the feed is never silent while the market goes "
    "on, nor for longer than the market alone would be.",
    asset="book_bbo",
    severity="WARN",
    degrades="always",
)


def check_gap(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Adds up the silences that are gaps, and counts the gaps that ids prove."""
    if row.outcome != "rebuilt":
        return None
    seconds, proven = measured(row.gap_seconds), measured(row.proven_gap_count)
    warn_seconds = thresholds.gap_warn_seconds
    error_seconds = thresholds.gap_error_share * row.expected
    faults = []
    if seconds > warn_seconds:
        text = (
            f"{number_of(row.gap_count, 'suspected gap')} of {seconds_text(seconds)} in all; the "
            f"first from {time_text(measured(row.gap_starts_ns)[0])} to "
            f"{time_text(measured(row.gap_ends_ns)[0])}, {_shown(row)}, the longest "
            f"{seconds_text(row.longest_gap_seconds)} from {time_text(row.longest_gap_ns)}"
        )
        if row.outage_count:
            text += (
                f"; {number_of(row.outage_count, 'outage')} of all streams, "
                f"{seconds_text(row.outage_seconds)}"
            )
        faults.append(graded(seconds, warn_seconds, error_seconds, text))
    if proven:
        text = f"the ids prove that messages are lost at {number_of(proven, 'place')}"
        faults.append(Fault("WARN", float(proven), 0.0, text))
    fine = (
        f"No message is proven to be lost; {number_of(row.gap_count, 'silence')} longer than "
        f"{seconds_text(row.gap_threshold_seconds)} while the market went on, "
        f"{seconds_text(seconds)} in all."
    )
    return outcome(
        GAP,
        faults,
        figure=seconds,
        threshold=warn_seconds,
        fine=fine,
        thresholds=in_force(thresholds, "gap_warn_seconds", "gap_error_share"),
        per_hour=row.gaps_per_hour,
    )


def _shown(row: ReportRow) -> str:
    """What shows that the first gap is one."""
    trades = measured(row.gap_trades)[0]
    if trades:
        return f"with {number_of(trades, 'trade')} inside"
    changes = (row.gap_snapshots or (0,))[0]
    if changes:
        return f"in which {number_of(changes, 'snapshot')} of another book came"
    return "far longer than the day's own rhythm"
