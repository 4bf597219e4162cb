"""The plot on `validation_report`: how much of the day is valid, per instrument."""

from __future__ import annotations

from collections.abc import Sequence

from market_pipeline.plots.colours import CONDITIONS
from market_pipeline.plots.drawing import Drawing, text_width
from market_pipeline.plots.panel import Panel
from market_pipeline.quality.row import ReportRow

__all__ = ["valid_time_plot"]

_BARS_WIDTH, _ROW, _BAR = 480, 24, 16
_HOURS = [(float(hour), str(hour)) for hour in range(0, 25, 3)]


def valid_time_plot(rows: Sequence[ReportRow]) -> str:
    """A bar of valid hours per instrument, coloured by condition, as SVG."""
    drawing = Drawing()
    names = [f"{row.instrument_id} ({row.condition})" for row in rows]
    left = max(map(text_width, names), default=0.0) + 16
    panel = Panel(left, 8, _BARS_WIDTH, _ROW * len(rows), (0, 24), (0, 1))
    panel.draw_axes(drawing, _HOURS, ())
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        middle = panel.top + (number + 0.5) * _ROW
        hours = (row.valid_seconds or 0.0) / 3600
        length = hours / 24 * _BARS_WIDTH
        drawing.text(left - 6, middle, name, "end")
        colour = CONDITIONS[row.condition or "missing"]
        drawing.box(left, middle - _BAR / 2, length, _BAR, colour)
        # With two digits the loss of ten seconds would not show.
        drawing.text(left + length + 5, middle, f"{hours:.3f} h")
    drawing.text(left, panel.bottom + 26, "valid hours of the UTC day")
    return drawing.as_image(left + _BARS_WIDTH + 70, panel.bottom + 38)
