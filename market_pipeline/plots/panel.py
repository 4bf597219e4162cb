"""A box with axes in a drawing: where values lie in it, and ticks at round ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from market_pipeline.plots.drawing import INK, Drawing
from market_pipeline.plots.window import Window
from market_pipeline.quality.intervals import NS_PER_SECOND, SECONDS_PER_DAY

__all__ = ["Panel", "Tick", "round_ticks", "time_ticks"]

Tick = tuple[float, str]
"""A value and what is written at it."""

_Numbers = NDArray[np.floating] | NDArray[np.integer]
_TIME_STEPS_S = (
    *(1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1_800),
    *(3_600, 7_200, 10_800, 21_600, 43_200),
)
_TIME_PIXELS, _MAX_DIGITS = 42, 10
_GRID_OPACITY = 0.12


@dataclass(frozen=True, slots=True)
class Panel:
    """A box and the ranges of values along its sides.

    Attributes:
        left, top, width, height: In pixels.
        x_range: The values at its left and right side.
        y_range: The values at its lower and upper side.
    """

    left: float
    top: float
    width: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    @property
    def bottom(self) -> float:
        """The height of its lower side, in pixels from the top."""
        return self.top + self.height

    def x(self, values: _Numbers) -> NDArray[np.floating]:
        """How far right values lie, in pixels."""
        low, high = self.x_range
        return self.left + (values - low) / (high - low) * self.width

    def y(self, values: _Numbers) -> NDArray[np.floating]:
        """How far down values lie, in pixels."""
        low, high = self.y_range
        return self.bottom - (values - low) / (high - low) * self.height

    def draw_axes(self, drawing: Drawing, x_ticks: Sequence[Tick], y_ticks: Sequence[Tick]) -> None:
        """Draws a thin line and its label for each tick, and the lower side."""
        grid = ""
        for x, (_, label) in zip(self.x(_values(x_ticks)), x_ticks, strict=True):
            grid += f"M{x:.1f} {self.top:.1f}v{self.height:.1f}"
            drawing.text(x, self.bottom + 10, label, "middle")
        for y, (_, label) in zip(self.y(_values(y_ticks)), y_ticks, strict=True):
            grid += f"M{self.left:.1f} {y:.1f}h{self.width:.1f}"
            drawing.text(self.left - 6, y, label, "end")
        drawing.line(grid, INK, opacity=_GRID_OPACITY)
        drawing.line(f"M{self.left:.1f} {self.bottom:.1f}h{self.width:.1f}", INK, 0.6)


def round_ticks(low: float, high: float, most: int) -> list[Tick]:
    """The multiples of one, two or five times a power of ten from `low` to `high`.

    Of these steps the smallest of which at most `most` multiples are there. They are written in
    full, or where that takes too much room as a number and a power of ten.
    """
    exponent = math.floor(math.log10((high - low) / most))
    for digit, zeros in ((1, 0), (2, 0), (5, 0), (1, 1)):
        step = Decimal(digit).scaleb(exponent + zeros)
        first, last = math.ceil(Decimal(str(low)) / step), math.floor(Decimal(str(high)) / step)
        if last - first < most:
            break
    ticks = [number * step for number in range(first, last + 1)]
    return [(float(tick), _written(tick)) for tick in ticks]


def time_ticks(window: Window, pixels: float) -> list[Tick]:
    """Whole hours, minutes or seconds of the UTC day, in nanoseconds as the window's times are.

    Of the steps the smallest that leaves room for the labels on so many pixels.
    """
    most = round(pixels / _TIME_PIXELS)
    start_s, end_s = window.start_ns / NS_PER_SECOND, window.end_ns / NS_PER_SECOND
    midnight_s = window.start_ns // NS_PER_SECOND // SECONDS_PER_DAY * SECONDS_PER_DAY
    step = next(each for each in _TIME_STEPS_S if end_s // each - math.ceil(start_s / each) < most)
    ticks = []
    for number in range(math.ceil(start_s / step), math.floor(end_s / step) + 1):
        minutes, seconds = divmod(number * step - midnight_s, 60)
        label = f"{minutes // 60:02}:{minutes % 60:02}" + (f":{seconds:02}" if step < 60 else "")
        ticks.append((float(number * step * NS_PER_SECOND), label))
    return ticks


def _written(tick: Decimal) -> str:
    full = f"{tick:f}"
    return full if len(full) <= _MAX_DIGITS else str(tick.normalize())


def _values(ticks: Sequence[Tick]) -> NDArray[np.float64]:
    return np.array([value for value, _ in ticks], dtype=np.float64)
