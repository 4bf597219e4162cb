"""The coverage heatmap: instruments down, days across, condition as colour and letter."""

from __future__ import annotations

from datetime import date, timedelta
from typing import cast

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from market_pipeline.plots.colours import CONDITIONS, LETTERS
from market_pipeline.quality.row import Condition

__all__ = ["coverage_plot"]

_NOTHING = (0.93, 0.93, 0.93)
_PALEST = 0.35
"""Of its colour a day without a valid second keeps so much."""
_MAX_LETTERS = 6_000
_MAX_NUMBERED_DAYS = 70
_MONTH_NAME_DAYS = 4
"""So many days' width the name of a month takes."""


def coverage_plot(coverage: pl.DataFrame, start: date, end: date) -> Figure:
    """A cell for every instrument and day: colour and letter say the condition, shade how much of
    the day is valid.

    Args:
        coverage: Rows of `quality.coverage`, each instrument and day at most once.
        start, end: The days to show, both included.
    """
    names = sorted({f"{row[0]}:{row[1]}" for row in coverage.select("exchange", "symbol").rows()})
    rows = {name: number for number, name in enumerate(names)}
    days = (end - start).days + 1
    cells = np.full((max(len(names), 1), days, 3), _NOTHING)
    letters: list[tuple[int, int, str]] = []
    for cell in coverage.filter(pl.col("dt").is_between(start, end)).iter_rows(named=True):
        if cell["condition"] is None:
            continue
        condition = cast("Condition", cell["condition"])
        place = rows[f"{cell['exchange']}:{cell['symbol']}"], (cell["dt"] - start).days
        cells[place] = _shade(condition, cell["valid_share"])
        if condition != "available":
            letters.append((*place, LETTERS[condition]))
    figure = Figure(
        figsize=(max(6.0, 2.6 + 0.16 * days), 1.5 + 0.2 * max(len(names), 1)), layout="constrained"
    )
    axis = figure.subplots()
    axis.imshow(cells, aspect="auto", interpolation="nearest")
    if days * len(names) <= _MAX_LETTERS:
        for row, column, letter in letters:
            axis.text(column, row, letter, ha="center", va="center", fontsize=6.5)
    axis.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
    _show_days(axis, start, days)
    # Two collections of lines; a grid would need a tick, with its label, for each line.
    right, bottom = days - 0.5, cells.shape[0] - 0.5
    axis.vlines(np.arange(-0.5, days), -0.5, bottom, colors="white", linewidth=0.6)
    axis.hlines(np.arange(-0.5, cells.shape[0]), -0.5, right, colors="white", linewidth=0.6)
    axis.set(xlim=(-0.5, right), ylim=(bottom, -0.5))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.legend(
        handles=[
            *(
                Patch(color=colour, label=_named(condition))
                for condition, colour in CONDITIONS.items()
            ),
            Patch(color=_NOTHING, label="not validated"),
            Patch(color=_shade("available", 0.0), label="paler: less of the day is valid"),
        ],
        loc="outside lower left",
        ncols=6,
        fontsize=7,
        frameon=False,
        handlelength=1,
    )
    return figure


def _named(condition: Condition) -> str:
    """The condition with the letter that its cells have; the usual one has none."""
    return condition if condition == "available" else f"{LETTERS[condition]} {condition}"


def _shade(condition: Condition, valid_share: float | None) -> tuple[float, float, float]:
    """The condition's colour, the nearer to white the less of the day is valid."""
    strength = 1.0 if valid_share is None else _PALEST + (1 - _PALEST) * valid_share
    red, green, blue = (1 - strength * (1 - part) for part in to_rgb(CONDITIONS[condition]))
    return red, green, blue


def _show_days(axis: Axes, start: date, days: int) -> None:
    """Numbers the days, or where there are many the first of each month; names the months."""
    shown = [start + timedelta(days=number) for number in range(days)]
    ticks, labels = [], []
    for number, day in enumerate(shown):
        begins = number == 0 or day.day == 1
        if begins or days <= _MAX_NUMBERED_DAYS:
            ticks.append(number)
            # Where the next month begins at once, the name of the first one would lie on its name.
            named = begins and not any(
                each.day == 1 for each in shown[number + 1 : number + _MONTH_NAME_DAYS]
            )
            labels.append(f"{day:%b %Y}\n{day.day}" if named else f"{day.day}")
    axis.set_xticks(ticks, labels, fontsize=6)
    axis.xaxis.tick_top()
