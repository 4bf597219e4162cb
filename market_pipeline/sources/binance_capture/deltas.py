"""Depth events as delta rows, each linked to the one before."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from market_pipeline.sources.batches import DeltaBatch
from market_pipeline.sources.binance_capture.frame_kernel import (
    ASKS,
    BIDS,
    DEPTH,
    LAST,
    ORIGIN_NS,
    RECEIPT_NS,
    START,
)
from market_pipeline.sources.binance_capture.frames import (
    FrameDecoder,
    FuturesDepthFrame,
    SnapshotFrame,
    SpotDepthFrame,
    known_time,
    level_columns,
)
from market_pipeline.sources.binance_capture.lines import Findings
from market_pipeline.sources.binance_capture.linking import Link, Linker, Market, SnapshotPlacer
from market_pipeline.sources.binance_capture.one_pass import BATCH_ROWS, TableReader
from market_pipeline.sources.binance_capture.parsed import Lines
from market_pipeline.sources.binance_capture.snapshots import SNAPSHOT

__all__ = ["DEPTH_EVENT", "DeltaReader", "depth_frame"]

DEPTH_EVENT = b'"depthUpdate"'
"""A line with these bytes is a depth event."""

# Of a message: when it was, its last update id, and how many bids and asks it has.
_MESSAGE = [ORIGIN_NS, RECEIPT_NS, LAST, BIDS, ASKS]


class DeltaReader(TableReader[DeltaBatch]):
    """Links the depth events, and makes rows of those that are applied.

    Args:
        market, symbol: Whose events.
        linker: Says which are applied; it and the placer have these findings too.
        placer: Tells of snapshots that are out of date.
        keep_rows: Whether there are batches; else the events are only linked.
    """

    def __init__(
        self,
        market: Market,
        symbol: str,
        linker: Linker,
        placer: SnapshotPlacer,
        findings: Findings,
        *,
        keep_rows: bool = True,
    ) -> None:
        super().__init__(findings)
        self._linker = linker
        self._placer = placer
        self._keep_rows = keep_rows
        self._events = FrameDecoder(depth_frame(market), symbol, findings)
        self._snapshots = FrameDecoder(SnapshotFrame, symbol, findings)

    def begin_file(self, file: Path) -> None:
        """See `TableReader`."""
        self._file = file
        self._rows = _Rows(file)

    def wants(self, text: bytes) -> bool:
        """See `TableReader`."""
        return DEPTH_EVENT in text or SNAPSHOT in text

    def take_line(self, line: int, ts_receipt_ns: int, text: bytes) -> None:
        """See `TableReader`."""
        if DEPTH_EVENT not in text:
            snapshot = self._snapshots.decode(self._file, line, text)
            if snapshot is not None:
                self._placer.place(self._file, line, snapshot.lastUpdateId)
            return
        event = self._events.decode(self._file, line, text)
        if event is None:
            return
        ts_origin_ns = known_time(event.E, self._file, line, self.findings)
        if ts_origin_ns is None:
            return
        has_levels = bool(event.b or event.a)
        link = self._linker.link(self._file, line, event.start, event.u, has_levels=has_levels)
        message = (ts_origin_ns, ts_receipt_ns, event.u, len(event.b), len(event.a))
        price, size = level_columns(event.b + event.a)
        self._add(np.array([message]), price, size, [link])

    def take(self, lines: Lines) -> None:
        """See `TableReader`."""
        at, events = lines.of_kind(DEPTH)
        if not at.size:
            return
        starts, lasts = events[:, START], events[:, LAST]
        has_levels = events[:, BIDS] + events[:, ASKS] > 0
        links = None
        if not (has_levels.all() and self._linker.follow(starts, lasts)):
            columns = (column.tolist() for column in (at + lines.first, starts, lasts, has_levels))
            links = [
                self._linker.link(self._file, line, start, last, has_levels=levels)
                for line, start, last, levels in zip(*columns, strict=True)
            ]
        self._add(events[:, _MESSAGE], lines.price, lines.size, links)

    def _add(
        self,
        messages: NDArray[np.int64],
        price: NDArray[np.float64],
        size: NDArray[np.float64],
        links: Sequence[Link] | None,
    ) -> None:
        """Adds messages and their levels; without links all are applied."""
        if self._keep_rows:
            self._ready += self._rows.add(messages, price, size, links)

    def end_file(self) -> None:
        """See `TableReader`."""
        if self._rows.count:
            self._ready.append(self._rows.taken())


class _Rows:
    """Gathers the rows of one file's messages until they are taken as a batch."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._first_row = 0
        self._begin()

    def _begin(self) -> None:
        self.count = 0
        self._messages = array("q")
        self._price, self._size = array("d"), array("d")
        self._gap_rows: list[int] = []
        self._recovered_rows: list[int] = []

    def add(
        self,
        messages: NDArray[np.int64],
        price: NDArray[np.float64],
        size: NDArray[np.float64],
        links: Sequence[Link] | None,
    ) -> Iterator[DeltaBatch]:
        """Adds messages, bids first; yields a batch after each message that fills one."""
        rows = messages[:, 3:].sum(axis=1)
        if links is not None:
            applied = np.array([link is not Link.LEAVE_OUT for link in links])
            of_applied = np.repeat(applied, rows)
            messages, price, size = messages[applied], price[of_applied], size[of_applied]
            links = [link for link in links if link is not Link.LEAVE_OUT]
            rows = rows[applied]
        ends = rows.cumsum()
        begin = first_row = 0
        while begin < len(messages):
            full = np.searchsorted(ends, first_row + BATCH_ROWS - self.count) + 1
            end = min(int(full), len(messages))
            for at, link in enumerate(links[begin:end] if links else (), begin):
                self._mark(link, self.count + int(ends[at] - rows[at]) - first_row)
            last_row = int(ends[end - 1])
            self._messages.frombytes(messages[begin:end].tobytes())
            self._price.frombytes(price[first_row:last_row].tobytes())
            self._size.frombytes(size[first_row:last_row].tobytes())
            self.count += last_row - first_row
            begin, first_row = end, last_row
            if self.count >= BATCH_ROWS:
                yield self.taken()

    def _mark(self, link: Link, row: int) -> None:
        if link is Link.APPLY_AFTER_GAP:
            self._gap_rows.append(row)
        elif link is Link.APPLY_RECOVERED:
            self._recovered_rows.append(row)

    def taken(self) -> DeltaBatch:
        """The rows since the last batch."""
        message = np.array(self._messages).reshape(-1, len(_MESSAGE))
        sides = message[:, 3:]
        rows = sides.sum(axis=1)
        is_bid = np.tile(np.array([True, False]), len(message))
        batch = DeltaBatch(
            file=self._file,
            first_row=self._first_row,
            ts_origin_ns=np.repeat(message[:, 0], rows),
            ts_receipt_ns=np.repeat(message[:, 1], rows),
            sequence_number=np.repeat(message[:, 2], rows),
            is_bid=np.repeat(is_bid, sides.ravel()),
            price=np.array(self._price),
            size=np.array(self._size),
            gap_rows=np.array(self._gap_rows, np.int64),
            recovered_rows=np.array(self._recovered_rows, np.int64),
        )
        self._first_row += self.count
        self._begin()
        return batch


def depth_frame(market: Market) -> type[SpotDepthFrame | FuturesDepthFrame]:
    """The frame of a market's depth events."""
    return SpotDepthFrame if market == "spot" else FuturesDepthFrame
