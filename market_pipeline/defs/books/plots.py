"""The plot on `book_bbo`: mid and spread through the day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure

__all__ = ["mid_plot"]

_BUCKET_NS = 60 * 1_000_000_000
_MAX_INSTRUMENTS = 6
_BRIDGED_MINUTES = 5


def mid_plot(files: Mapping[str, Sequence[Path]]) -> Figure:
    """The last mid and spread of every minute, a row of axes per instrument (the first six)."""
    shown = dict(sorted(files.items())[:_MAX_INSTRUMENTS])
    figure = Figure(figsize=(9, 2.2 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 2, squeeze=False)
    for (mid_axis, spread_axis), (instrument, parts) in zip(axes, shown.items(), strict=True):
        minutes = (
            pl.scan_parquet(list(parts), glob=False, hive_partitioning=False)
            .filter(pl.col("flags") == 0)
            .group_by(minute=pl.col("ts_receipt_ns") // _BUCKET_NS)
            .agg(pl.col("bid_price").last(), pl.col("ask_price").last())
            .sort("minute")
            .collect()
        )
        minute = minutes["minute"].to_numpy()
        # A value that is none breaks the line: what was not seen is not drawn.
        holes = np.flatnonzero(np.diff(minute) > _BRIDGED_MINUTES) + 1
        time = (np.insert(minute, holes, minute[holes]) * 60).astype("datetime64[s]")
        bid = np.insert(minutes["bid_price"].to_numpy(), holes, np.nan)
        ask = np.insert(minutes["ask_price"].to_numpy(), holes, np.nan)
        style = {"linewidth": 0.8, "marker": "." if len(time) < 60 else ""}
        mid_axis.plot(time, (bid + ask) / 2, **style)
        spread_axis.plot(time, ask - bid, color="tab:orange", **style)
        spread_axis.axhline(0, color="lightgray", linewidth=0.8)  # keeps zero in view
        mid_axis.set_title(f"{instrument}: mid", fontsize=9)
        spread_axis.set_title("spread", fontsize=9)
        for axis in (mid_axis, spread_axis):
            axis.margins(x=0.01)
            axis.xaxis.set_major_formatter(DateFormatter("%H:%M"))  # type: ignore[no-untyped-call]
            axis.grid(alpha=0.3)
            axis.tick_params(labelsize=7)
            axis.ticklabel_format(axis="y", useOffset=False, style="plain")
    for axis in axes[-1]:
        axis.set_xlabel("UTC; valid messages only", fontsize=7)
    return figure
