"""REST snapshots, each in its place among the messages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from market_pipeline.sources.batches import SnapshotBatch
from market_pipeline.sources.binance_capture.frames import (
    FrameDecoder,
    Levels,
    SnapshotFrame,
    level_columns,
)
from market_pipeline.sources.binance_capture.lines import Findings
from market_pipeline.sources.binance_capture.linking import SnapshotPlacer
from market_pipeline.sources.binance_capture.one_pass import BATCH_ROWS, TableReader
from market_pipeline.sources.memory_limits import PADDED_LEVELS

__all__ = ["SNAPSHOT", "SnapshotReader"]

SNAPSHOT = b'"lastUpdateId"'
"""A line with these bytes that is no depth event is a snapshot."""


class SnapshotReader(TableReader[SnapshotBatch]):
    """Gathers the snapshots that have a place, padded with size 0 to the deepest of a batch.

    Args:
        symbol: Whose snapshots.
        placer: Gives them their places, and has these findings too.
    """

    def __init__(self, symbol: str, placer: SnapshotPlacer, findings: Findings) -> None:
        super().__init__(findings)
        self._placer = placer
        self._frames = FrameDecoder(SnapshotFrame, symbol, findings)

    def begin_file(self, file: Path) -> None:
        """See `TableReader`."""
        self._file = file
        self._first_row = 0
        self._begin()

    def _begin(self) -> None:
        self._gathered: list[tuple[int, int, SnapshotFrame]] = []
        self._levels = self._deepest = 0

    def wants(self, text: bytes) -> bool:
        """See `TableReader`."""
        return SNAPSHOT in text

    def take_line(self, line: int, ts_receipt_ns: int, text: bytes) -> None:
        """See `TableReader`."""
        frame = self._frames.decode(self._file, line, text)
        if frame is None:
            return
        placed = self._placer.place(self._file, line, frame.lastUpdateId)
        if placed is None:
            return
        deepest = max(self._deepest, len(frame.bids), len(frame.asks))
        if self._gathered and (len(self._gathered) + 1) * deepest > PADDED_LEVELS:
            self._give()
        self._deepest = max(self._deepest, len(frame.bids), len(frame.asks))
        self._gathered.append((ts_receipt_ns, placed.sequence_number, frame))
        self._levels += len(frame.bids) + len(frame.asks)
        if self._levels >= BATCH_ROWS or len(self._gathered) >= BATCH_ROWS:
            self._give()

    def end_file(self) -> None:
        """See `TableReader`."""
        if self._gathered:
            self._give()

    def _give(self) -> None:
        self._ready.append(_batch(self._file, self._first_row, self._gathered))
        self._first_row += len(self._gathered)
        self._begin()


def _batch(
    file: Path, first_row: int, gathered: Sequence[tuple[int, int, SnapshotFrame]]
) -> SnapshotBatch:
    receipts, sequences, frames = zip(*gathered, strict=True)
    # One level at least, so that a book that is empty everywhere is still reported as empty.
    deepest = max(1, *(len(side) for frame in frames for side in (frame.bids, frame.asks)))
    bid_price, bid_size = _padded([frame.bids for frame in frames], deepest)
    ask_price, ask_size = _padded([frame.asks for frame in frames], deepest)
    return SnapshotBatch(
        file=file,
        first_row=first_row,
        ts_receipt_ns=np.array(receipts, np.int64),
        sequence_number=np.array(sequences, np.int64),
        bid_price=bid_price,
        bid_size=bid_size,
        ask_price=ask_price,
        ask_size=ask_size,
    )


def _padded(sides: Sequence[Levels], width: int) -> NDArray[np.float64]:
    """One side of n snapshots as float64 (2, n, width): prices, then sizes."""
    padded = np.zeros((2, len(sides), width))
    for at, side in enumerate(sides):
        padded[:, at, : len(side)] = level_columns(side)
    return padded
