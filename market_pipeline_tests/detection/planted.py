"""Which message of the clean day each published row is about, however its stamps were spoilt."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from market_pipeline_tests.detection.faults.day import INVENTED, NUMBER, RECEIPT

__all__ = ["UNPLACED", "Planted", "matched"]

UNPLACED = -1
"""The index of a published row that is about no planted message."""

IntArray = npt.NDArray[np.int64]
_NO_STAMP = -(2**62)


@dataclass(frozen=True)
class Planted:
    """The messages of a spoilt day in the order of its files, int64 (messages,) each.

    Attributes:
        sequence_number, ts_receipt_ns: As the files have them.
        message: Which message of the clean day it is; below 0 for one that is none of it.
    """

    sequence_number: IntArray
    ts_receipt_ns: IntArray
    message: IntArray

    @classmethod
    def of_rows(cls, rows: pl.DataFrame) -> Planted:
        """The messages of delta rows, as the source's contract says: rows of equal number and
        receipt stamp; one that is made of several clean messages is about the last of them.
        """
        if rows.is_empty():
            none = np.empty(0, np.int64)
            return cls(none, none, none)
        stamps = [
            rows[name].cast(pl.Int64).fill_null(_NO_STAMP).to_numpy() for name in (NUMBER, RECEIPT)
        ]
        begins = np.ones(rows.height, np.bool_)
        begins[1:] = (stamps[0][1:] != stamps[0][:-1]) | (stamps[1][1:] != stamps[1][:-1])
        starts = np.flatnonzero(begins)
        message = rows["message"].to_numpy()
        return cls(
            stamps[0][starts],
            stamps[1][starts],
            np.maximum.reduceat(message, starts).astype(np.int64),
        )

    @classmethod
    def of_snapshots(cls, rows: pl.DataFrame) -> Planted:
        """Snapshots, each about the message that it shows."""
        stamps = [rows[name].fill_null(_NO_STAMP).to_numpy() for name in (NUMBER, RECEIPT)]
        return cls(stamps[0], stamps[1], rows["message"].to_numpy())

    @property
    def last_so_far(self) -> IntArray:
        """At each message the last clean one that came, by the clean order; -1 before the first."""
        return np.maximum.accumulate(np.maximum(self.message, INVENTED))


def matched(planted: Planted, sequence_number: IntArray, ts_receipt_ns: IntArray) -> IntArray:
    """The index of the planted message of every published row.

    Published rows are the planted ones in their order, perhaps without some. A row is the next one
    with its number and stamp; failing that any with them, or the only one with its number or with
    its stamp.
    """
    keys = planted.sequence_number, planted.ts_receipt_ns
    if (
        sequence_number.size == keys[0].size
        and np.array_equal(sequence_number, keys[0])
        and np.array_equal(ts_receipt_ns, keys[1])
    ):
        return np.arange(keys[0].size, dtype=np.int64)
    places: dict[tuple[int, int], list[int]] = defaultdict(list)
    by_number: dict[int, list[int]] = defaultdict(list)
    by_stamp: dict[int, list[int]] = defaultdict(list)
    for index, (number, stamp) in enumerate(zip(keys[0].tolist(), keys[1].tolist(), strict=True)):
        places[number, stamp].append(index)
        by_number[number].append(index)
        by_stamp[stamp].append(index)
    used: dict[tuple[int, int], int] = defaultdict(int)
    found = np.full(sequence_number.size, UNPLACED, np.int64)
    rows = zip(sequence_number.tolist(), ts_receipt_ns.tolist(), strict=True)
    before = -1
    for row, key in enumerate(rows):
        there = places.get(key)
        if there is None:
            alone = [each for each in (by_number[key[0]], by_stamp[key[1]]) if len(each) == 1]
            found[row] = alone[0][0] if alone else UNPLACED
            continue
        at = used[key]
        while at < len(there) - 1 and there[at] <= before:
            at += 1
        at = min(at, len(there) - 1)
        found[row] = before = there[at]
        used[key] = at + 1
    return found
