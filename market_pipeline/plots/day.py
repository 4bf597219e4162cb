"""One instrument's day: mid, what was wrong when, spread and depth, below one another."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import polars as pl

from market_pipeline.plots._depth import DepthGrid, depth_grid
from market_pipeline.plots.colours import CAUSES, OTHER_CAUSE
from market_pipeline.plots.drawing import INK, Drawing, box_path
from market_pipeline.plots.heat import draw_sizes
from market_pipeline.plots.lines import draw_quotes
from market_pipeline.plots.panel import Panel, round_ticks, time_ticks
from market_pipeline.plots.plot import Plot
from market_pipeline.plots.window import Window

__all__ = ["day_plot"]

_WHAT = "the last valid one; band: the lowest to the highest"
_WIDTH, _LEFT, _PANEL_WIDTH = 1012, 142, 800
_TITLE_HEIGHT, _TIMES_HEIGHT = 24, 30
_MID_HEIGHT, _SPREAD_HEIGHT, _DEPTH_HEIGHT = 180, 90, 200
_LANE_HEIGHT, _THINNEST = 20, 1.2


def day_plot(
    window: Window,
    quotes: pl.DataFrame,
    intervals: pl.DataFrame,
    depth: pl.DataFrame,
    *,
    tick: Decimal,
    lot: Decimal,
    title: str,
) -> Plot:
    """Mid, intervals, spread and depth through a day on one time axis.

    Args:
        window: The part of the day to show.
        quotes, intervals, depth: As `sampled_quotes`, `shown_intervals` and `sampled_depth` return
            them, by the window's steps; each may be empty.
        tick, lot: The steps of that day.
        title: What a screen reader says of the plot.
    """
    drawing = Drawing()
    causes = _lanes(intervals)
    lanes_height = _LANE_HEIGHT * max(len(causes), 1)
    top = _titled(drawing, 0, f"mid: {_WHAT}")
    draw_quotes(drawing, (_LEFT, top, _PANEL_WIDTH, _MID_HEIGHT), quotes, "mid", window)
    top += _MID_HEIGHT + _TIMES_HEIGHT
    top = _titled(drawing, top, "intervals in which something is known against the book")
    lanes = _panel(window, top, lanes_height, (max(len(causes), 1), 0))
    _draw_lanes(drawing, lanes, window, intervals, causes)
    top = _titled(drawing, top + lanes_height + _TIMES_HEIGHT, f"spread: {_WHAT}")
    draw_quotes(drawing, (_LEFT, top, _PANEL_WIDTH, _SPREAD_HEIGHT), quotes, "spread", window)
    top += _SPREAD_HEIGHT + _TIMES_HEIGHT
    of_depth = f"size resting at its distance from the mid, in ticks of {tick:f}"
    top = _titled(drawing, top, f"{of_depth}: asks above, bids below")
    grid = depth_grid(depth, window)
    if grid is None or not np.nansum(grid.lots):
        drawing.text(_LEFT + 8, top + 10, "no valid book with two sides in books.depth")
        return Plot(drawing, _WIDTH, top + 24, title)
    _draw_depth(drawing, top, window, grid, lot)
    bottom = top + _DEPTH_HEIGHT + _TIMES_HEIGHT
    drawing.text(_LEFT + _PANEL_WIDTH / 2, bottom, "UTC, receipt clock", "middle")
    return Plot(drawing, _WIDTH, bottom + 12, title)


def _titled(drawing: Drawing, top: float, title: str) -> float:
    """Writes the title of a panel, and returns where the panel begins."""
    drawing.text(_LEFT, top + 10, title, is_bold=True)
    return top + _TITLE_HEIGHT


def _panel(window: Window, top: float, height: float, y_range: tuple[float, float]) -> Panel:
    times = window.start_ns, window.end_ns
    return Panel(_LEFT, top, _PANEL_WIDTH, height, times, y_range)


def _lanes(intervals: pl.DataFrame) -> list[str]:
    """The causes to show, those that invalidate first."""
    order = intervals.group_by("cause").agg(pl.col("invalidates").any())
    return order.sort("invalidates", "cause", descending=[True, False])["cause"].to_list()


def _draw_lanes(
    drawing: Drawing, panel: Panel, window: Window, intervals: pl.DataFrame, causes: list[str]
) -> None:
    lanes = [(lane + 0.5, cause) for lane, cause in enumerate(causes)]
    panel.draw_axes(drawing, time_ticks(window, _PANEL_WIDTH), lanes)
    if not causes:
        drawing.text(_LEFT + 8, panel.top + panel.height / 2, "none")
    right = _LEFT + _PANEL_WIDTH
    for lane, cause in enumerate(causes):
        spans = intervals.filter(pl.col("cause") == cause)
        start, end = (
            panel.x(spans[name].clip(window.start_ns, window.end_ns).to_numpy())
            for name in ("start_ns", "end_ns")
        )
        # A second is a hundredth of a pixel, and is to be seen too.
        width = np.maximum(end - start, _THINNEST)
        y, height = panel.top + (lane + 0.15) * _LANE_HEIGHT, 0.7 * _LANE_HEIGHT
        boxes = (
            box_path(x, y, across, height)
            for x, across in zip(
                np.minimum(start, right - width).tolist(), width.tolist(), strict=True
            )
        )
        drawing.area("".join(boxes), CAUSES.get(cause, OTHER_CAUSE))


def _draw_depth(
    drawing: Drawing, top: float, window: Window, grid: DepthGrid, lot: Decimal
) -> None:
    panel = _panel(window, top, _DEPTH_HEIGHT, (-grid.reach_ticks, grid.reach_ticks))
    drawn_ns = window.steps * window.every_ns
    width = _PANEL_WIDTH * drawn_ns / (window.end_ns - window.start_ns)
    draw_sizes(drawing, panel, grid.lots * float(lot), width)
    panel.draw_axes(drawing, time_ticks(window, _PANEL_WIDTH), round_ticks(*panel.y_range, 6))
    drawing.line(f"M{_LEFT} {top + _DEPTH_HEIGHT / 2}h{_PANEL_WIDTH}", INK, 0.5)
