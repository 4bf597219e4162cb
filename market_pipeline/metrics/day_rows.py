"""What metrics of intervals are made of: a day's published rows, and the grids of its intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from market_pipeline.books.scale import Scale
from market_pipeline.mapped import ColumnArray
from market_pipeline.quality.intervals import BoolArray, IntArray

__all__ = ["InstrumentRows", "NestedGrids", "known"]

_Number = TypeVar("_Number", np.int64, np.float64)
_Read = Callable[[Sequence[str]], Iterator[pl.DataFrame]]


@dataclass(frozen=True, slots=True, eq=False)
class InstrumentRows:
    """The published rows of one instrument's day, read anew for each call, in order, in batches
    cut anywhere.

    Attributes:
        bbo, depth: Columns by name of `books.bbo` and `books.depth`, one row per message or state.
        trades: Of `books.trades`, in file order; None if there was no trades file.
        tick, lot: Of that day.
        not_observed: Gaps and quiet holes, sorted and disjoint; int64, shape (k, 2).
    """

    bbo: _Read
    depth: _Read
    trades: _Read | None
    tick: Scale
    lot: Scale
    not_observed: IntArray


class NestedGrids:
    """Grids of equal intervals over one span, and the widest one that all of them are made of.

    Args:
        edges_ns: Of each grid, int64, shape (intervals + 1,); all from one instant to another.

    Attributes:
        start_ns, width_ns, number: Of the intervals that all are made of.
        ratios: int64, shape (grids,): so many of those is one interval of each grid.
    """

    def __init__(self, edges_ns: Sequence[IntArray]) -> None:
        widths = [int(edges[1] - edges[0]) for edges in edges_ns]
        self.start_ns = int(edges_ns[0][0])
        self.width_ns = math.gcd(*widths)
        self.number = (int(edges_ns[0][-1]) - self.start_ns) // self.width_ns
        self.ratios: IntArray = np.array([width // self.width_ns for width in widths], np.int64)

    def of(self, ts_ns: IntArray) -> IntArray:
        """Which interval each instant is in; below 0 or `number` and above outside all."""
        interval: IntArray = (ts_ns - self.start_ns) // self.width_ns
        return interval

    def sums(self, of_each: NDArray[_Number]) -> list[NDArray[_Number]]:
        """What was summed in each interval, shape (number, columns), as the sums of each grid.

        They are added one after the other, so that no processor rounds them otherwise.
        """
        return [
            of_each if ratio == 1 else self._cut(of_each, int(ratio)).sum(axis=1)
            for ratio in self.ratios
        ]

    def largest(self, of_each: NDArray[_Number]) -> list[NDArray[_Number]]:
        """The largest of each column in the intervals of each grid."""
        return [self._cut(of_each, int(ratio)).max(axis=1) for ratio in self.ratios]

    def divisors(self, of_each: IntArray) -> list[IntArray]:
        """The greatest common divisor of each grid's intervals, shape (number,); 0 of zeros."""
        return [np.gcd.reduce(of_each.reshape(-1, ratio), axis=1) for ratio in self.ratios]

    def _cut(self, of_each: NDArray[_Number], ratio: int) -> NDArray[_Number]:
        return of_each.reshape(-1, ratio, of_each.shape[1])


def known(values: ColumnArray, is_known: BoolArray) -> pl.Series:
    """A column that is null where its value is not known."""
    return pl.Series(pa.array(values, mask=~is_known))
