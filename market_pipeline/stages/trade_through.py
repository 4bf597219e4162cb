"""Measures trades outside the book for the report."""

from __future__ import annotations

from market_pipeline.quality.findings import Measured
from market_pipeline.stages.judged import RebuiltDayOf

__all__ = ["measure_trade_through"]


def measure_trade_through(day: RebuiltDayOf) -> Measured:
    """What trades outside the book add to the report."""
    return Measured()
