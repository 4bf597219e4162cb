"""`plot_scatter`: two columns of a frame against each other."""

from __future__ import annotations

import numpy as np
import polars as pl

from market_pipeline.plots.colours import LINES
from market_pipeline.plots.drawing import ACCENT, INK, Drawing
from market_pipeline.plots.lines import with_room
from market_pipeline.plots.panel import Panel, round_ticks
from market_pipeline.plots.plot import Plot
from market_pipeline.plots.times import column_of

__all__ = ["plot_scatter"]

_LEFT, _TOP, _WIDTH, _HEIGHT = 74, 24, 520, 320
_MOST_POINTS = 4_000


def plot_scatter(
    frame: pl.DataFrame,
    x: str,
    y: str,
    *,
    x_title: str = "",
    y_title: str = "",
    line: tuple[float, float] | None = None,
) -> Plot:
    """A point for each row that has both values.

    Of more than 4,000 rows every n-th is drawn, and the picture says so.

    Args:
        frame: The rows.
        x, y: The columns across and up.
        x_title, y_title: The quantities and their units; by default the names of the columns.
        line: Intercept and slope of a line to draw, such as a fit.

    Raises:
        SchemaError: The frame does not have a column.
    """
    both = pl.DataFrame(
        {
            name: column.cast(pl.Float64).fill_nan(None)
            for name, column in (("x", column_of(frame, x)), ("y", column_of(frame, y)))
        }
    ).drop_nulls()
    every = max(-(-both.height // _MOST_POINTS), 1)
    shown = both.gather_every(every)
    across, up = x_title or x, y_title or y
    drawing = Drawing()
    drawing.text(_LEFT, 10, up, is_bold=True)
    ranges = [_range(shown[name]) for name in ("x", "y")]
    panel = Panel(_LEFT, _TOP, _WIDTH, _HEIGHT, ranges[0], ranges[1])
    panel.draw_axes(drawing, round_ticks(*ranges[0], 8), round_ticks(*ranges[1], 9))
    places = zip(panel.x(shown["x"].to_numpy()), panel.y(shown["y"].to_numpy()), strict=True)
    drawing.line("".join(f"M{left:.1f} {top:.1f}h0" for left, top in places), ACCENT, 3, 0.5)
    if line is not None:
        _draw_fit(drawing, panel, line)
    bottom = panel.bottom + 28
    drawing.text(_LEFT + _WIDTH, bottom, across, "end", is_bold=True)
    of_how_many = f"{both.height:,} points" + (f", one in {every} is drawn" if every > 1 else "")
    drawing.text(_LEFT, bottom, of_how_many)
    return Plot(drawing, _LEFT + _WIDTH + 24, bottom + 14, f"{up} against {across}")


def _range(values: pl.Series) -> tuple[float, float]:
    if values.is_empty():
        return 0.0, 1.0
    array = values.to_numpy()
    return with_room(float(array.min()), float(array.max()))


def _draw_fit(drawing: Drawing, panel: Panel, line: tuple[float, float]) -> None:
    """Draws the part of the line that lies in the panel."""
    intercept, slope = line
    ends = np.array(panel.x_range)
    if slope:
        low, high = sorted((limit - intercept) / slope for limit in panel.y_range)
        ends = np.clip(ends, low, high)
    height = panel.y(intercept + slope * ends)
    drawing.line(
        "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(panel.x(ends), height, strict=True)),
        LINES[1],
        1.5,
    )
    drawing.line(f"M{panel.left:.1f} {panel.bottom:.1f}h{panel.width:.1f}", INK, 0.6)
