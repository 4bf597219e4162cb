"""Measures the exam across midnight for the report."""

from __future__ import annotations

from market_pipeline.quality.findings import Measured
from market_pipeline.stages.judged import RebuiltDayOf

__all__ = ["measure_joint"]


def measure_joint(day: RebuiltDayOf) -> Measured:
    """What the exam across midnight add to the report."""
    return Measured()
