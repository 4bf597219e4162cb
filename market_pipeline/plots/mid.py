"""The plot on `book_bbo`: mid and spread through the day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from market_pipeline.plots.drawing import Drawing
from market_pipeline.plots.lines import draw_quotes
from market_pipeline.plots.samples import sampled_quotes
from market_pipeline.plots.window import MINUTE_NS, Window
from market_pipeline.quality.intervals import day_bounds_ns

__all__ = ["mid_plot"]

_MAX_INSTRUMENTS = 6
_WIDTH = 860
_MID, _SPREAD = (76, 360), (520, 312)
"""Left and width of the panels."""
_LEGEND = (
    "UTC, receipt clock; valid messages only. Line: the last; band: the lowest to the highest."
)
_ROW, _PANEL_TOP, _PANEL_HEIGHT = 176, 24, 122


def mid_plot(day: date, files: Mapping[str, Sequence[Path]]) -> str:
    """Mid and spread by minute, a row of panels per instrument (the first six), as SVG.

    Args:
        day: The UTC day.
        files: By instrument its day of `books.bbo`, its parts in order.
    """
    quotes = {
        name: sampled_quotes(parts) for name, parts in sorted(files.items())[:_MAX_INSTRUMENTS]
    }
    minutes = [each["start_ns"] for each in quotes.values() if not each.is_empty()]
    window = Window(*day_bounds_ns(day))
    if minutes:
        first_ns = min(each[0] for each in minutes)
        last_ns = max(each[-1] for each in minutes) + MINUTE_NS - 1
        window = replace(Window.of_day(day, first_ns, last_ns), every_ns=MINUTE_NS)
    drawing = Drawing()
    for row, (instrument, shown) in enumerate(quotes.items()):
        top = row * _ROW
        for name, title, left, width in (
            ("mid", f"{instrument}: mid", *_MID),
            ("spread", "spread", *_SPREAD),
        ):
            drawing.text(left, top + 12, title, is_bold=True)
            box = left, top + _PANEL_TOP, width, _PANEL_HEIGHT
            draw_quotes(drawing, box, shown, name, window)
    bottom = len(quotes) * _ROW
    drawing.text(_MID[0], bottom + 4, _LEGEND)
    return drawing.as_image(_WIDTH, bottom + 18)
