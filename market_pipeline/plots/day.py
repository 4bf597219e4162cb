"""One instrument's day: mid, what was wrong when, spread and depth, below one another."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import polars as pl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from market_pipeline.plots.axes import plain, show_window, themed, times, with_holes
from market_pipeline.plots.colours import CAUSES, OTHER_CAUSE
from market_pipeline.plots.depth import DepthGrid, depth_grid
from market_pipeline.plots.svg import ACCENT, INK
from market_pipeline.plots.window import Window

__all__ = ["day_plot"]

_MAX_MARKED = 60
"""Of fewer points than this each is marked, because a line through them may be too short to see."""


def day_plot(
    window: Window,
    quotes: pl.DataFrame,
    intervals: pl.DataFrame,
    depth: pl.DataFrame,
    *,
    tick: Decimal,
    lot: Decimal,
) -> Figure:
    """Mid, intervals, spread and depth through a day, on one time axis.

    Args:
        window: The part of the day to show.
        quotes, intervals, depth: As `sampled_quotes`, `shown_intervals` and `sampled_depth` return
            them, by the window's steps; each may be empty.
        tick, lot: The steps of that day.
    """
    causes = _lanes(intervals)
    grid = depth_grid(depth, window)
    heights = [2.4, 0.3 + 0.22 * max(len(causes), 1), 1.3, 2.4 if grid else 0.5]
    figure = Figure(figsize=(10, sum(heights) + 0.6), layout="constrained")
    mid, lanes, spread, book = figure.subplots(4, 1, sharex=True, height_ratios=heights)
    time, minutes = with_holes(quotes, window.every_ns)
    for axis, name in ((mid, "mid"), (spread, "spread")):
        axis.fill_between(
            time, minutes[f"{name}_low"], minutes[f"{name}_high"], color=ACCENT, alpha=0.3, lw=0
        )
        marker = "." if len(time) < _MAX_MARKED else ""
        axis.plot(time, minutes[name], color=ACCENT, lw=0.8, marker=marker, ms=3)
        plain(axis)
    spread.set_ylim(bottom=min(0.0, spread.get_ylim()[0]))
    _draw_lanes(lanes, window, intervals, causes)
    _draw_depth(figure, book, window, grid, tick, lot)
    themed(
        mid, f"mid at the last valid message of every {window.step_name}; band: lowest to highest"
    )
    themed(lanes, "intervals in which something is known against the book")
    lanes.spines["left"].set_visible(False)  # would hide what is known at midnight
    themed(spread, "spread, likewise")
    themed(book, "size resting in the book at its distance from the mid: asks above, bids below")
    show_window(book, window)
    book.set_xlabel("UTC, receipt clock", fontsize=8, color=INK)
    return figure


def _lanes(intervals: pl.DataFrame) -> list[str]:
    """The causes to show, those that invalidate first."""
    order = intervals.group_by("cause").agg(pl.col("invalidates").any())
    return order.sort("invalidates", "cause", descending=[True, False])["cause"].to_list()


def _draw_lanes(axis: Axes, window: Window, intervals: pl.DataFrame, causes: list[str]) -> None:
    axis.set_yticks(range(len(causes)), causes)
    axis.set_ylim(max(len(causes), 1) - 0.5, -0.5)
    if not causes:
        axis.text(0.01, 0.5, "none", transform=axis.transAxes, va="center", fontsize=8, color=INK)
    for lane, cause in enumerate(causes):
        spans = intervals.filter(pl.col("cause") == cause).select(
            pl.col("start_ns", "end_ns").clip(window.start_ns, window.end_ns)
        )
        start, end = (times(spans[name].to_numpy()) for name in ("start_ns", "end_ns"))
        colour = CAUSES.get(cause, OTHER_CAUSE)
        # The edge makes a second visible, which is a hundredth of a pixel.
        axis.broken_barh(
            list(zip(start, end - start, strict=True)),
            (lane - 0.35, 0.7),
            facecolor=colour,
            edgecolor=colour,
            linewidth=1.2,
        )


def _draw_depth(
    figure: Figure, axis: Axes, window: Window, grid: DepthGrid | None, tick: Decimal, lot: Decimal
) -> None:
    if grid is None or not np.nansum(grid.lots):
        axis.text(
            0.01,
            0.5,
            "no valid book with two sides in books.depth",
            transform=axis.transAxes,
            va="center",
            fontsize=8,
            color=INK,
        )
        axis.set_yticks([])
        return
    size = np.where(grid.lots > 0, grid.lots * float(lot), np.nan)
    left, right = times(
        np.array((window.start_ns, window.start_ns + window.steps * window.every_ns))
    )
    image = axis.imshow(
        size,
        norm=LogNorm(*np.nanquantile(size, (0.02, 0.995))),
        cmap=colormaps["cividis"],
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=(left, right, -grid.reach_ticks, grid.reach_ticks),
    )
    axis.axhline(0, color=INK, lw=0.5)
    axis.set_ylabel(f"ticks of {tick:f}", fontsize=8, color=INK)
    bar = figure.colorbar(image, ax=axis, pad=0.01, aspect=15)
    bar.set_label("size", fontsize=8, color=INK)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    bar.ax.yaxis.set_major_formatter(lambda size, _: f"{size:g}")
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.tick_params(labelsize=7, colors=INK)
