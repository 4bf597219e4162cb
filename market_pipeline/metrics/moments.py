"""The intervals of a day that may differ, and those between them that are alike, as one row each.

A day of little data has some thousand seconds in which anything happens, and in each run of seconds
between them all figures are the same. What is summed by interval has a row for each of the former
and one for each run, and a busy day a row for each interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.state import read_only
from market_pipeline.metrics._grid_kernel import mark_changes, sum_rows
from market_pipeline.metrics.day_rows import Chosen, NestedGrids
from market_pipeline.quality.intervals import BoolArray, FloatArray, IntArray

__all__ = ["Moments"]

_Number = TypeVar("_Number", np.int64, np.float64)


class Moments:
    """Rows of intervals that follow each other: one interval, or several in which nothing happens.

    None lies in two intervals of any grid.

    Args:
        grids: The intervals.
        instants_ns: int64: of all that happens, in any order; what lies outside is left out. None
            makes each interval a row, and so do more of them than there are intervals.

    Attributes:
        number: Of rows.
        repeats: int64, shape (number,): how many intervals each row stands for.
        row_of: int64, shape (intervals,): the row of each.
        starts_ns: int64, shape (number + 1,): where each row begins, then the end of the last.
    """

    def __init__(self, grids: NestedGrids, instants_ns: Iterable[IntArray] | None) -> None:
        self._grids = grids
        begins = np.full(grids.number + 1, instants_ns is None)
        for ratio in grids.ratios[grids.ratios > 1]:
            begins[::ratio] = True
        begins[0] = True
        seen = 0
        for each in instants_ns or ():
            seen += len(each)
            if seen > grids.number:
                begins[:] = True  # of a busy day the rest is not looked at
                break
            interval = grids.of(each)
            within = interval[(interval >= 0) & (interval < grids.number)]
            begins[within] = True
            begins[within + 1] = True
        self._first = np.flatnonzero(begins[:-1])
        self.number = len(self._first)
        self.repeats: IntArray = np.diff(self._first, append=grids.number)
        self.row_of: IntArray = np.cumsum(begins[:-1]) - 1
        edges = np.append(self._first, grids.number)
        self.starts_ns: IntArray = grids.start_ns + edges * grids.width_ns

    def chosen(self, chosen: Chosen) -> list[IntArray]:
        """Where chosen intervals of each grid are in what the methods below make."""
        ratios = self._grids.ratios
        return [
            self.row_of[at] if ratio == 1 else at for at, ratio in zip(chosen, ratios, strict=True)
        ]

    def sums(self, of_each: NDArray[_Number]) -> list[NDArray[_Number]]:
        """What each interval of a row has, shape (number, columns), as the sums of each grid.

        They are added one after the other, so that no processor rounds them otherwise. Of the grid
        that rows are made of they are as given.
        """
        grids = self._grids
        wide = grids.ratios[grids.ratios > 1]
        sizes = grids.number // wide
        ends = np.cumsum(sizes)
        sums = np.zeros((int(sizes.sum()), of_each.shape[1]), of_each.dtype)
        is_whole = of_each.dtype == np.int64
        sum_rows(read_only(of_each), self.repeats, is_whole, wide, ends - sizes, sums)
        made = iter(np.split(sums, ends[:-1]))
        return [of_each if ratio == 1 else next(made) for ratio in grids.ratios]

    def largest(self, of_each: NDArray[_Number]) -> list[NDArray[_Number]]:
        """The largest of each column in the intervals of each grid."""
        return self._reduced(np.maximum, of_each)

    def divisors(self, of_each: IntArray) -> list[IntArray]:
        """The greatest common divisor of each grid's intervals, shape (number,); 0 of zeros."""
        return self._reduced(np.gcd, of_each)

    def _reduced(self, how: np.ufunc, of_each: NDArray[_Number]) -> list[NDArray[_Number]]:
        columns = np.ascontiguousarray(of_each.T)
        return [
            of_each if ratio == 1 else how.reduceat(columns, self.row_of[::ratio], axis=-1).T
            for ratio in self._grids.ratios
        ]

    def changes(
        self,
        *of_grids: Sequence[FloatArray] | Sequence[IntArray],
        columns: Sequence[IntArray] | None = None,
    ) -> list[BoolArray]:
        """Where the row of an interval is not that of the one before, of each grid.

        Args:
            of_grids: What rows are made of: of each grid an array of shape (intervals, columns).
            columns: Of each grid those that count; by default all do.
        """
        changed = [np.zeros(len(values), np.bool_) for values in of_grids[0]]
        for arrays in of_grids:
            for grid, values in enumerate(arrays):
                counted = np.arange(values.shape[1]) if columns is None else columns[grid]
                mark_changes(read_only(values.view(np.int64)), counted, changed[grid])
        return [
            self._of_intervals(each) if ratio == 1 else each
            for each, ratio in zip(changed, self._grids.ratios, strict=True)
        ]

    def _of_intervals(self, changed: BoolArray) -> BoolArray:
        """Of each interval, for a run changes nothing but where it begins."""
        of_each = np.zeros(self._grids.number, np.bool_)
        of_each[self._first] = changed
        return of_each
