"""The depth heatmap: how much rests at which distance from the mid, through the day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.plots.window import Window

__all__ = ["DepthGrid", "depth_grid"]

_MAX_ROWS_A_SIDE = 25
_REACHED_BY = 0.9
"""The grid ends where a tenth of the books have a last level farther out."""


@dataclass(frozen=True, slots=True)
class DepthGrid:
    """Resting size by distance and time.

    Attributes:
        lots: float64, shape (2 x rows, steps): bids from far to near, then asks from near to far;
            0 where nothing rests there, NaN in steps without a valid book.
        row_ticks: How many ticks of distance a row takes together.
    """

    lots: NDArray[np.float64]
    row_ticks: int

    @property
    def reach_ticks(self) -> int:
        """The distance from the mid of the grid's outer edges."""
        return len(self.lots) // 2 * self.row_ticks


def depth_grid(depth: pl.DataFrame, window: Window) -> DepthGrid | None:
    """The grid of a day's sampled books; None if no book has both sides.

    A level at d ticks from the mid, which is a multiple of a half, is in row floor(d / row_ticks)
    of its side. Levels beyond the grid are left out.

    Args:
        depth: As `sampled_depth` returns it for the window's steps.
        window: What is shown; books received outside it are left out.
    """
    depth = depth.filter(
        pl.col("start_ns").is_between(window.start_ns, window.end_ns, closed="left"),
        pl.col("bid_0_price_ticks").is_not_null(),
        pl.col("ask_0_price_ticks").is_not_null(),
    )
    if depth.is_empty():
        return None
    step = (depth["start_ns"].to_numpy() - window.start_ns) // window.every_ns
    twice_mid = (depth["bid_0_price_ticks"] + depth["ask_0_price_ticks"]).to_numpy()
    sides = {side: _levels(depth, side, twice_mid) for side in ("bid", "ask")}
    farthest = np.maximum(*(np.nanmax(away, axis=1) for away, _ in sides.values()))
    reach = max(float(np.quantile(farthest, _REACHED_BY)), 1.0)
    row_ticks = int(np.ceil(reach / _MAX_ROWS_A_SIDE))
    rows = int(reach // row_ticks) + 1
    lots = np.full((2 * rows, window.steps), np.nan)
    lots[:, step] = 0.0
    for side, (away, size) in sides.items():
        row = np.floor(away / row_ticks)
        book, level = np.nonzero(row < rows)  # NaN, which is no level, is not less
        number = row[book, level].astype(np.int64)
        number = rows + number if side == "ask" else rows - 1 - number
        np.add.at(lots, (number, step[book]), size[book, level])
    return DepthGrid(lots, row_ticks)


def _levels(
    depth: pl.DataFrame, side: str, twice_mid: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance from the mid in ticks and size in lots, shape (books, 20); NaN without a level."""
    names = [f"{side}_{level}" for level in range(DEPTH_LEVELS)]
    price = depth.select(pl.col(f"{name}_price_ticks").cast(pl.Float64) for name in names)
    size = depth.select(pl.col(f"{name}_size_lots").cast(pl.Float64) for name in names)
    return np.abs(price.to_numpy() - twice_mid[:, None] / 2), size.to_numpy()
