"""The plot on `validation_report`: how much of the day is valid, per instrument."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from market_pipeline.plots.colours import CONDITIONS
from market_pipeline.quality.row import ReportRow

__all__ = ["valid_time_plot"]


def valid_time_plot(rows: Sequence[ReportRow]) -> Figure:
    """A bar of valid hours per instrument, coloured by condition."""
    figure = Figure(figsize=(8, 0.8 + 0.35 * len(rows)), layout="constrained")
    axis = figure.subplots()
    names = [f"{row.instrument_id} ({row.condition})" for row in rows]
    hours = [(row.valid_seconds or 0.0) / 3600 for row in rows]
    bars = axis.barh(
        range(len(rows)), hours, color=[CONDITIONS[row.condition or "missing"] for row in rows]
    )
    axis.set_yticks(range(len(rows)), names, parse_math=False)
    # With two digits the loss of ten seconds would not show.
    axis.bar_label(bars, [f"{count:.3f} h" for count in hours], padding=3, fontsize=8)
    axis.set_xlim(0, 27)
    axis.set_xticks(range(0, 25, 3))
    axis.set_xlabel("valid hours of the UTC day", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.invert_yaxis()
    return figure
