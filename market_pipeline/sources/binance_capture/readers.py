"""Capture files in, batches of delta rows, snapshots, trades and best bids and asks out."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch, Trades
from market_pipeline.sources.binance_capture.frames import (
    BookTickerFrame,
    FrameDecoder,
    FuturesDepthFrame,
    SnapshotFrame,
    SpotDepthFrame,
    TradeFrame,
    check_json,
)
from market_pipeline.sources.binance_capture.lines import (
    FindingKind,
    Findings,
    read_lines,
    to_ns,
)
from market_pipeline.sources.binance_capture.linking import (
    Link,
    Linker,
    Market,
    PlacedSnapshot,
    SnapshotPlacer,
)
from market_pipeline.sources.memory_limits import PADDED_LEVELS

__all__ = ["BookTickerBatch", "read_book_ticker", "read_deltas", "read_snapshots", "read_trades"]

_BATCH_ROWS = 1 << 18
_FLATTENED_LEVELS = 1 << 12

_DEPTH = b'"depthUpdate"'
_SNAPSHOT = b'"lastUpdateId"'
_TRADE = b'"trade"'
_BOOK_TICKER = b'"bookTicker"'
_EVENT = b'"e":'
_BEST_BID_SIZE = b'"B":'

_DepthFrame = SpotDepthFrame | FuturesDepthFrame
_Levels = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class BookTickerBatch:
    """Consecutive rows of the venue's own best bid and ask.

    Attributes:
        file: The file.
        ts_origin_ns: int64 (n,), ns UTC; 0 where the venue sends no event time (spot).
        ts_receipt_ns, update_id: int64 (n,).
        bid_price, bid_size, ask_price, ask_size: float64 (n,).
    """

    file: Path
    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    update_id: NDArray[np.int64]
    bid_price: NDArray[np.float64]
    bid_size: NDArray[np.float64]
    ask_price: NDArray[np.float64]
    ask_size: NDArray[np.float64]


def read_deltas(
    files: Sequence[Path], market: Market, symbol: str, findings: Findings
) -> Iterator[DeltaBatch]:
    """Yields the depth events as delta rows, bids before asks, in batches of whole messages.

    A message is one frame, and its sequence number the event's `u`, which only rises: a duplicate
    or late event is left out. The messages that do not continue the one before, also across files,
    are in `recovered_rows` where a snapshot met in between leads to them, else in `gap_rows`. The
    first message of all is in `gap_rows`, or in neither where a snapshot leads to it. `first_row`
    counts the rows of the file so far.

    Args:
        files: Captures of one stream, the earliest first.
        market: Whose rules hold; see `MARKET_OF_VENUE`.
        symbol: In the venue's spelling; see `capture_symbol`.
        findings: Receives everything that is left out, and of every gap.

    Raises:
        LakeFileError: If a file cannot be read, see `read_lines`.
    """
    first_start = _first_start(files, market, symbol)
    linker = Linker(market, _placed_snapshots(files, market, symbol, first_start), findings)
    placer = SnapshotPlacer(market, first_start, findings)
    depth = FrameDecoder(_depth_frame(market), symbol, findings)
    snapshots = FrameDecoder(SnapshotFrame, symbol, findings)
    for file in files:
        rows = _Rows(file)
        for line, ts_receipt_ns, text in read_lines(file, findings):
            if _DEPTH in text:
                event = depth.decode(file, line, text)
                if event is None:
                    continue
                ts_origin_ns = _known_time(event.E, file, line, findings)
                if ts_origin_ns is None:
                    continue
                has_levels = bool(event.b or event.a)
                link = linker.link(file, line, event.start, event.u, has_levels=has_levels)
                if link is Link.LEAVE_OUT:
                    continue
                rows.add(event, ts_origin_ns, ts_receipt_ns, link)
                if rows.count >= _BATCH_ROWS:
                    yield rows.taken()
            elif _SNAPSHOT in text:
                snapshot = snapshots.decode(file, line, text)
                if snapshot is not None:
                    placer.place(file, line, snapshot.lastUpdateId)
            else:
                check_json(file, line, text, findings)
        if rows.count:
            yield rows.taken()


def read_snapshots(
    files: Sequence[Path], market: Market, symbol: str, findings: Findings
) -> Iterator[SnapshotBatch]:
    """Yields the REST snapshots in their order, padded with size 0 to the deepest of the batch.

    Their sequence number is `lastUpdateId`; on futures the first has one less, see
    `SnapshotPlacer`. One that is out of date is left out and reported. `first_row` counts the
    snapshots of the file so far.

    Args:
        files, market, symbol, findings: As for `read_deltas`.

    Raises:
        LakeFileError: If a file cannot be read, see `read_lines`.
    """
    decoder = FrameDecoder(SnapshotFrame, symbol, findings)
    placer = SnapshotPlacer(market, _first_start(files, market, symbol), findings)
    for file in files:
        gathered: list[tuple[int, int, SnapshotFrame]] = []
        first_row = levels = deepest = 0
        for line, ts_receipt_ns, text in read_lines(file, findings):
            if _SNAPSHOT not in text:
                check_json(file, line, text, findings)
                continue
            frame = decoder.decode(file, line, text)
            if frame is None:
                continue
            placed = placer.place(file, line, frame.lastUpdateId)
            if placed is None:
                continue
            deepest = max(deepest, len(frame.bids), len(frame.asks))
            if gathered and (len(gathered) + 1) * deepest > PADDED_LEVELS:
                yield _snapshot_batch(file, first_row, gathered)
                first_row += len(gathered)
                gathered, levels, deepest = [], 0, max(len(frame.bids), len(frame.asks))
            gathered.append((ts_receipt_ns, placed.sequence_number, frame))
            levels += len(frame.bids) + len(frame.asks)
            if levels >= _BATCH_ROWS or len(gathered) >= _BATCH_ROWS:
                yield _snapshot_batch(file, first_row, gathered)
                first_row += len(gathered)
                gathered, levels, deepest = [], 0, 0
        if gathered:
            yield _snapshot_batch(file, first_row, gathered)


def read_trades(files: Sequence[Path], symbol: str, findings: Findings) -> Iterator[Trades]:
    """Yields the `trade` frames in file order, in batches of bounded size.

    The origin time is the time of the match. Trade ids rise by one: a missing one is reported as a
    gap, one that came before is left out.

    Args:
        files, symbol, findings: As for `read_deltas`.

    Raises:
        LakeFileError: If a file cannot be read, see `read_lines`.
    """
    integers, numbers = array("q"), array("d")
    decoder = FrameDecoder(TradeFrame, symbol, findings)
    last_id: int | None = None
    for file in files:
        for line, ts_receipt_ns, text in read_lines(file, findings):
            if _TRADE not in text:
                check_json(file, line, text, findings)
                continue
            trade = decoder.decode(file, line, text)
            if trade is None:
                continue
            ts_origin_ns = _known_time(trade.T, file, line, findings)
            if ts_origin_ns is None:
                continue
            if last_id is not None and trade.t != last_id + 1:
                expected, found = f"t={last_id + 1}", f"t={trade.t}"
                if trade.t <= last_id:
                    again = trade.t == last_id
                    kind = FindingKind.DUPLICATE if again else FindingKind.OUT_OF_ORDER
                    findings.add(kind, file, line, expected, found)
                    continue
                findings.add(FindingKind.GAP, file, line, expected, found)
            last_id = trade.t
            integers.extend((ts_origin_ns, ts_receipt_ns, not trade.m, trade.t))
            numbers.extend((trade.p, trade.q))
            if len(numbers) >= 2 * _BATCH_ROWS:
                yield _trade_batch(integers, numbers)
                integers, numbers = array("q"), array("d")
    if numbers:
        yield _trade_batch(integers, numbers)


def _trade_batch(integers: array[int], numbers: array[float]) -> Trades:
    whole = np.array(integers, np.int64).reshape(-1, 4)
    price, quantity = np.array(numbers, np.float64).reshape(-1, 2).T
    return Trades(
        ts_origin_ns=whole[:, 0],
        ts_receipt_ns=whole[:, 1],
        price=price,
        quantity=quantity,
        is_buy=whole[:, 2] != 0,
        id=whole[:, 3],
    )


def read_book_ticker(
    files: Sequence[Path], symbol: str, findings: Findings
) -> Iterator[BookTickerBatch]:
    """Yields the `bookTicker` frames in file order, in batches of bounded size.

    Args:
        files, symbol, findings: As for `read_deltas`.

    Raises:
        LakeFileError: If a file cannot be read, see `read_lines`.
    """
    decoder = FrameDecoder(BookTickerFrame, symbol, findings)
    for file in files:
        integers, numbers = array("q"), array("d")
        for line, ts_receipt_ns, text in read_lines(file, findings):
            # Spot's frame is the only one that names no event but has a best bid's size.
            if _BOOK_TICKER not in text and (_EVENT in text or _BEST_BID_SIZE not in text):
                check_json(file, line, text, findings)
                continue
            frame = decoder.decode(file, line, text)
            if frame is None:
                continue
            ts_origin_ns = 0 if frame.E is None else _known_time(frame.E, file, line, findings)
            if ts_origin_ns is None:
                continue
            integers.extend((ts_origin_ns, ts_receipt_ns, frame.u))
            numbers.extend((frame.b, frame.B, frame.a, frame.A))
            if len(integers) >= 3 * _BATCH_ROWS:
                yield _book_ticker_batch(file, integers, numbers)
                integers, numbers = array("q"), array("d")
        if integers:
            yield _book_ticker_batch(file, integers, numbers)


class _Rows:
    """Gathers the rows of one file's messages until they are taken as a batch."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._first_row = 0
        self._begin()

    def _begin(self) -> None:
        self.count = 0
        self._levels: _Levels = []
        self._flat_levels: list[NDArray[np.float64]] = []
        self._messages: list[tuple[int, int, int, int, int]] = []
        self._gap_rows: list[int] = []
        self._recovered_rows: list[int] = []

    def add(self, event: _DepthFrame, ts_origin_ns: int, ts_receipt_ns: int, link: Link) -> None:
        """Adds the rows of a message, bids first."""
        if link is Link.APPLY_AFTER_GAP:
            self._gap_rows.append(self.count)
        elif link is Link.APPLY_RECOVERED:
            self._recovered_rows.append(self.count)
        self._messages.append(
            (ts_origin_ns, ts_receipt_ns, event.u, len(event.b), len(event.a)),
        )
        self._levels += event.b
        self._levels += event.a
        self.count += len(event.b) + len(event.a)
        # Now and then, because many tuples alive keep the garbage collector busy.
        if len(self._levels) >= _FLATTENED_LEVELS:
            self._flatten()

    def _flatten(self) -> None:
        self._flat_levels.append(_flat(self._levels))
        self._levels = []

    def taken(self) -> DeltaBatch:
        """The rows since the last batch."""
        self._flatten()
        levels = np.concatenate(self._flat_levels)
        message = np.array(self._messages, np.int64)
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
            price=levels[:, 0].copy(),
            size=levels[:, 1].copy(),
            gap_rows=np.array(self._gap_rows, np.int64),
            recovered_rows=np.array(self._recovered_rows, np.int64),
        )
        self._first_row += self.count
        self._begin()
        return batch


def _flat(levels: _Levels) -> NDArray[np.float64]:
    """Levels as float64 (n, 2): price, size."""
    return np.fromiter(chain.from_iterable(levels), np.float64, 2 * len(levels)).reshape(-1, 2)


def _depth_frame(market: Market) -> type[_DepthFrame]:
    return SpotDepthFrame if market == "spot" else FuturesDepthFrame


def _known_time(stamp: int, file: Path, line: int, findings: Findings) -> int | None:
    ts_ns = to_ns(stamp)
    if ts_ns is None:
        expected = "a time of 13, 16 or 19 digits"
        findings.add(FindingKind.UNDECODABLE, file, line, expected, str(stamp))
    return ts_ns


def _first_start(files: Sequence[Path], market: Market, symbol: str) -> int | None:
    """What the first usable depth event continues; a look ahead that tells nothing."""
    unused = Findings()
    decoder = FrameDecoder(_depth_frame(market), symbol, unused)
    for file in files:
        for line, _, text in read_lines(file, unused, containing=_DEPTH):
            event = decoder.decode(file, line, text)
            if event is not None and to_ns(event.E) is not None:
                return event.start
    return None


def _placed_snapshots(
    files: Sequence[Path], market: Market, symbol: str, first_start: int | None
) -> Sequence[PlacedSnapshot]:
    """Where all snapshots belong; a look ahead that tells nothing."""
    unused = Findings()
    decoder = FrameDecoder(SnapshotFrame, symbol, unused)
    placer = SnapshotPlacer(market, first_start, unused)
    placed = []
    for file in files:
        for line, _, text in read_lines(file, unused, containing=_SNAPSHOT):
            frame = decoder.decode(file, line, text)
            if frame is not None:
                placed.append(placer.place(file, line, frame.lastUpdateId))
    return [snapshot for snapshot in placed if snapshot is not None]


def _snapshot_batch(
    file: Path, first_row: int, gathered: Sequence[tuple[int, int, SnapshotFrame]]
) -> SnapshotBatch:
    frames = [frame for _, _, frame in gathered]
    # One level at least, so that a book that is empty everywhere is still reported as empty.
    deepest = max(1, *(len(side) for frame in frames for side in (frame.bids, frame.asks)))
    bid_price, bid_size = _padded([frame.bids for frame in frames], deepest)
    ask_price, ask_size = _padded([frame.asks for frame in frames], deepest)
    return SnapshotBatch(
        file=file,
        first_row=first_row,
        ts_receipt_ns=np.array([receipt for receipt, _, _ in gathered], np.int64),
        sequence_number=np.array([sequence for _, sequence, _ in gathered], np.int64),
        bid_price=bid_price,
        bid_size=bid_size,
        ask_price=ask_price,
        ask_size=ask_size,
    )


def _padded(sides: Sequence[_Levels], width: int) -> NDArray[np.float64]:
    """One side of n snapshots as float64 (2, n, width): prices, then sizes."""
    padded = np.zeros((2, len(sides), width))
    for at, side in enumerate(sides):
        padded[:, at, : len(side)] = _flat(side).T
    return padded


def _book_ticker_batch(file: Path, integers: array[int], numbers: array[float]) -> BookTickerBatch:
    times = np.array(integers, np.int64).reshape(-1, 3).T
    touch = np.array(numbers, np.float64).reshape(-1, 4).T
    return BookTickerBatch(file, *np.ascontiguousarray(times), *np.ascontiguousarray(touch))
