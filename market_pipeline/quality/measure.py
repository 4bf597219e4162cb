"""One measurement of a day, kept apart from all others: what it raises is a finding of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from market_pipeline.errors import error_text, is_of_machine
from market_pipeline.quality.findings import Finding, Measured
from market_pipeline.shown import shown_logger

__all__ = ["Measure", "not_measured"]

_LOG = shown_logger(__name__)

_Day = TypeVar("_Day")


@dataclass(frozen=True, slots=True)
class Measure(Generic[_Day]):
    """One measurement.

    Attributes:
        name: What is measured, in a word or two.
        checks: The names of the checks that hold its figures against thresholds, or that cannot be
            answered without them.
        run: Measures a day.
    """

    name: str
    checks: tuple[str, ...]
    run: Callable[[_Day], Measured]

    def of(self, day: _Day, named: str) -> Measured:
        """What it measures of a day; if it raises, that its checks could not be measured.

        Args:
            day: The day.
            named: The instrument and day in words, for the log.

        Raises:
            Exception: Only one that is the machine's (`errors.is_of_machine`).
        """
        try:
            return self.run(day)
        except Exception as error:
            if is_of_machine(error):
                raise
            _LOG.exception("%s: %s could not be measured", named, self.name)
            return not_measured(self.checks, error_text(error))


def not_measured(checks: Sequence[str], error: str) -> Measured:
    """That checks could not be measured: for each the error, and a finding that tells it."""
    findings = [
        Finding(
            check=check,
            place="first",
            value=error,
            note="This could not be measured; the log of the run has the traceback.",
        )
        for check in checks
    ]
    return Measured(findings=findings, unmeasured=dict.fromkeys(checks, error))
