"""Sums of the intervals of several grids in one pass, and where an interval differs."""

from __future__ import annotations

from market_pipeline.jit import kernel

__all__ = ["mark_changes", "sum_rows"]


@kernel
def sum_rows(of_each, repeats, is_whole, ratios, offsets, sums):
    """Adds the rows of narrow intervals to those of each grid, one after the other.

    Args:
        of_each: shape (rows, columns).
        repeats: int64, shape (rows,): how many intervals have each row; all are in one of any grid.
        is_whole: Whether a sum may be made as a product: it is not rounded.
        ratios, offsets: int64, shape (grids,): so many of them are one interval of each grid, and
            where that grid begins in `sums`.
        sums: shape (intervals of all grids, columns).
    """
    for grid in range(ratios.size):
        at, left = offsets[grid], ratios[grid]
        for row in range(repeats.size):
            if left == 0:
                at, left = at + 1, ratios[grid]
            times = repeats[row]
            left -= times
            if is_whole and times > 1:
                for column in range(of_each.shape[1]):
                    sums[at, column] += of_each[row, column] * times
                continue
            for _ in range(times):
                for column in range(of_each.shape[1]):
                    sums[at, column] += of_each[row, column]


@kernel
def mark_changes(bits, columns, changed):
    """Marks each row that has not the values of the row before it, the first one too.

    Args:
        bits: int64, shape (rows, columns): the values as integers of the same bits.
        columns: int64: those that count.
        changed: bool, shape (rows,), to be marked.
    """
    changed[:1] = True
    for row in range(1, bits.shape[0]):
        if changed[row]:
            continue
        for each in range(columns.size):
            if bits[row, columns[each]] != bits[row - 1, columns[each]]:
                changed[row] = True
                break
