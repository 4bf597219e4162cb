"""Whether every raw value can be what its column says."""

from __future__ import annotations

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import Check, CheckOutcome, Fault, outcome
from market_pipeline.quality.row import ReportRow
from market_pipeline.quality.words import number_of

__all__ = ["DOMAIN", "check_domain"]

DOMAIN = Check(
    name="domain",
    sentence="No raw value is impossible: no null, no price of 0, no negative size, no later day.",
    asset="raw_book_deltas",
    severity="ERROR",
    degrades="always",
)


def check_domain(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Counts the raw values outside their domain; not asked where no file could be read."""
    if row.domain_violations is None:
        return None
    faults = []
    if row.domain_violations:
        text = (
            f"{number_of(row.domain_violations, 'raw value')} outside the domain, first "
            f"{row.first_domain_violation}"
        )
        faults.append(Fault("ERROR", float(row.domain_violations), 0.0, text))
    return outcome(
        DOMAIN,
        faults,
        figure=float(row.domain_violations),
        threshold=0.0,
        fine="Every raw value is within its domain.",
    )
