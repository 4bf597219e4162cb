"""Whether a day is as close to its golden book as the bounds ask."""

from __future__ import annotations

from market_pipeline.config.fidelity import Fidelity
from market_pipeline.quality.checks.base import Check, CheckOutcome, Severity
from market_pipeline.quality.fidelity.report import FidelityRow

__all__ = ["FIDELITY", "check_fidelity"]

FIDELITY = Check(
    name="fidelity",
    sentence="The book is as close to the golden one as the bounds ask.",
    asset="fidelity_report",
    severity="WARN",
    degrades="never",
)


def check_fidelity(row: FidelityRow, rule: Fidelity) -> CheckOutcome | None:
    """Reads the grade of a compared day; not asked where nothing was comparable.

    Args:
        row: The published row.
        rule: The bounds in force, which are shown.
    """
    if row.grade is None or row.worst_ratio is None:
        return None
    severity: Severity = "ERROR" if row.grade == "fail" else "WARN"
    first = ""
    if row.first_divergence_number is not None:
        first = (
            f" First divergence: {row.first_divergence_side} {row.first_divergence_level} at "
            f"message {row.first_divergence_number}."
        )
    return CheckOutcome(
        FIDELITY,
        passed=row.grade == "pass",
        severity=severity,
        figure=row.worst_ratio,
        threshold=1.0 if row.grade != "fail" else 2.0,
        summary=f"{row.reason[0].upper()}{row.reason[1:]}{first}",
        thresholds={
            name: value
            for name, value in rule.model_dump().items()
            if isinstance(value, float | int)
        },
    )
