"""Capture files in, batches of delta rows, snapshots and trades out: all in one pass, or each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch, Trades
from market_pipeline.sources.binance_capture.deltas import DEPTH_EVENT, DeltaReader, depth_frame
from market_pipeline.sources.binance_capture.frames import FrameDecoder, SnapshotFrame
from market_pipeline.sources.binance_capture.lines import Findings, read_lines, to_ns
from market_pipeline.sources.binance_capture.linking import (
    Linker,
    Market,
    PlacedSnapshot,
    SnapshotPlacer,
)
from market_pipeline.sources.binance_capture.one_pass import TableReader, read_once
from market_pipeline.sources.binance_capture.parsed import Parser
from market_pipeline.sources.binance_capture.snapshots import SNAPSHOT, SnapshotReader
from market_pipeline.sources.binance_capture.trades import TradeReader

__all__ = ["TableFindings", "find_losses", "read_deltas", "read_snapshots", "read_tables"]
__all__ += ["read_trades"]


class TableFindings(NamedTuple):
    """What each table's reader found."""

    deltas: Findings
    snapshots: Findings
    trades: Findings


def read_tables(
    files: Sequence[Path], market: Market, symbol: str, findings: TableFindings
) -> Iterator[DeltaBatch | SnapshotBatch | Trades]:
    """Yields what the three readers below give, from one pass over the files.

    A stream begins somewhere: its first message is in neither list of its batch. Only where a later
    one does not continue that before it, the files are looked through once more, for snapshots.

    Args:
        files, market, symbol: As for `read_deltas`.
        findings: Receive what the readers would find.

    Raises:
        LakeFileError: If a file cannot be read, see `read_blocks`.
    """
    first_start = _first_start(files, market, symbol)
    placer = SnapshotPlacer(market, first_start, findings.snapshots)
    readers: list[TableReader[DeltaBatch | SnapshotBatch | Trades]] = [
        _delta_reader(files, market, symbol, findings.deltas, first_start, begins_whole=True),
        SnapshotReader(symbol, placer, findings.snapshots),
        TradeReader(symbol, findings.trades),
    ]
    yield from read_once(files, Parser(market, symbol), readers)


def find_losses(files: Sequence[Path], market: Market, symbol: str, findings: Findings) -> None:
    """Follows the ids of the depth events, which prove what was lost, and makes no rows.

    Args:
        files, market, symbol: As for `read_deltas`.
        findings: Receives what `read_deltas` finds.

    Raises:
        LakeFileError: If a file cannot be read, see `read_blocks`.
    """
    first_start = _first_start(files, market, symbol)
    reader = _delta_reader(
        files, market, symbol, findings, first_start, begins_whole=True, keep_rows=False
    )
    for _ in read_once(files, Parser(market, symbol), [reader]):
        pass


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
        LakeFileError: If a file cannot be read, see `read_blocks`.
    """
    first_start = _first_start(files, market, symbol)
    reader = _delta_reader(files, market, symbol, findings, first_start)
    yield from read_once(files, Parser(market, symbol), [reader])


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
        LakeFileError: If a file cannot be read, see `read_blocks`.
    """
    placer = SnapshotPlacer(market, _first_start(files, market, symbol), findings)
    reader = SnapshotReader(symbol, placer, findings)
    yield from read_once(files, Parser(market, symbol), [reader])


def read_trades(files: Sequence[Path], symbol: str, findings: Findings) -> Iterator[Trades]:
    """Yields the `trade` frames in file order, in batches of bounded size.

    The origin time is the time of the match. Trade ids rise by one: a missing one is reported as a
    gap, one that came before is left out.

    Args:
        files, symbol, findings: As for `read_deltas`.

    Raises:
        LakeFileError: If a file cannot be read, see `read_blocks`.
    """
    # Trades are alike in all markets.
    return read_once(files, Parser("spot", symbol), [TradeReader(symbol, findings)])


def _delta_reader(
    files: Sequence[Path],
    market: Market,
    symbol: str,
    findings: Findings,
    first_start: int | None,
    *,
    begins_whole: bool = False,
    keep_rows: bool = True,
) -> DeltaReader:
    def snapshots() -> Sequence[PlacedSnapshot]:
        return _placed_snapshots(files, market, symbol, first_start)

    linker = Linker(market, snapshots, findings, begins_whole=begins_whole)
    placer = SnapshotPlacer(market, first_start, findings)
    return DeltaReader(market, symbol, linker, placer, findings, keep_rows=keep_rows)


def _first_start(files: Sequence[Path], market: Market, symbol: str) -> int | None:
    """What the first usable depth event continues; a look ahead that tells nothing."""
    unused = Findings()
    decoder = FrameDecoder(depth_frame(market), symbol, unused)
    for file in files:
        for line, _, text in read_lines(file, unused, containing=DEPTH_EVENT):
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
        for line, _, text in read_lines(file, unused, containing=SNAPSHOT):
            frame = decoder.decode(file, line, text)
            if frame is not None:
                placed.append(placer.place(file, line, frame.lastUpdateId))
    return [snapshot for snapshot in placed if snapshot is not None]
