"""`plot_depth`: how much rests at which price, through time."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market_pipeline.errors import DomainError
from market_pipeline.plots.drawing import Drawing, polyline
from market_pipeline.plots.heat import BAR_ROOM, draw_sizes
from market_pipeline.plots.panel import Panel, round_ticks, time_ticks
from market_pipeline.plots.plot import Plot
from market_pipeline.plots.times import times_ns
from market_pipeline.plots.window import Window

__all__ = ["plot_depth"]

_LEFT, _TOP, _WIDTH, _HEIGHT = 74, 24, 860, 360
_MOST_COLUMNS, _MOST_ROWS = 860, 360
_SHOWN_SHARE = 0.99
_MID = "#d55e00"


def plot_depth(cells: pl.DataFrame, *, title: str = "") -> Plot:
    """A heat map of the depth by time and price, with the mid as a line over it.

    The colour goes by the logarithm of the size; nothing is drawn where no size rests, and in
    intervals without a valid book. Of more intervals than pixels the last in each is drawn. The
    prices reach as far beyond the mids as 99 % of the cells lie from their mid.

    Args:
        cells: As `depth_matrix` returns it for one instrument, collected.
        title: Above the picture; by default which instrument it is.

    Raises:
        DomainError: There is no cell, or more than one instrument.
    """
    names = cells.select("exchange", "symbol").unique().rows()
    if len(names) != 1:
        raise DomainError(
            "A heat map is of one instrument",
            next_step="Filter the frame by `exchange` and `symbol`, and see that it has rows.",
            column="symbol",
            expected="one instrument",
            found=str(len(names)),
        )
    heading = title or f"{':'.join(names[0])}: resting size by price"
    cells = cells.with_columns(at_ns=times_ns(cells, "ts_interval"))
    every_ns, step_ticks = _step(cells["at_ns"]), _step(cells["price_ticks"])
    start_ns = int(cells["at_ns"].to_numpy().min())
    window = Window(start_ns, int(cells["at_ns"].to_numpy().max()) + every_ns, every_ns)
    drawing = Drawing()
    drawing.text(_LEFT, 10, heading, is_bold=True)
    touch = _touch(cells)
    size, low_ticks, high_ticks = _grid(cells, touch, window, step_ticks)
    tick = float(cells["price"][0] / cells["price_ticks"][0])
    prices = low_ticks * tick, high_ticks * tick
    panel = Panel(_LEFT, _TOP, _WIDTH, _HEIGHT, (window.start_ns, window.end_ns), prices)
    draw_sizes(drawing, panel, size)
    panel.draw_axes(drawing, time_ticks(window, _WIDTH), round_ticks(*prices, 10))
    _draw_mid(drawing, panel, touch, window, (step_ticks, tick))
    bottom = panel.bottom + 28
    drawing.text(_LEFT, bottom, "UTC, receipt clock. Line: the mid, to the height of a row.")
    return Plot(drawing, _LEFT + _WIDTH + BAR_ROOM, bottom + 14, heading)


def _touch(cells: pl.DataFrame) -> pl.DataFrame:
    """Of each interval `at_ns`, `bid` and `ask`: the best rows in ticks, null without one."""
    price, is_bid = pl.col("price_ticks"), pl.col("is_bid")
    best = {"bid": price.filter(is_bid).max(), "ask": price.filter(~is_bid).min()}
    return cells.group_by("at_ns").agg(**best).sort("at_ns")


def _step(values: pl.Series) -> int:
    """The greatest step that all values are multiples of, counted from the least."""
    apart = np.diff(np.unique(values.to_numpy()))
    return int(np.gcd.reduce(apart)) if apart.size else 1


def _grid(
    cells: pl.DataFrame, touch: pl.DataFrame, window: Window, step_ticks: int
) -> tuple[NDArray[np.float64], int, int]:
    """Sizes of shape (rows, columns), the lowest price first, and between which prices in ticks."""
    mid = pl.mean_horizontal("bid", "ask")
    away = cells.join(touch.select("at_ns", mid=mid), on="at_ns").select(
        reach=(pl.col("price_ticks") - pl.col("mid")).abs().quantile(_SHOWN_SHARE),
        low=pl.col("mid").min(),
        high=pl.col("mid").max(),
    )
    reach, low, high = away.row(0)
    ticks = cells["price_ticks"].to_numpy()
    least, most = int(ticks.min()), int(ticks.max())
    low_ticks = least + max(int(low - reach - least) // step_ticks, 0) * step_ticks
    rows = (min(int(high + reach), most) - low_ticks) // step_ticks + 1
    steps_a_row = -(-rows // _MOST_ROWS)
    rows = -(-rows // steps_a_row)
    columns = min(window.steps, _MOST_COLUMNS)
    interval = (cells["at_ns"].to_numpy() - window.start_ns) // window.every_ns
    column = interval * columns // window.steps
    latest = np.full(columns, -1)
    np.maximum.at(latest, column, interval)
    row = (ticks - low_ticks) // (step_ticks * steps_a_row)
    shown = (row >= 0) & (row < rows) & (interval == latest[column])
    size = np.zeros((rows, columns))
    np.add.at(size, (row[shown], column[shown]), cells["size"].to_numpy()[shown])
    return size, low_ticks, low_ticks + rows * steps_a_row * step_ticks


def _draw_mid(
    drawing: Drawing, panel: Panel, touch: pl.DataFrame, window: Window, scale: tuple[int, float]
) -> None:
    """Draws the middle between the best rows; `scale` is the height of a row, and the tick."""
    step_ticks, tick = scale
    breaks = (pl.col("at_ns").diff() > window.every_ns).fill_null(False).cum_sum()
    both = touch.drop_nulls().with_columns(stretch=breaks)
    path = ""
    for stretch in both.partition_by("stretch", maintain_order=True):
        x = panel.x(stretch["at_ns"].to_numpy() + window.every_ns / 2)
        mid_ticks = (stretch["bid"] + stretch["ask"] + step_ticks).to_numpy() / 2
        path += polyline(x, panel.y(mid_ticks * tick))
    drawing.line(path, _MID, 1.2)
