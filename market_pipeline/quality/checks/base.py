"""What a check is and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from market_pipeline.config.thresholds import Thresholds

__all__ = [
    "Check",
    "CheckOutcome",
    "Fault",
    "Severity",
    "graded",
    "in_force",
    "outcome",
    "unmeasured_outcome",
]

Severity = Literal["WARN", "ERROR"]
Degrades = Literal["always", "on_error", "never"]


@dataclass(frozen=True, slots=True)
class Check:
    """One question asked of every day.

    Attributes:
        name: Unique, lower case.
        sentence: What must hold.
        asset: The asset it is shown on.
        severity: Of a failure, unless its figure is past the bound of an error.
        degrades: Whether a failure makes the day degraded: always, only as an ERROR, or never.
        withholds_metrics: Whether a failure as an ERROR keeps the instrument out of what is made of
            its book: going on would publish nonsense.
    """

    name: str
    sentence: str
    asset: str
    severity: Severity
    degrades: Degrades
    withholds_metrics: bool = False

    @property
    def docs_page(self) -> str:
        """What it means and what to do, below `docs/`."""
        return f"checks/{self.name}.md"


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """What one check found about one instrument's day.

    Attributes:
        severity: Of the failure; the default severity if it passed.
        figure, threshold: The figure that decided, and the bound in force, in the same unit.
        summary: One sentence that locates the fault, or says what was found to be well.
        thresholds: The thresholds that the check looked at, by name.
        per_hour: The fault by UTC hour, 24 entries; None where it has no time.
        measured: False if the figures could not be measured: nobody knows whether it holds.
    """

    check: Check
    passed: bool
    severity: Severity
    figure: float
    threshold: float
    summary: str
    thresholds: Mapping[str, float] = field(default_factory=dict)
    per_hour: tuple[float, ...] | None = None
    measured: bool = True

    @property
    def degrades(self) -> bool:
        """Whether this outcome makes the day degraded."""
        if self.passed:
            return False
        if not self.measured:
            return True
        when = self.check.degrades
        return when == "always" or (when == "on_error" and self.severity == "ERROR")

    @property
    def withholds_metrics(self) -> bool:
        """Whether nothing may be made of this book; what was not measured proves nothing wrong."""
        severe = not self.passed and self.severity == "ERROR"
        return severe and self.measured and self.check.withholds_metrics


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that a check found wrong, as a part of a sentence."""

    severity: Severity
    figure: float
    threshold: float
    text: str


def graded(figure: float, warn: float, error: float, text: str) -> Fault:
    """A fault past the bound of a warning, which is an error if it is past that of one too."""
    is_error = figure > error
    return Fault("ERROR" if is_error else "WARN", figure, error if is_error else warn, text)


def outcome(
    check: Check,
    faults: Sequence[Fault],
    *,
    figure: float,
    threshold: float,
    fine: str,
    worst: str | None = None,
    thresholds: Mapping[str, float] | None = None,
    per_hour: Sequence[float] | None = None,
) -> CheckOutcome:
    """The first fault, the gravest, decides; all are reported, with the worst place if they do not
    name it. Without a fault, `fine` is reported.
    """
    shown = dict(thresholds or {})
    hours = None if per_hour is None else tuple(float(count) for count in per_hour)
    if not faults:
        return CheckOutcome(check, True, check.severity, figure, threshold, fine, shown, hours)
    text = "; ".join([fault.text for fault in faults] + ([worst] if worst else []))
    return CheckOutcome(
        check=check,
        passed=False,
        severity=faults[0].severity,
        figure=faults[0].figure,
        threshold=faults[0].threshold,
        summary=f"{text[0].upper()}{text[1:].rstrip('.')}.",
        thresholds=shown,
        per_hour=hours,
    )


def unmeasured_outcome(check: Check, error: str, found: CheckOutcome | None) -> CheckOutcome:
    """The outcome of a check whose figures could not all be measured.

    Args:
        check: Which.
        error: Why not.
        found: What it says of those that were; None if of none. Its own fault is reported too.
    """
    also = f" Besides: {found.summary}" if found is not None and not found.passed else ""
    return CheckOutcome(
        check=check,
        passed=False,
        severity="ERROR",
        figure=1.0,
        threshold=0.0,
        summary=f"The check {check.name} could not be measured: {error.rstrip('.')}.{also}",
        thresholds={} if found is None else found.thresholds,
        per_hour=None if found is None else found.per_hour,
        measured=False,
    )


def in_force(thresholds: Thresholds, *names: str) -> dict[str, float]:
    """The named thresholds with their values."""
    return {name: getattr(thresholds, name) for name in names}
