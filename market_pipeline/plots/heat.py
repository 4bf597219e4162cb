"""Sizes as a grid of colours, with a bar that says which size a colour is."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from market_pipeline.plots._raster import SHADES, png
from market_pipeline.plots.drawing import Drawing
from market_pipeline.plots.panel import Panel, Tick

__all__ = ["BAR_ROOM", "draw_sizes"]

BAR_ROOM = 70
"""How many pixels the bar and its labels take on the right of a panel."""
_BAR_AWAY, _BAR_WIDTH, _BAR_TOP = 12, 10, 14


def draw_sizes(
    drawing: Drawing, panel: Panel, size: NDArray[np.float64], width: float | None = None
) -> None:
    """Fills a panel with sizes in colours that go by their logarithm, and draws the bar beside it.

    Args:
        drawing: What to draw on.
        panel: Where; its axes are left to the caller.
        size: Shape (rows, columns), the first row the lowest; nothing is drawn for 0 and NaN, and
            at least one is above 0. The colours reach from the 2 % to the 99.5 % quantile.
        width: How much of the panel the columns take, in pixels; by default all of it.
    """
    with np.errstate(divide="ignore"):
        power = np.log10(np.where(size > 0, size, np.nan))
    low, high = np.nanquantile(power, (0.02, 0.995)).tolist()
    high = max(high, low + 1e-6)
    shades = np.rint((power - low) / (high - low) * (SHADES - 1)).clip(0, SHADES - 1)
    drawn = panel.width if width is None else width
    drawing.image(panel.left, panel.top, drawn, panel.height, png(shades[::-1]))
    left, top = panel.left + panel.width + _BAR_AWAY, panel.top + _BAR_TOP
    bar = Panel(left, top, _BAR_WIDTH, panel.height - _BAR_TOP, (0, 1), (low, high))
    drawing.image(
        bar.left, bar.top, bar.width, bar.height, png(np.arange(SHADES, dtype=float)[::-1, None])
    )
    drawing.text(bar.left, panel.top + 4, "size")
    for value, label in _size_ticks(low, high):
        drawing.text(bar.left + _BAR_WIDTH + 4, float(bar.y(np.array(value))), label)


def _size_ticks(low: float, high: float) -> list[Tick]:
    """One, two and five times powers of ten between two logarithms, or only the powers if many."""
    digits = (1, 2, 5) if high - low < 3 else (1,)
    sizes = [
        digit * 10.0**exponent
        for exponent in range(math.floor(low), math.ceil(high) + 1)
        for digit in digits
    ]
    return [(math.log10(size), f"{size:g}") for size in sizes if low <= math.log10(size) <= high]
