"""Measures the plain second implementation for the report."""

from __future__ import annotations

from market_pipeline.quality.findings import Measured
from market_pipeline.stages.judged import RebuiltDayOf

__all__ = ["measure_twin"]


def measure_twin(day: RebuiltDayOf) -> Measured:
    """What the plain second implementation add to the report."""
    return Measured()
