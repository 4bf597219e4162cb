"""One instrument's day by UTC hour: the skew of the clocks, and which snapshots mismatched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from market_pipeline.plots.axes import plain, themed
from market_pipeline.plots.colours import CAUSES
from market_pipeline.plots.svg import ACCENT, INK
from market_pipeline.quality.row import ReportRow

__all__ = ["hours_plot"]

_HOURS = np.arange(24)


def hours_plot(row: ReportRow) -> Figure:
    """Hourly median of the skew inside the day's quantiles, mismatches, and differing levels."""
    figure = Figure(figsize=(10, 2.3), layout="constrained")
    skew, failed, differing = figure.subplots(1, 3)
    _draw_skew(skew, row)
    _draw_counts(failed, row.snapshots_mismatched_per_hour)
    _draw_counts(differing, row.snapshot_levels_differing_per_hour)
    themed(skew, "skew, ms: median by hour")
    themed(failed, "mismatches by hour")
    themed(differing, "levels that differed by hour")
    for axis in (skew, failed, differing):
        axis.set_xlim(-0.6, 23.6)
        axis.set_xticks(range(0, 24, 6))
        axis.set_xlabel("UTC hour", fontsize=8, color=INK)
    return figure


def _draw_skew(axis: Axes, row: ReportRow) -> None:
    if row.skew_p50_ms_per_hour is None:
        _mark_empty(axis)
        return
    median = np.array([np.nan if ms is None else ms for ms in row.skew_p50_ms_per_hour])
    for low, high, alpha, label in (
        (row.skew_p001_ms, row.skew_p999_ms, 0.12, "the day's 0.1 to 99.9 %"),
        (row.skew_p01_ms, row.skew_p99_ms, 0.25, "the day's 1 to 99 %"),
    ):
        if low is not None and high is not None:
            axis.axhspan(low, high, color=ACCENT, alpha=alpha, lw=0, label=label)
    axis.plot(_HOURS, median, color=ACCENT, lw=1, marker=".", ms=4)
    plain(axis)
    axis.legend(fontsize=6.5, frameon=False, labelcolor=INK)


def _draw_counts(axis: Axes, counts: Sequence[int] | None) -> None:
    if counts is None:
        _mark_empty(axis)
        return
    axis.bar(_HOURS, counts, color=CAUSES["SNAPSHOT_MISMATCH"], width=0.8)
    axis.set_ylim(0, max(1, *counts) * 1.05)
    axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))


def _mark_empty(axis: Axes) -> None:
    axis.text(0.03, 0.5, "not measured", transform=axis.transAxes, fontsize=8, color=INK)
    axis.set_yticks([])
