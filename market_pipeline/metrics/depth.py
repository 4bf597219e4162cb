"""Depth of both sides by interval, and what changed, of every row of `books.depth`.

A row is in force until the next one. A level that no snapshot confirmed may have unknown levels
before it, so a sum is formed only of confirmed ones. Within a distance from the mid that takes a
confirmed level as far as that, or farther: what lies beyond the last one is unknown.

What changed is what differs from the row before, if no book between the two is invalid and nothing
was lost: order flow imbalance by level, as Xu, Gould and Howison (2018) have it, and how many
prices have another size. docs/metrics.md has formulas and edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import polars as pl

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.books.state import DEPTH_LEVELS, read_only
from market_pipeline.mapped import ColumnArray
from market_pipeline.metrics._change_kernel import COUNTED, Changes, add_changes
from market_pipeline.metrics._depth_kernel import AVERAGED, Depths, add_depths
from market_pipeline.metrics.book_batches import with_sound_times, with_valid_since
from market_pipeline.metrics.change_columns import CHANGED_LEVELS, CHANGED_TICKS, OFI_LEVELS
from market_pipeline.metrics.day_rows import (
    Chosen,
    Filled,
    InstrumentRows,
    NestedGrids,
    known,
    picked,
)
from market_pipeline.metrics.moments import Moments
from market_pipeline.metrics.time_weighted import Grid, pieces
from market_pipeline.quality.intervals import (
    NS_PER_SECOND,
    BoolArray,
    FloatArray,
    IntArray,
    overlap_ns,
    running_time_ns,
)

__all__ = ["depth_columns"]

_SIDES = ("bid", "ask")
_LEVELS = tuple(
    f"{side}_{level}_{part}"
    for side in _SIDES
    for part in ("price_ticks", "size_lots")
    for level in range(DEPTH_LEVELS)
)
_CONFIRMED = tuple(f"{side}_levels_confirmed" for side in _SIDES)
_KEYS = ("ts_receipt_ns", "sequence_number", "flags")
_COLUMNS = (*_KEYS, *_LEVELS, *_CONFIRMED)

_OF_BOOKS: Final = (*_LEVELS, *_CONFIRMED, "ts_receipt_ns", "flags", "valid_since")
_NO_NULL: Final = [pl.col(*_LEVELS).fill_null(0), pl.col(*_CONFIRMED).fill_null(DEPTH_LEVELS)]


def depth_columns(day: InstrumentRows, grids: NestedGrids) -> Filled:
    """The columns of `DEPTH_COLUMNS` and of `DEPTH_CHANGE_COLUMNS`.

    Args:
        day: What is read: `books.depth`, and of `books.bbo` what is valid.
        grids: The intervals.
    """
    moments = Moments(grids, _instants_ns(day))
    grid = Grid(moments.starts_ns)
    depths, changes = Depths.of(moments.number), Changes.of(moments.number)
    batches = with_sound_times(with_valid_since(day.depth(_COLUMNS), day.bbo(_KEYS)))
    for number, books in _books(batches):
        ts_receipt_ns, flags, valid_since = books[-3:, :number]
        of_levels = [read_only(each) for each in np.split(books[:-3], [len(_LEVELS)])]
        state, at, held_ns = pieces(ts_receipt_ns, flags, grid, day.not_observed)
        parts = state, at, held_ns // moments.repeats[at]
        add_depths(depths, *map(read_only, parts), *of_levels)
        pairs = _pairs(ts_receipt_ns, flags, valid_since, grid, day.not_observed)
        add_changes(changes, *map(read_only, pairs), *of_levels)
    sums, reach = moments.sums(depths.sums), moments.largest(depths.reach)
    held, valid_ns = moments.sums(depths.held_ns), moments.sums(depths.valid_ns)
    ofi, counts = moments.sums(changes.ofi), moments.sums(changes.counts)
    compared = moments.largest(changes.reach)
    lot = float(day.lot.step)

    def columns(chosen: Chosen) -> dict[str, ColumnArray | pl.Series]:
        rows = moments.chosen(chosen)
        of_each = (picked(sums, rows), picked(held, rows))
        of_pairs = (picked(each, rows) for each in (counts, compared))
        return {
            **_columns(*of_each, picked(valid_ns, rows), picked(reach, rows), lot),
            **_change_columns(picked(ofi, rows) * lot, *of_pairs),
        }

    made_of = (sums, held, valid_ns, reach, ofi, counts, compared)
    return Filled(moments.changes(*made_of), columns)


def _instants_ns(day: InstrumentRows) -> Iterator[IntArray]:
    """When a book or what is observed may change."""
    yield day.not_observed.ravel()
    for rows in day.depth(_KEYS[:1]):
        yield rows["ts_receipt_ns"].to_numpy()


def _books(batches: Iterable[pl.DataFrame]) -> Iterator[tuple[int, IntArray]]:
    """The books of each batch, and before them the one that was in force.

    That is the last one before the batch, at the largest receipt time so far; before all of them it
    is an invalid one without a level.

    Yields:
        How many they are; and int64, shape (len(_OF_BOOKS), that or more), in which the next ones
        are written, too.
    """
    books = np.zeros((len(_OF_BOOKS), 1), np.int64)
    books[_OF_BOOKS.index("flags")] = INVALIDATING
    number = 1
    for batch in batches:
        before, number = books[:, number - 1], 1 + batch.height
        if number > books.shape[1]:
            books = np.empty((len(_OF_BOOKS), number), np.int64)
        books[:, 0] = before
        has_null = any(batch[name].null_count() for name in _OF_BOOKS)
        rows = batch.with_columns(_NO_NULL) if has_null else batch
        for column, name in zip(books, _OF_BOOKS, strict=True):
            column[1:number] = rows[name].to_numpy()
        yield number, books
        books[-3, number - 1] = books[-3, :number].max()


def _pairs(
    ts_receipt_ns: IntArray,
    flags: IntArray,
    valid_since: IntArray,
    grid: Grid,
    not_observed: IntArray,
) -> tuple[IntArray, BoolArray]:
    """Which interval each row is in, and whether it is compared with the row before."""
    time_ns = running_time_ns(ts_receipt_ns)
    is_valid = (flags & np.int64(INVALIDATING)) == 0
    is_pair = (valid_since != 0) & grid.hold(time_ns)
    is_pair[1:] &= is_valid[:-1] & (overlap_ns(time_ns[:-1], time_ns[1:], not_observed) == 0)
    return grid.of(time_ns), is_pair


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


def _change_columns(
    ofi: FloatArray, counts: IntArray, reach: IntArray
) -> dict[str, ColumnArray | pl.Series]:
    """An interval has a figure if two of its rows showed as many levels, or ticks, as it takes."""
    levels, ticks = reach.T
    counted = dict(zip(COUNTED, counts.T, strict=True))
    is_any = counted["depth_pair_count"] > 0
    return {
        "depth_pair_count": counted["depth_pair_count"],
        "levels_compared": known(levels, is_any),
        "ticks_compared": known(ticks, is_any),
        **{
            f"ofi_level_{level}": known(ofi[:, level - 1], levels >= level)
            for level in range(1, OFI_LEVELS + 1)
        },
        f"ofi_levels_1_{OFI_LEVELS}": known(ofi[:, OFI_LEVELS], levels >= OFI_LEVELS),
        **{
            of.column: known(counted[of.column], compared >= of.last)
            for ranges, compared in ((CHANGED_LEVELS, levels), (CHANGED_TICKS, ticks))
            for of in ranges
        },
    }
