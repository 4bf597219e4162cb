"""One alert: what it reports, what it is about, and what makes it the same as one before."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import date
from typing import Literal

from market_pipeline.quality.checks.freshness import FRESHNESS
from market_pipeline.shown import shown_lines

__all__ = [
    "Alert",
    "CheckAlerts",
    "DayOutcomes",
    "FailedOutcome",
    "Kind",
    "Severity",
    "check_alerts",
    "trial_alert",
]

Severity = Literal["WARN", "ERROR"]
Kind = Literal[
    "check_failed", "run_failed", "run_cancelled", "day_late", "frames_missing", "unhealthy", "test"
]


@dataclass(frozen=True, slots=True)
class Alert:
    """One message to whoever looks after the data.

    Attributes:
        kind: What happened.
        severity: WARN or ERROR, as of the check.
        summary: One or more sentences that locate the fault.
        at_ns: When it was found, ns UTC; it is the same whenever the alert is delivered.
            Of frames that are missing, when that began.
        check: The check, or the finding of a look at the health; None for a run.
        instrument: `VENUE:SYMBOL`; None for a run.
        day: The UTC day; None for a run that is about none.
        figure, threshold: What decided, in the check's own unit; None where there is no figure.
        run_id: The run that found it; None if no run did.
        host: The machine that records what is missing, or was looked at; None for all others.
        ended_ns: When what was wrong was over, ns UTC; None while it is in force.
    """

    kind: Kind
    severity: Severity
    summary: str
    at_ns: int
    check: str | None = None
    instrument: str | None = None
    day: date | None = None
    # An int stays one in the outbox and in what is sent.
    figure: int | float | None = None
    threshold: int | float | None = None
    run_id: str | None = None
    host: str | None = None
    ended_ns: int | None = None

    def __post_init__(self) -> None:
        # It may quote what a vendor or a library wrote, and receivers show it as it is.
        object.__setattr__(self, "summary", shown_lines(self.summary))

    @property
    def subject(self) -> str:
        """What it is about: there is one finding in force for each subject."""
        if self.kind in {"run_failed", "run_cancelled"}:
            return f"run|{self.run_id}"
        if self.kind in {"frames_missing", "unhealthy"}:
            # Receivers know an alert by its labels, and its severity is one of them.
            return f"{self.kind}|{self.check or self.instrument}|{self.host}|{self.severity}"
        return _subject(self.kind, self.check, self.instrument, self.day)

    @property
    def finding(self) -> str:
        """A digest of what was found; the same one is not reported twice in a row.

        A late day is reported once, whatever the reason why it is late, and missing frames and what
        is unhealthy until they are no more.
        """
        is_once = self.kind in {"day_late", "frames_missing", "unhealthy"}
        decisive = [] if is_once else [self.severity, repr(self.figure), self.summary]
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class FailedOutcome:
    """What a check found against an instrument's day; no figure if it has no report row."""

    instrument: str
    severity: Severity
    figure: int | float | None
    threshold: int | float | None
    summary: str


@dataclass(frozen=True, slots=True)
class DayOutcomes:
    """What a check's evaluation says of a day: who failed, and the ids of those that passed.

    It is the evaluation's metadata `outcomes`, as JSON.
    """

    day: date
    failed: list[FailedOutcome]
    passed: list[str]


def _subject(kind: str, check: str | None, instrument: str | None, day: date | None) -> str:
    return f"{kind}|{check}|{instrument}|{day}"


@dataclass(frozen=True, slots=True)
class CheckAlerts:
    """The result of a check of a day: an alert for each instrument that failed, and the subjects
    that passed, of which nothing is in force any more.
    """

    alerts: tuple[Alert, ...]
    passed: tuple[str, ...]


def check_alerts(check: str, outcomes: DayOutcomes, run_id: str, at_ns: int) -> CheckAlerts:
    """What a check's evaluation is to be reported for.

    Args:
        check: Its name.
        outcomes: What it found.
        run_id: The run that evaluated it.
        at_ns: When, ns UTC.
    """
    # The check of a late day and the look-out for late days are about the same thing.
    kind: Kind = "day_late" if check == FRESHNESS.name else "check_failed"
    alerts = tuple(
        Alert(
            kind=kind, check=check, day=outcomes.day, run_id=run_id, at_ns=at_ns, **asdict(failed)
        )
        for failed in outcomes.failed
    )
    passed = tuple(_subject(kind, check, each, outcomes.day) for each in outcomes.passed)
    return CheckAlerts(alerts, passed)


def trial_alert(at_ns: int) -> Alert:
    """An alert that says of itself that it is none."""
    return Alert(
        kind="test",
        severity="WARN",
        summary="This is a test of market-pipeline: alerts arrive here. Nothing is wrong.",
        at_ns=at_ns,
    )
