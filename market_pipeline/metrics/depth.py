"""Depth of both sides by interval, of every row of `books.depth`, as far as levels are confirmed.

A row is in force until the next one. A level that no snapshot confirmed may have unknown levels
before it, so a sum is formed only of confirmed ones. Within a distance from the mid that takes a
confirmed level as far as that, or farther: what lies beyond the last one is unknown.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from market_pipeline.books.state import DEPTH_LEVELS, read_only
from market_pipeline.mapped import ColumnArray
from market_pipeline.metrics._depth_kernel import AVERAGED, Depths, add_depths
from market_pipeline.metrics.book_batches import with_book_in_force, with_sound_times
from market_pipeline.metrics.day_rows import (
    Chosen,
    Filled,
    InstrumentRows,
    NestedGrids,
    known,
    picked,
)
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


def depth_columns(day: InstrumentRows, grids: NestedGrids) -> Filled:
    """The columns of `DEPTH_COLUMNS`.

    Args:
        day: What is read: `books.depth`.
        grids: The intervals.
    """
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
    sums, reach = grids.sums(depths.sums), grids.largest(depths.reach)
    held_ns, valid_ns = grids.sums(depths.held_ns), grids.sums(depths.valid_ns)
    lot = float(day.lot.step)

    def columns(chosen: Chosen) -> dict[str, ColumnArray | pl.Series]:
        of_each = (picked(sums, chosen), picked(held_ns, chosen))
        return _columns(*of_each, picked(valid_ns, chosen), picked(reach, chosen), lot)

    return Filled(grids.changes(sums, held_ns, valid_ns, reach), columns)


def _columns(
    sums: FloatArray, held_ns: IntArray, valid_ns: IntArray, reach: FloatArray, lot: float
) -> dict[str, ColumnArray | pl.Series]:
    most_levels, most_bps = reach.T
    means = sums / np.maximum(held_ns, 1)
    for each, name in enumerate(AVERAGED):
        if not name.startswith("depth_imbalance"):
            means[:, each] *= lot
    return {
        "depth_valid_seconds": valid_ns[:, 0] / NS_PER_SECOND,
        "levels_confirmed": known(most_levels.astype(np.int64), most_levels >= 0),
        "confirmed_bps": known(most_bps, most_bps >= 0),
        **{
            name: known(mean, ns > 0)
            for name, mean, ns in zip(AVERAGED, means.T, held_ns.T, strict=True)
        },
    }
