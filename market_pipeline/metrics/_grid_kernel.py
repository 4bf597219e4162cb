"""Sums of the intervals of several grids in one pass, and where an interval differs."""

from __future__ import annotations

from market_pipeline.jit import kernel

__all__ = ["mark_changes", "sum_intervals"]


@kernel
def sum_intervals(of_each, ratios, offsets, sums):
    """Adds the rows of narrow intervals to those of each grid, one after the other.

    Args:
        of_each: shape (intervals, columns).
        ratios, offsets: int64, shape (grids,): so many of them are one interval of each grid, and
            where that grid begins in `sums`.
        sums: shape (intervals of all grids, columns).
    """
    for grid in range(ratios.size):
        at, left = offsets[grid], ratios[grid]
        for interval in range(of_each.shape[0]):
            if left == 0:
                at, left = at + 1, ratios[grid]
            for column in range(of_each.shape[1]):
                sums[at, column] += of_each[interval, column]
            left -= 1


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
