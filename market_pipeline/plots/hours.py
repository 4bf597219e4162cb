"""One instrument's day by UTC hour: the skew of the clocks, and which snapshots mismatched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from market_pipeline.plots.colours import CAUSES
from market_pipeline.plots.drawing import ACCENT, Drawing, polyline
from market_pipeline.plots.panel import Panel, round_ticks
from market_pipeline.quality.row import ReportRow

__all__ = ["hours_plot"]

_WIDTH, _HEIGHT = 1000, 200
_LEFTS = (60, 400, 730)
_PANEL_TOP, _PANEL_WIDTH, _PANEL_HEIGHT = 42, 260, 120
_SHOWN_HOURS = (-0.6, 23.6)
_HOUR_TICKS = [(float(hour), str(hour)) for hour in range(0, 24, 6)]
_BAR_HOURS = 0.8
_MOST_TICKS = 5


def hours_plot(row: ReportRow, title: str) -> str:
    """Hourly median of the skew inside the day's quantiles, mismatches, and differing levels.

    Args:
        row: The day's verdict.
        title: What a screen reader says of the plot.
    """
    drawing = Drawing()
    skew, mismatched, differing = _LEFTS
    _draw_skew(drawing, skew, row)
    for left, name, counts in (
        (mismatched, "mismatches by hour", row.snapshots_mismatched_per_hour),
        (differing, "levels that differed by hour", row.snapshot_levels_differing_per_hour),
    ):
        drawing.text(left, 10, name, is_bold=True)
        _draw_counts(drawing, left, counts)
    for left in _LEFTS:
        drawing.text(left + _PANEL_WIDTH / 2, _HEIGHT - 12, "UTC hour", "middle")
    return drawing.as_inline(_WIDTH, _HEIGHT, title)


def _draw_skew(drawing: Drawing, left: float, row: ReportRow) -> None:
    drawing.text(left, 10, "skew, ms: median by hour", is_bold=True)
    medians = np.array(row.skew_p50_ms_per_hour or (), dtype=np.float64)  # a null is a NaN
    hours = np.flatnonzero(~np.isnan(medians))
    if not len(hours):
        _mark_empty(drawing, left)
        return
    bands = [
        (low, high, opacity)
        for low, high, opacity in (
            (row.skew_p001_ms, row.skew_p999_ms, 0.15),
            (row.skew_p01_ms, row.skew_p99_ms, 0.3),
        )
        if low is not None and high is not None
    ]
    shown = [*medians[hours].tolist(), *(ms for low, high, _ in bands for ms in (low, high))]
    panel = _panel(left, min(shown), max(shown))
    panel.draw_axes(drawing, _HOUR_TICKS, round_ticks(*panel.y_range, _MOST_TICKS))
    for low, high, opacity in bands:
        lower, upper = panel.y(np.array((low, high))).tolist()
        drawing.box(left, upper, _PANEL_WIDTH, lower - upper, ACCENT, opacity)
    drawing.text(left, 28, "bands: the day's 0.1 to 99.9 %, and 1 to 99 %")
    for run in np.split(hours, np.flatnonzero(np.diff(hours) > 1) + 1):
        drawing.line(polyline(panel.x(run), panel.y(medians[run])), ACCENT)
    for hour in hours.tolist():
        at = np.array([hour])
        drawing.line(polyline(panel.x(at), panel.y(medians[at])), ACCENT, 4)


def _draw_counts(drawing: Drawing, left: float, counts: Sequence[int] | None) -> None:
    if counts is None:
        _mark_empty(drawing, left)
        return
    most = max(1, *counts)
    panel = _panel(left, 0.0, most)
    # No more ticks than there are whole numbers.
    ticks = round_ticks(*panel.y_range, min(_MOST_TICKS, most + 1))
    panel.draw_axes(drawing, _HOUR_TICKS, ticks)
    hours = np.flatnonzero(counts)
    starts, ends = panel.x(hours - _BAR_HOURS / 2), panel.x(hours + _BAR_HOURS / 2)
    tops = panel.y(np.array(counts)[hours])
    for start, end, top in zip(starts.tolist(), ends.tolist(), tops.tolist(), strict=True):
        drawing.box(start, top, end - start, panel.bottom - top, CAUSES["SNAPSHOT_MISMATCH"])


def _panel(left: float, low: float, high: float) -> Panel:
    """The panel for values from `low` to `high`, with a little room above and below."""
    room = 0.05 * (high - low) or 1.0
    low = low if low == 0.0 else low - room
    box = left, _PANEL_TOP, _PANEL_WIDTH, _PANEL_HEIGHT
    return Panel(*box, _SHOWN_HOURS, (low, high + room))


def _mark_empty(drawing: Drawing, left: float) -> None:
    drawing.text(left + 8, _PANEL_TOP + _PANEL_HEIGHT / 2, "not measured")
