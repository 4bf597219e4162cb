"""Figures of the check `features`: values of the day's metrics that break their column's rules."""

from __future__ import annotations

from dataclasses import dataclass

from market_pipeline.warehouse.records import Columns, figure

__all__ = ["FeatureFigures"]


@dataclass(frozen=True, kw_only=True)
class FeatureFigures(Columns):
    """What breaks a rule, and the first places; the lists are of equal length."""

    feature_values: int | None = figure("Values of metrics.book_metrics that were looked at.")
    feature_violations: int | None = figure(
        "Those that break a rule of the check features; a constant column is one."
    )
    violation_columns: tuple[str, ...] | None = figure("Of the first places: the column.")
    violation_seconds: tuple[int, ...] | None = figure("Of each: the width of the interval.")
    violation_starts_ns: tuple[int, ...] | None = figure("Of each: its start, ns UTC.")
    violation_values: tuple[str, ...] | None = figure("Of each: what was found.")
    violation_expected: tuple[str, ...] | None = figure("Of each: what would have been right.")
