"""`plot_series`: columns of a frame over time, with the spans in which the book is not valid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from market_pipeline.plots.colours import CAUSES, LINES, OTHER_CAUSE
from market_pipeline.plots.drawing import INK, Drawing, box_path, text_width
from market_pipeline.plots.lines import by_pixel, draw_line, with_room
from market_pipeline.plots.panel import Panel, round_ticks, time_ticks
from market_pipeline.plots.plot import Plot
from market_pipeline.plots.times import column_of, times_ns
from market_pipeline.plots.window import Window
from market_pipeline.quality.intervals import IntArray

__all__ = ["plot_series"]

_LEFT, _WIDTH, _RIGHT = 74, 880, 16
_TITLE_HEIGHT, _PANEL_HEIGHT, _TIMES_HEIGHT = 24, 120, 30
_TICK_PIXELS, _LEGEND_ROW, _THINNEST, _SHADE = 24, 18, 1.2, 0.25


def plot_series(
    frame: pl.DataFrame,
    panels: Mapping[str, str | Sequence[str]],
    *,
    time: str = "ts_receipt",
    bars: Sequence[str] = (),
    spans: pl.DataFrame | None = None,
    title: str = "",
) -> Plot:
    """Columns of a frame over time, in panels below one another with one axis.

    A line shows the last value in two pixels, its band the lowest and the highest. It breaks at a
    null or NaN, and at each span of a pixel or more, so that nothing is drawn across what is not
    known.

    Args:
        frame: Rows in the order of time.
        panels: By the title of each panel (the quantity and its unit) the columns in it.
        time: The column of times, with or without `_ns`: int ns since the epoch or datetimes, UTC.
        bars: Those of the columns that are amounts of an interval, such as a flow: drawn as bars
            from zero, each up to the next row's time.
        spans: Rows of `books.intervals`; those that invalidate are shaded, and named below.
        title: What a screen reader says; by default the titles of the panels.

    Raises:
        SchemaError: The frame does not have a column, or `time` has no times.
    """
    at_ns = times_ns(frame, time).to_numpy()
    window = _window(at_ns)
    shaded = _shown_spans(spans, window)
    # A span that no eye sees would only cut the line into dots.
    to_be_seen = pl.col("end_ns") - pl.col("start_ns") > (window.end_ns - window.start_ns) / _WIDTH
    edges = shaded.filter(to_be_seen).select("start_ns", "end_ns").to_numpy()
    drawing, top = Drawing(), 0.0
    for name, columns in panels.items():
        names = [columns] if isinstance(columns, str) else list(columns)
        _draw_titles(drawing, top, name, names)
        top += _TITLE_HEIGHT
        values = [_values(column_of(frame, each), at_ns, np.sort(edges.ravel())) for each in names]
        _draw_panel(drawing, top, window, shaded, values, [each in bars for each in names])
        top += _PANEL_HEIGHT + _TIMES_HEIGHT
    bottom = _draw_legend(drawing, top, f"UTC, {time.removesuffix('_ns')}", shaded) + 16
    return Plot(drawing, _LEFT + _WIDTH + _RIGHT, bottom, title or ", ".join(panels))


def _window(at_ns: IntArray) -> Window:
    """From the first to the last time, or an hour of 1970 if there is none."""
    first, last = (int(at_ns[0]), int(at_ns[-1])) if at_ns.size else (0, 3_600_000_000_000)
    typical = int(np.median(np.diff(at_ns))) if at_ns.size > 1 else 1_000_000_000
    return Window(first, last + max(typical, 1), max(typical, 1))


def _shown_spans(spans: pl.DataFrame | None, window: Window) -> pl.DataFrame:
    """The spans that invalidate and take time, cut to the window."""
    if spans is None:
        return pl.DataFrame(schema={"cause": pl.String, "start_ns": pl.Int64, "end_ns": pl.Int64})
    spans = spans.filter("invalidates")
    return (
        pl.DataFrame(
            {
                "cause": column_of(spans, "cause"),
                **{
                    f"{edge}_ns": times_ns(spans, edge).clip(window.start_ns, window.end_ns)
                    for edge in ("start", "end")
                },
            }
        )
        .filter(pl.col("end_ns") > pl.col("start_ns"))
        .sort("cause", "start_ns")
    )


def _values(column: pl.Series, at_ns: IntArray, breaks_ns: IntArray) -> pl.DataFrame:
    """What is known of a column, as `by_pixel` takes it."""
    value = column.cast(pl.Float64).fill_nan(None)
    crossed = pl.Series(np.searchsorted(breaks_ns, at_ns, side="right"))
    return pl.DataFrame(
        {
            "at_ns": at_ns,
            "stretch": value.is_null().cum_sum().cast(pl.Int64) + crossed,
            **dict.fromkeys(("last", "low", "high"), value),
        }
    ).filter(pl.col("last").is_not_null())


def _draw_titles(drawing: Drawing, top: float, title: str, names: Sequence[str]) -> None:
    """Writes the title of a panel and, where there are several, the names of its columns."""
    drawing.text(_LEFT, top + 10, title, is_bold=True)
    if len(names) == 1:
        return
    x = _LEFT + text_width(title) + 24
    for name, colour in zip(names, _colours(len(names)), strict=True):
        drawing.line(f"M{x:g} {top + 10:g}h16", colour, 3)
        drawing.text(x + 22, top + 10, name)
        x += text_width(name) + 44


def _colours(count: int) -> list[str]:
    return [LINES[number % len(LINES)] for number in range(count)]


def _draw_panel(
    drawing: Drawing,
    top: float,
    window: Window,
    spans: pl.DataFrame,
    values: Sequence[pl.DataFrame],
    are_bars: Sequence[bool],
) -> None:
    known = pl.concat(values)["last"]
    least, most = (
        (0.0, 1.0)
        if known.is_empty()
        else known.to_frame().select(pl.col("last").min(), high=pl.col("last").max()).row(0)
    )
    if any(are_bars):
        least, most = min(least, 0.0), max(most, 0.0)
    y_range = with_room(least, most, from_zero=any(are_bars))
    times = window.start_ns, window.end_ns
    panel = Panel(_LEFT, top, _WIDTH, _PANEL_HEIGHT, times, y_range)
    for cause, start_ns, end_ns in spans.iter_rows():
        start, end = panel.x(np.array([start_ns, end_ns])).tolist()
        width = max(end - start, _THINNEST)
        drawing.box(start, top, width, _PANEL_HEIGHT, CAUSES.get(cause, OTHER_CAUSE), _SHADE)
    y_ticks = round_ticks(*y_range, round(_PANEL_HEIGHT / _TICK_PIXELS))
    panel.draw_axes(drawing, time_ticks(window, _WIDTH), () if known.is_empty() else y_ticks)
    if known.is_empty():
        drawing.text(_LEFT + 8, top + _PANEL_HEIGHT / 2, "no value")
    for column, is_bar, colour in zip(values, are_bars, _colours(len(values)), strict=True):
        if is_bar:
            _draw_bars(drawing, panel, column, window, colour)
        else:
            draw_line(drawing, panel, by_pixel(column, window, _WIDTH), colour)
    if y_range[0] < 0 < y_range[1]:
        drawing.line(f"M{_LEFT} {float(panel.y(np.zeros(1))[0]):.1f}h{_WIDTH}", INK, 0.5)


def _draw_bars(
    drawing: Drawing, panel: Panel, column: pl.DataFrame, window: Window, colour: str
) -> None:
    starts_ns = column["at_ns"].to_numpy()
    left = panel.x(starts_ns)
    width = max(float(panel.x(np.array([window.start_ns + window.every_ns]))[0]) - _LEFT, 0.5)
    value = panel.y(column["last"].to_numpy())
    zero = float(panel.y(np.zeros(1))[0])
    boxes = (
        box_path(x, min(y, zero), 0.85 * width, abs(y - zero))
        for x, y in zip(left.tolist(), value.tolist(), strict=True)
        if y != zero
    )
    drawing.area("".join(boxes), colour)


def _draw_legend(drawing: Drawing, top: float, clock: str, spans: pl.DataFrame) -> float:
    """Writes what the time is and what the shades mean, and returns where that ends."""
    lengths = spans.group_by("cause", maintain_order=True).agg(
        seconds=(pl.col("end_ns") - pl.col("start_ns")).sum() / 1e9
    )
    drawing.text(_LEFT, top, clock if lengths.is_empty() else f"{clock}; not valid:")
    first = x = _LEFT + text_width(f"{clock}; not valid:")
    for cause, seconds in lengths.sort("seconds", descending=True).iter_rows():
        named = f"{cause}, {seconds:,.1f} s"
        if x + text_width(named) > _LEFT + _WIDTH:
            x, top = first, top + _LEGEND_ROW
        drawing.box(x, top - 6, 12, 12, CAUSES.get(cause, OTHER_CAUSE), 2 * _SHADE)
        drawing.text(x + 17, top, named)
        x += text_width(named) + 24
    return top
