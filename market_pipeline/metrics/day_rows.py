"""What metrics of intervals are made of: a day's published rows, and the grids of its intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from market_pipeline.books.scale import Scale
from market_pipeline.books.state import read_only
from market_pipeline.mapped import ColumnArray
from market_pipeline.metrics._grid_kernel import mark_changes, sum_intervals
from market_pipeline.quality.intervals import BoolArray, FloatArray, IntArray

__all__ = [
    "Chosen",
    "Filled",
    "InstrumentRows",
    "NestedGrids",
    "changes_at",
    "either",
    "known",
    "picked",
]

_Number = TypeVar("_Number", np.int64, np.float64)
_Any = TypeVar("_Any", bound=np.generic)

Chosen = Sequence[IntArray]
"""Some intervals of each grid, int64: the rows that are made."""
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
        edges_ns: As given.
        start_ns, width_ns, number: Of the intervals that all are made of.
        ratios: int64, shape (grids,): so many of those is one interval of each grid.
    """

    def __init__(self, edges_ns: Sequence[IntArray]) -> None:
        self.edges_ns = edges_ns
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
        wide = np.flatnonzero(self.ratios > 1)
        sizes = self.number // self.ratios[wide]
        ends = np.cumsum(sizes)
        sums = np.zeros((int(sizes.sum()), of_each.shape[1]), of_each.dtype)
        sum_intervals(read_only(of_each), self.ratios[wide], ends - sizes, sums)
        made = iter(np.split(sums, ends[:-1]))
        return [of_each if ratio == 1 else next(made) for ratio in self.ratios]

    def largest(self, of_each: NDArray[_Number]) -> list[NDArray[_Number]]:
        """The largest of each column in the intervals of each grid."""
        columns = np.ascontiguousarray(of_each.T)
        return [
            of_each
            if ratio == 1
            else np.stack([each.reshape(-1, ratio).max(axis=1) for each in columns], axis=1)
            for ratio in self.ratios
        ]

    def divisors(self, of_each: IntArray) -> list[IntArray]:
        """The greatest common divisor of each grid's intervals, shape (number,); 0 of zeros."""
        return [np.gcd.reduce(of_each.reshape(-1, ratio), axis=1) for ratio in self.ratios]

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
        changed = [np.zeros(self.number // int(ratio), np.bool_) for ratio in self.ratios]
        for arrays in of_grids:
            for grid, values in enumerate(arrays):
                counted = np.arange(values.shape[1]) if columns is None else columns[grid]
                mark_changes(read_only(values.view(np.int64)), counted, changed[grid])
        return changed


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """The columns of a group for all intervals of several grids, of which rows are made on demand.

    Attributes:
        changes: Of each grid, bool, shape (intervals,): where the row of an interval may differ
            from that of the one before.
        columns: Makes the columns by name for some intervals, those of one grid after the other.
    """

    changes: list[BoolArray]
    columns: Callable[[Chosen], Mapping[str, ColumnArray | pl.Series]]


def either(one: Sequence[BoolArray], other: Sequence[BoolArray]) -> list[BoolArray]:
    """Where one of two says so, of each grid."""
    return [a | b for a, b in zip(one, other, strict=True)]


def picked(of_grids: Sequence[NDArray[_Any]], chosen: Chosen) -> NDArray[_Any]:
    """The rows of chosen intervals, those of one grid after the other; a column lies together."""
    first = of_grids[0]
    made = np.empty((*first.shape[1:], sum(len(at) for at in chosen)), first.dtype)
    parts = [rows[at].T for rows, at in zip(of_grids, chosen, strict=True)]
    return np.concatenate(parts, axis=-1, out=made).T


def changes_at(is_any: BoolArray) -> BoolArray:
    """Where rows may differ from the row before, that are all the same where nothing is."""
    changed = is_any.copy()
    changed[:1] = True
    changed[1:] |= is_any[:-1]
    return changed


def known(values: ColumnArray, is_known: BoolArray) -> pl.Series:
    """A column of numbers, null where one is not known; it takes them as they lie."""
    bits = pa.py_buffer(np.packbits(is_known, bitorder="little"))
    data = pa.py_buffer(np.ascontiguousarray(values))
    kind = pa.from_numpy_dtype(values.dtype)
    return pl.Series(pa.Array.from_buffers(kind, len(values), [bits, data]))
