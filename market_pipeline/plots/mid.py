"""The plot on `book_bbo`: mid and spread through the day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure

from market_pipeline.plots.axes import with_holes
from market_pipeline.plots.samples import sampled_quotes

__all__ = ["mid_plot"]

_MAX_INSTRUMENTS = 6


def mid_plot(files: Mapping[str, Sequence[Path]]) -> Figure:
    """The last mid and spread of every minute, a row of axes per instrument (the first six)."""
    shown = dict(sorted(files.items())[:_MAX_INSTRUMENTS])
    # Margins that fit any price: to have them found takes as long as all the rest of the drawing.
    height = 2.2 * len(shown)
    figure = Figure(figsize=(9, height))
    axes = figure.subplots(
        len(shown),
        2,
        squeeze=False,
        gridspec_kw={
            "left": 0.08,
            "right": 0.99,
            "wspace": 0.17,
            "top": 1 - 0.25 / height,
            "bottom": 0.45 / height,
            "hspace": 0.35,
        },
    )
    for (mid_axis, spread_axis), (instrument, parts) in zip(axes, shown.items(), strict=True):
        time, minutes = with_holes(sampled_quotes(parts))
        style = {"linewidth": 0.8, "marker": "." if len(time) < 60 else ""}
        mid_axis.plot(time, minutes["mid"], **style)
        spread_axis.plot(time, minutes["spread"], color="tab:orange", **style)
        spread_axis.axhline(0, color="lightgray", linewidth=0.8)  # keeps zero in view
        mid_axis.set_title(f"{instrument}: mid", fontsize=9, parse_math=False)
        spread_axis.set_title("spread", fontsize=9)
        for axis in (mid_axis, spread_axis):
            axis.xaxis_date()
            axis.margins(x=0.01)
            axis.xaxis.set_major_formatter(DateFormatter("%H:%M"))  # type: ignore[no-untyped-call]
            axis.grid(alpha=0.3)
            axis.tick_params(labelsize=7)
            axis.ticklabel_format(axis="y", useOffset=False, style="plain")
    for axis in axes[-1]:
        axis.set_xlabel("UTC; valid messages only", fontsize=7)
    return figure
