"""The verdict: from a day's figures and failed checks to one of four conditions, and why.

The rules are `docs/verdict.md`, in words and as a table; `condition` is their only implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import CheckOutcome
from market_pipeline.quality.evaluate import evaluate
from market_pipeline.quality.intervals import NS_PER_SECOND, day_bounds_ns
from market_pipeline.quality.row import Condition, ReportRow

__all__ = ["VENDOR_LAG_SECONDS", "Verdict", "condition", "validate"]

VENDOR_LAG_SECONDS = 4 * 3_600
"""A day that has not arrived by 04:00 UTC of the next is missing; vendors need until 03:15."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may be done with one instrument's day.

    Attributes:
        condition: available (use it), degraded (use its valid rows, knowing the reasons), pending
            (come back later) or missing (there is nothing).
        reasons: One sentence for each reason; empty if and only if available.
        warnings: One sentence for each failed check that leaves the condition as it is.
    """

    condition: Condition
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def condition(
    row: ReportRow,
    outcomes: Sequence[CheckOutcome],
    thresholds: Thresholds,
    *,
    as_of_ns: int,
    vendor_lag_seconds: int = VENDOR_LAG_SECONDS,
) -> Verdict:
    """Turns a day's figures and check outcomes into its condition.

    Args:
        row: The figures; its own condition is not looked at.
        outcomes: What `evaluate` found.
        thresholds: Those of the instrument.
        as_of_ns: The instant of the verdict, ns UTC. Only a day that was not rebuilt depends on it.
        vendor_lag_seconds: How long after the end of the day its files may still arrive.
    """
    if row.outcome != "rebuilt":
        due_ns = day_bounds_ns(row.dt)[1] + vendor_lag_seconds * NS_PER_SECOND
        reason = row.failure or "The day was not rebuilt."
        return Verdict("pending" if as_of_ns < due_ns else "missing", (reason,), ())
    failed = [outcome for outcome in outcomes if not outcome.passed]
    reasons = [outcome.summary for outcome in failed if outcome.degrades]
    reasons += _lost_time(row, thresholds)
    warnings = tuple(outcome.summary for outcome in failed if not outcome.degrades)
    return Verdict("degraded" if reasons else "available", tuple(reasons), warnings)


def validate(
    row: ReportRow,
    thresholds: Thresholds,
    *,
    as_of_ns: int,
    vendor_lag_seconds: int = VENDOR_LAG_SECONDS,
) -> ReportRow:
    """The row with its condition, reasons and warnings, whatever they were before, and with the
    thresholds that they were given by.
    """
    verdict = condition(
        row,
        evaluate(row, thresholds),
        thresholds,
        as_of_ns=as_of_ns,
        vendor_lag_seconds=vendor_lag_seconds,
    )
    return replace(
        row,
        condition=verdict.condition,
        reasons=verdict.reasons,
        warnings=verdict.warnings,
        thresholds=thresholds.model_dump_json(),
    )


def _lost_time(row: ReportRow, thresholds: Thresholds) -> list[str]:
    """One sentence if no valid second is left, or too many are lost that no check speaks for."""
    if row.valid_seconds == 0:
        return ["The book was not valid for a single second."]
    invalid = row.invalid_seconds or 0.0
    if invalid <= thresholds.edge_tolerance_seconds:
        return []
    causes = {
        "not seeded": row.not_seeded_seconds,
        "not resynchronised after a gap": row.after_gap_seconds,
        "stale": row.stale_seconds,
        "after a mismatch": row.snapshot_mismatch_seconds,
        "after a refused value": row.precision_loss_seconds,
        "at messages with a contradicted stamp or number": row.unsound_seconds,
    }
    text = ", ".join(f"{cause} {seconds:,.3f} s" for cause, seconds in causes.items() if seconds)
    return [f"The book was not valid for {invalid:,.3f} s of the observed time ({text})."]
