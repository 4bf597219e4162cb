"""Measures the minute bars of trades for the report."""

from __future__ import annotations

from market_pipeline.quality.findings import Measured
from market_pipeline.stages.judged import RebuiltDayOf

__all__ = ["measure_bars"]


def measure_bars(day: RebuiltDayOf) -> Measured:
    """What the minute bars of trades add to the report."""
    return Measured()
