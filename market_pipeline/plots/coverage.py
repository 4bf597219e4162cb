"""The coverage heatmap: instruments down, days across, condition as colour and letter."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import groupby

import polars as pl

from market_pipeline.plots.colours import CONDITIONS, LETTERS
from market_pipeline.plots.drawing import Drawing, box_path, text_width
from market_pipeline.quality.coverage import not_listed
from market_pipeline.quality.row import Condition

__all__ = ["coverage_plot"]

_NOTHING, _LINES = "#ececec", "#fff"
_NOT_LISTED = "#fff"
_PALEST = 0.35
"""Of its colour a day without a valid second keeps so much."""
_SHADES = 20
"""So many shades of a colour the eye takes for a continuous scale, and equal cells are one path."""
_CELL_WIDTH, _CELL_HEIGHT = 11, 18
_MAX_LETTERS = 6_000
_NUMBERED_DAYS = (1, 5, 10, 15, 20, 25)
_MONTH_NAME_DAYS = 5
"""So many days' width the name of a month takes."""
_TOP = 34
_LEGEND_HEIGHT = 34

_Cell = tuple[Condition | None, float | None]
"""A verdict: the condition, None on a day without one on which the instrument is not listed; and
which share of the expected time is valid."""


def coverage_plot(coverage: pl.DataFrame, start: date, end: date) -> str:
    """A cell for every instrument and day, as SVG: colour and letter say the condition, shade how
    much of the day is valid.

    Args:
        coverage: Rows of `quality.coverage`, each instrument and day at most once.
        start, end: The days to show, both included.
    """
    names = sorted({f"{row[0]}:{row[1]}" for row in coverage.select("exchange", "symbol").rows()})
    days = (end - start).days + 1
    found: dict[str, list[_Cell | None]] = {name: [None] * days for name in names}
    columns = coverage.filter(
        pl.col("dt").is_between(start, end),
        pl.col("condition").is_not_null() | not_listed(),
    )
    for exchange, symbol, day, condition, share in columns.select(
        "exchange", "symbol", "dt", "condition", "valid_share"
    ).iter_rows():
        found[f"{exchange}:{symbol}"][(day - start).days] = condition, share
    left = math.ceil(max(map(text_width, names), default=0.0)) + 14
    width, height = days * _CELL_WIDTH, len(names) * _CELL_HEIGHT
    drawing = Drawing()
    drawing.box(left, _TOP, width, height, _NOTHING)
    _draw_cells(drawing, left, list(found.values()))
    for row, (name, cells) in enumerate(found.items()):
        middle = _TOP + (row + 0.5) * _CELL_HEIGHT
        drawing.text(left - 6, middle, name, "end")
        letters = [
            (left + (day + 0.5) * _CELL_WIDTH, LETTERS[condition])
            for day, (condition, _) in enumerate(cell or (None, None) for cell in cells)
            if condition not in (None, "available")
        ]
        if letters and days * len(names) <= _MAX_LETTERS:
            drawing.letters(letters, middle)
    _draw_days(drawing, left, start, days)
    is_any = any((None, None) in cells for cells in found.values())
    legend_width = _draw_legend(drawing, _TOP + height + 20, with_not_listed=is_any)
    return drawing.as_image(max(left + width, legend_width) + 10, _TOP + height + _LEGEND_HEIGHT)


def _draw_cells(drawing: Drawing, left: int, rows: Sequence[Sequence[_Cell | None]]) -> None:
    """Fills the cells, equal neighbours in one piece, and draws white lines between all."""
    paths: defaultdict[str, str] = defaultdict(str)
    for row, cells in enumerate(rows):
        y, x = _TOP + row * _CELL_HEIGHT, left
        for shade, run in groupby(None if cell is None else _shade(*cell) for cell in cells):
            width = len(list(run)) * _CELL_WIDTH
            if shade is not None:
                paths[shade] += box_path(x, y, width, _CELL_HEIGHT)
            x += width
    for shade, path in paths.items():
        drawing.area(path, shade)
    days = len(rows[0]) if rows else 0
    across = (
        f"M{left} {_TOP + row * _CELL_HEIGHT}h{days * _CELL_WIDTH}" for row in range(len(rows) + 1)
    )
    down = (
        f"M{left + day * _CELL_WIDTH} {_TOP}v{len(rows) * _CELL_HEIGHT}" for day in range(days + 1)
    )
    drawing.line("".join([*across, *down]), _LINES)


def _draw_legend(drawing: Drawing, y: float, *, with_not_listed: bool) -> float:
    """Draws what colours and letters mean, and returns where it ends."""
    x = 12.0
    for colour, text in (
        *((colour, _named(condition)) for condition, colour in CONDITIONS.items()),
        (_NOTHING, "not validated"),
        *([(_NOT_LISTED, "white: not listed")] if with_not_listed else []),
        (_shade("available", 0.0), "paler: less of the day is valid"),
    ):
        drawing.box(x, y - 6, 12, 12, colour)
        drawing.text(x + 17, y, text)
        x += text_width(text) + 30
    return x


def _named(condition: Condition) -> str:
    """The condition with the letter that its cells have; the usual one has none."""
    return condition if condition == "available" else f"{LETTERS[condition]} {condition}"


def _shade(condition: Condition | None, valid_share: float | None) -> str:
    """The condition's colour, the nearer to white the less of the expected time is valid."""
    if condition is None:
        return _NOT_LISTED
    share = 1.0 if valid_share is None else round(valid_share * _SHADES) / _SHADES
    strength = _PALEST + (1 - _PALEST) * share
    full = bytes.fromhex(CONDITIONS[condition].removeprefix("#"))
    return "#" + bytes(round(255 - strength * (255 - part)) for part in full).hex()


def _draw_days(drawing: Drawing, left: int, start: date, days: int) -> None:
    """Numbers the first day and those that are round, and names the months."""
    shown = [start + timedelta(days=number) for number in range(days)]
    for number, day in enumerate(shown):
        begins = number == 0 or day.day == 1
        middle = left + (number + 0.5) * _CELL_WIDTH
        if number == 0 or day.day in _NUMBERED_DAYS:
            drawing.text(middle, _TOP - 8, str(day.day), "middle")
        # Where the next month begins at once, the name of the first one would lie on its name.
        if begins and not any(
            each.day == 1 for each in shown[number + 1 : number + _MONTH_NAME_DAYS]
        ):
            drawing.text(left + number * _CELL_WIDTH, 12, f"{day:%b %Y}")
