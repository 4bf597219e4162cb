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
from market_pipeline.mapped import ColumnArray
from market_pipeline.quality.intervals import BoolArray, IntArray

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
