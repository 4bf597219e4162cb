"""A line through time, and the band from the lowest to the highest around it."""

from __future__ import annotations

import numpy as np
import polars as pl

from market_pipeline.plots.drawing import ACCENT, Drawing, polyline
from market_pipeline.plots.panel import Panel, round_ticks, time_ticks
from market_pipeline.plots.window import Window

__all__ = ["by_pixel", "draw_line", "draw_quotes", "with_room"]

_BRIDGED_STEPS = 5
_POINT_PIXELS = 2
_TICK_PIXELS = 24
_BAND_OPACITY = 0.3


def draw_quotes(
    drawing: Drawing,
    box: tuple[float, float, float, float],
    quotes: pl.DataFrame,
    name: str,
    window: Window,
) -> None:
    """Draws the mid or the spread of every step in a panel of its own, with its axes.

    What was not seen is not drawn: where steps are missing the line breaks. Up to five are bridged,
    because a quiet market has no message in each.

    Args:
        drawing: What to draw on.
        box: Left, top, width and height of the panel, in pixels.
        quotes: As `sampled_quotes` returns it for the window's steps.
        name: "mid" or "spread".
        window: What is shown.
    """
    values = quotes.select(
        at_ns=pl.col("start_ns") + window.every_ns // 2,
        stretch=(pl.col("start_ns").diff() > _BRIDGED_STEPS * window.every_ns)
        .fill_null(False)
        .cum_sum(),
        last=pl.col(name),
        low=pl.col(f"{name}_low"),
        high=pl.col(f"{name}_high"),
    )
    points = by_pixel(values, window, box[2])
    panel = Panel(
        *box, (window.start_ns, window.end_ns), _range(points, from_zero=name == "spread")
    )
    times = time_ticks(window, panel.width)
    if points.is_empty():
        panel.draw_axes(drawing, times, ())
        drawing.text(panel.left + 8, panel.top + panel.height / 2, "no valid quote of two sides")
        return
    panel.draw_axes(drawing, times, round_ticks(*panel.y_range, round(panel.height / _TICK_PIXELS)))
    draw_line(drawing, panel, points, ACCENT)


def by_pixel(values: pl.DataFrame, window: Window, width: float) -> pl.DataFrame:
    """One row for each two pixels: the last value, and the lowest and the highest of all in them.

    Args:
        values: Columns `at_ns` (int64), `stretch` (the line breaks where it changes), `last`, `low`
            and `high`, in the order of time.
        window: What is shown.
        width: On so many pixels.

    Returns:
        `stretch`, `point` (how many points right of the panel's left side), `last`, `low`, `high`.
    """
    point_ns = (window.end_ns - window.start_ns) / width * _POINT_PIXELS
    return values.group_by(
        "stretch",
        ((pl.col("at_ns") - window.start_ns) / point_ns).floor().alias("point"),
        maintain_order=True,
    ).agg(pl.col("last").last(), pl.col("low").min(), pl.col("high").max())


def draw_line(drawing: Drawing, panel: Panel, points: pl.DataFrame, colour: str) -> None:
    """Draws a line through the last values, and the band from the lowest to the highest.

    Args:
        drawing: What to draw on.
        panel: Where.
        points: As `by_pixel` returns them.
        colour: Of line and band.
    """
    bands, lines, dots = "", "", ""
    for stretch in points.partition_by("stretch", maintain_order=True):
        x = panel.left + (stretch["point"].to_numpy() + 0.5) * _POINT_PIXELS
        last, low, high = (panel.y(stretch[each].to_numpy()) for each in ("last", "low", "high"))
        if len(x) == 1:
            # A line through few points may be too short to see.
            dots += polyline(x, last)
            x = x + np.array((-0.5, 0.5)) * _POINT_PIXELS
            low, high = low.repeat(2), high.repeat(2)
        else:
            lines += polyline(x, last)
        bands += polyline(np.append(x, x[::-1]), np.append(high, low[::-1])) + "z"
    drawing.area(bands, colour, _BAND_OPACITY)
    drawing.line(lines, colour)
    drawing.line(dots, colour, 3)


def _range(points: pl.DataFrame, *, from_zero: bool) -> tuple[float, float]:
    """From the lowest to the highest value, with a little room; a spread is shown from zero."""
    if points.is_empty():
        return 0.0, 1.0
    low, high = points.select(pl.col("low").min(), pl.col("high").max()).row(0)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    return with_room(low, high, from_zero=from_zero)


def with_room(low: float, high: float, *, from_zero: bool = False) -> tuple[float, float]:
    """A range with a little room below and above; `from_zero` leaves none below a zero."""
    room = 0.04 * (high - low) or abs(high) / 1_000 or 1.0
    return (low if from_zero and low == 0.0 else low - room), high + room
