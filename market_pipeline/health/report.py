"""What a look at the health finds, and how bad it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Literal

from market_pipeline.config.values import JsonValue
from market_pipeline.doctor.finding import Diagnosis
from market_pipeline.health.disk import FreeBytes
from market_pipeline.health.expiry import Expiry

__all__ = ["ExpectedDay", "Health", "There"]

There = Literal["available", "degraded", "rejected", "missing", "not validated"]
"""What became of a day that is due: `rejected` has files that cannot be used, `missing` none."""

_HEALTH = {"ok": "healthy", "warn": "degraded", "error": "failed"}


@dataclass(frozen=True, slots=True)
class ExpectedDay:
    """A day of an instrument that is due, and what became of it.

    Attributes:
        instrument: Its id.
        day: The UTC day.
        found: What is there.
        valid_seconds: How long its book was valid; 0 if there is none.
        reason: Why it is not available; empty if it is, or nobody has looked.
        expected_seconds: How much of the day the instrument was listed.
    """

    instrument: str
    day: date
    found: There
    valid_seconds: float = 0.0
    reason: str = ""
    expected_seconds: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Health:
    """The findings in their order, and the days that were expected.

    Attributes:
        at_ns: When it was looked, ns UTC.
        findings: One or more for each part of the pipeline.
        expected: The last days that are due, of each instrument.
        expiries: What ends some day, as far as that is known.
        disks: What each disk has left, as far as it can be asked.
        backup_s: When the last backup ended, Unix time, 0 if none did; None if none is looked for.
    """

    at_ns: int
    findings: tuple[Diagnosis, ...]
    expected: tuple[ExpectedDay, ...] = ()
    expiries: tuple[Expiry, ...] = ()
    disks: tuple[FreeBytes, ...] = ()
    backup_s: float | None = None

    @property
    def exit_code(self) -> int:
        """0: healthy. 1: degraded, something warns. 2: failed, something is an error."""
        return max((_CODES[each.status] for each in self.findings), default=0)

    @property
    def word(self) -> str:
        """`healthy`, `degraded` or `failed`."""
        return next(_HEALTH[status] for status, code in _CODES.items() if code == self.exit_code)

    def as_json(self) -> Mapping[str, JsonValue]:
        """`{"at", "health", "exit_code", "findings": […], "expected": […]}`."""
        return {
            "at": datetime.fromtimestamp(self.at_ns // 1_000_000_000, UTC).isoformat(),
            "health": self.word,
            "exit_code": self.exit_code,
            "findings": [asdict(each) for each in self.findings],
            "expected": [{**asdict(each), "day": each.day.isoformat()} for each in self.expected],
        }


_CODES = {"ok": 0, "warn": 1, "error": 2}
