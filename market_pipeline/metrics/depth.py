"""Depth of both sides by interval, of every row of `books.depth`, as far as levels are confirmed.

A row is in force until the next one. A level that no snapshot confirmed may have unknown levels
before it, so a sum is formed only of confirmed ones. Within a distance from the mid that takes a
confirmed level as far as that, or farther: what lies beyond the last one is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from market_pipeline.books.state import DEPTH_LEVELS, read_only
from market_pipeline.metrics._depth_kernel import AVERAGED, Depths, add_depths
from market_pipeline.metrics.book_batches import with_book_in_force, with_sound_times
from market_pipeline.metrics.day_rows import InstrumentRows, NestedGrids, known
from market_pipeline.metrics.time_weighted import Grid, pieces
from market_pipeline.quality.intervals import NS_PER_SECOND, FloatArray, IntArray

__all__ = ["depth_columns"]

_SIDES = ("bid", "ask")
_LEVELS = tuple(
    f"{side}_{level}_{part}"
    for side in _SIDES
    for part in ("price_ticks", "size_lots")
    for level in range(DEPTH_LEVELS)
)
_CONFIRMED = tuple(f"{side}_levels_confirmed" for side in _SIDES)
_COLUMNS = ("ts_receipt_ns", "flags", *_LEVELS, *_CONFIRMED)


def depth_columns(day: InstrumentRows, edges_ns: Sequence[IntArray]) -> list[pl.DataFrame]:
    """The columns of `DEPTH_COLUMNS`, a frame for each grid, a row for each of its intervals.

    Args:
        day: What is read: `books.depth`.
        edges_ns: Of each grid, int64, shape (intervals + 1,); all of equal width, over one span.
    """
    grids = NestedGrids(edges_ns)
    end_ns = grids.start_ns + grids.number * grids.width_ns
    grid = Grid.between(grids.start_ns, end_ns, grids.width_ns)
    depths = Depths.of(grids.number)
    no_null = [pl.col(*_LEVELS).fill_null(0), pl.col(*_CONFIRMED).fill_null(DEPTH_LEVELS)]
    for rows, _ in with_book_in_force(with_sound_times(day.depth(_COLUMNS))):
        held = pieces(
            rows["ts_receipt_ns"].to_numpy(), rows["flags"].to_numpy(), grid, day.not_observed
        )
        levels = rows.select(*no_null[:1]).to_numpy(order="fortran").T
        confirmed = rows.select(no_null[1].cast(pl.Int64)).to_numpy(order="fortran").T
        add_depths(depths, *(read_only(each) for each in (*held, levels, confirmed)))
    lot = float(day.lot.step)
    summed = zip(
        grids.sums(depths.sums),
        grids.sums(depths.held_ns),
        grids.sums(depths.valid_ns),
        grids.largest(depths.reach),
        strict=True,
    )
    return [_frame(*each, lot) for each in summed]


def _frame(
    sums: FloatArray, held_ns: IntArray, valid_ns: IntArray, reach: FloatArray, lot: float
) -> pl.DataFrame:
    most_levels, most_bps = reach.T

    def mean(name: str, of_each: FloatArray, ns: IntArray) -> pl.Series:
        # One after the other: all at once would take as much memory as the sums again.
        means = of_each / np.maximum(ns, 1)
        if not name.startswith("depth_imbalance"):
            means *= lot
        return known(means, ns > 0)

    return pl.DataFrame(
        {
            "depth_valid_seconds": valid_ns[:, 0] / NS_PER_SECOND,
            "levels_confirmed": known(most_levels.astype(np.int64), most_levels >= 0),
            "confirmed_bps": known(most_bps, most_bps >= 0),
            **{
                name: mean(name, of_each, ns)
                for name, of_each, ns in zip(AVERAGED, sums.T, held_ns.T, strict=True)
            },
        }
    )
