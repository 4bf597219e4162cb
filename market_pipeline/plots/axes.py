"""What the plots of a day share: a UTC axis, lines that break where nothing was seen."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, DateFormatter, date2num
from numpy.typing import NDArray

from market_pipeline.plots.svg import INK
from market_pipeline.plots.window import MINUTE_NS, Window

__all__ = ["plain", "show_window", "themed", "times", "with_holes"]

_BRIDGED_STEPS = 5


def times(ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Nanoseconds of the epoch as Matplotlib's days."""
    return np.asarray(date2num(ns.astype("datetime64[ns]")))  # type: ignore[no-untyped-call]


def with_holes(
    quotes: pl.DataFrame, every_ns: int = MINUTE_NS
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """The times and columns of `sampled_quotes`, with a NaN where steps are missing.

    A value that is none breaks the line: what was not seen is not drawn. Up to five steps are
    bridged, because a quiet market has no message in each.
    """
    start_ns = quotes["start_ns"].to_numpy()
    holes = np.flatnonzero(np.diff(start_ns) > _BRIDGED_STEPS * every_ns) + 1
    columns = {
        name: np.insert(quotes[name].to_numpy(), holes, np.nan)
        for name in ("mid", "mid_low", "mid_high", "spread", "spread_low", "spread_high")
    }
    return times(np.insert(start_ns, holes, start_ns[holes])), columns


def show_window(axis: Axes, window: Window) -> None:
    """Shows the window from its start to its end, in UTC."""
    axis.set_xlim(*times(np.array((window.start_ns, window.end_ns))))
    axis.xaxis.set_major_locator(AutoDateLocator(maxticks=10))  # type: ignore[no-untyped-call]
    shape = "%H:%M" if window.every_ns >= MINUTE_NS else "%H:%M:%S"
    axis.xaxis.set_major_formatter(DateFormatter(shape))  # type: ignore[no-untyped-call]


def plain(axis: Axes) -> None:
    """Numbers in full: a price is read, not added to an offset."""
    axis.ticklabel_format(axis="y", useOffset=False, style="plain")


def themed(axis: Axes, title: str) -> None:
    """Titles the axes, and draws what is not data in the page's own colour of text."""
    axis.tick_params(labelsize=7, colors=INK)
    axis.set_title(title, loc="left", fontsize=9, color=INK)
    axis.spines[:].set_edgecolor(INK)
    axis.spines[:].set_linewidth(0.5)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color=INK, alpha=0.15, linewidth=0.5)
    axis.set_axisbelow(True)
