"""What the doctor finds: each check's findings, and all of them together."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["Diagnosis", "DoctorReport", "Finding"]

Status = Literal["ok", "warn", "error"]

Finding = tuple[Status, str] | tuple[Status, str, str]
"""What a check yields: a `Diagnosis` without the check's name."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What one check found. `next_step` is empty when there is nothing to do."""

    name: str
    status: Status
    found: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """Every finding, in the order of the checks."""

    findings: tuple[Diagnosis, ...]

    @property
    def ok(self) -> bool:
        """Whether the pipeline can run: no finding is an error (warnings are allowed)."""
        return all(finding.status != "error" for finding in self.findings)

    def to_json(self) -> dict[str, bool | list[dict[str, str]]]:
        """`{"ok": …, "findings": [{"name", "status", "found", "next_step"}, …]}`."""
        return {"ok": self.ok, "findings": [asdict(finding) for finding in self.findings]}
