"""The file `book_snapshot_25`: its rows as snapshots, numbered as the messages they follow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from market_pipeline.sources.batches import SnapshotBatch
from market_pipeline.sources.raw_writer import RawWriter
from market_pipeline.sources.tardis_csv.reading import (
    BOOK_25,
    BOOK_LEVELS,
    IntArray,
    Part,
    Whose,
    read_parts,
)

__all__ = ["TopRows", "top_batch"]


class TopRows:
    """The rows of `book_snapshot_25`, each numbered as the message that it was taken after.

    That is the message with its `local_timestamp`; a row that no message has the time of is left
    out and noted. Both files are in the order of `local_timestamp`, so they are read side by side.
    """

    def __init__(self, file: Path, whose: Whose, out: RawWriter) -> None:
        self._out = out
        self._file = file
        self._parts = read_parts(file, BOOK_25, whose)
        self._part: Part | None = next(self._parts, None)
        self._position = 0
        self._times: IntArray = np.empty(0, np.int64)
        self._numbers: IntArray = np.empty(0, np.int64)

    def know(self, times: IntArray, numbers: IntArray) -> None:
        """Takes further messages that are complete: int64 (n,) each, ns and ascending."""
        if self._part is not None:
            self._times = np.concatenate((self._times, times))
            self._numbers = np.concatenate((self._numbers, numbers))

    def write_below(self, number: int, *, is_last: bool = False) -> None:
        """Writes the rows of messages below a number; with `is_last` none is waited for."""
        while self._part is not None:
            times = self._part.ts_receipt_ns[self._position :]
            at = np.searchsorted(self._times, times, side="right") - 1
            known = np.zeros(times.size, np.bool_)
            numbers = np.full(times.size, -1, np.int64)
            if self._times.size:
                known = (at >= 0) & (self._times[at] == times)
                numbers[known] = self._numbers[at[known]]
            later = known & (numbers >= number)
            if not is_last:
                later |= times > (self._times[-1] if self._times.size else -1)
            ready = int(later.argmax()) if later.any() else times.size
            self._write(self._part, self._position, numbers[:ready])
            self._position += ready
            if ready < times.size:
                still = int(np.searchsorted(self._times, times[ready]))
                self._times, self._numbers = self._times[still:], self._numbers[still:]
                return
            self._part, self._position = next(self._parts, None), 0

    def _write(self, part: Part, begin: int, numbers: IntArray) -> None:
        known = numbers >= 0
        if not known.all():
            first = begin + int((~known).argmax())
            self._out.note(
                f"{BOOK_25} rows left out, because no message has their local_timestamp",
                f"row {part.first_row + first} of {self._file.name}",
                int((~known).sum()),
            )
        rows = begin + np.flatnonzero(known)
        if rows.size:
            self._out.snapshots(top_batch(part, rows, numbers[known]))


def top_batch(part: Part, rows: NDArray[np.intp], numbers: IntArray) -> SnapshotBatch:
    """Rows of `book_snapshot_25` as snapshots of these numbers; an empty level has size 0."""

    def levels(side: str, kind: str) -> NDArray[np.float64]:
        names = [f"{side}[{level}].{kind}" for level in range(BOOK_LEVELS)]
        found = np.stack([part.arrays[name][rows] for name in names], axis=1)
        return np.where(np.isfinite(found), found, 0.0)

    return SnapshotBatch(
        file=part.file,
        first_row=part.first_row,
        ts_receipt_ns=part.ts_receipt_ns[rows],
        sequence_number=numbers,
        bid_price=levels("bids", "price"),
        bid_size=levels("bids", "amount"),
        ask_price=levels("asks", "price"),
        ask_size=levels("asks", "amount"),
        ts_origin_ns=part.ts_origin_ns[rows],
    )
