"""Trades, each with an id that is one more than that before, and the venue's mark if it has one."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from market_pipeline.sources.batches import UNMARKED, Trades
from market_pipeline.sources.binance_capture.frame_kernel import (
    LAST,
    MARK,
    ORIGIN_NS,
    RECEIPT_NS,
    START,
    TRADE,
)
from market_pipeline.sources.binance_capture.frames import FrameDecoder, TradeFrame, known_time
from market_pipeline.sources.binance_capture.lines import FindingKind, Findings
from market_pipeline.sources.binance_capture.one_pass import BATCH_ROWS, TableReader
from market_pipeline.sources.binance_capture.parsed import Lines

__all__ = ["TradeReader"]

_TRADE_FRAME = b'"trade"'

_TRADE = [ORIGIN_NS, RECEIPT_NS, START, LAST, MARK]


class TradeReader(TableReader[Trades]):
    """Gathers the trades of all files; reports missing ids, and leaves out what came before.

    Args:
        symbol: Whose trades.
    """

    def __init__(self, symbol: str, findings: Findings) -> None:
        super().__init__(findings)
        self._frames = FrameDecoder(TradeFrame, symbol, findings)
        self._last_id: int | None = None
        self._integers, self._numbers = array("q"), array("d")

    def begin_file(self, file: Path) -> None:
        """See `TableReader`."""
        self._file = file

    def wants(self, text: bytes) -> bool:
        """See `TableReader`."""
        return _TRADE_FRAME in text

    def take_line(self, line: int, ts_receipt_ns: int, text: bytes) -> None:
        """See `TableReader`."""
        trade = self._frames.decode(self._file, line, text)
        if trade is None:
            return
        ts_origin_ns = known_time(trade.T, self._file, line, self.findings)
        if ts_origin_ns is None or not self._is_new(line, trade.t):
            return
        if trade.is_none:
            expected, found = "a price and a quantity above 0", f"{trade.X} of neither"
            self.findings.add(FindingKind.NOTHING_TRADED, self._file, line, expected, found)
            return
        trades = np.array([(ts_origin_ns, ts_receipt_ns, not trade.m, trade.t, trade.mark)])
        self._add(trades, np.array([(trade.p, trade.q)]))

    def take(self, lines: Lines) -> None:
        """See `TableReader`."""
        at, trades = lines.of_kind(TRADE)
        if not at.size:
            return
        values, ids = lines.trades[at], trades[:, LAST]
        before = ids[0] - 1 if self._last_id is None else self._last_id
        if (np.diff(ids, prepend=before) == 1).all():
            self._last_id = int(ids[-1])
        else:
            each = zip((at + lines.first).tolist(), ids.tolist(), strict=True)
            new = np.array([self._is_new(line, trade_id) for line, trade_id in each])
            trades, values = trades[new], values[new]
        self._add(trades[:, _TRADE], values)

    def _is_new(self, line: int, trade_id: int) -> bool:
        """Whether a trade's id is above the last one, which it becomes."""
        is_new = self.findings.is_next_id(self._last_id, trade_id, "t", self._file, line)
        if is_new:
            self._last_id = trade_id
        return is_new

    def _add(self, trades: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Adds trades: (n, 5) times, side, id and mark, (n, 2) prices and quantities."""
        while len(trades):
            room = BATCH_ROWS - len(self._numbers) // 2
            self._integers.frombytes(trades[:room].tobytes())
            self._numbers.frombytes(values[:room].tobytes())
            trades, values = trades[room:], values[room:]
            if len(self._numbers) >= 2 * BATCH_ROWS:
                self.end()

    def end(self) -> None:
        """See `TableReader`."""
        if not self._numbers:
            return
        whole = np.array(self._integers).reshape(-1, len(_TRADE))
        price, quantity = np.array(self._numbers).reshape(-1, 2).T
        mark = whole[:, 4].astype(np.int8)
        batch = Trades(
            ts_origin_ns=whole[:, 0],
            ts_receipt_ns=whole[:, 1],
            price=price,
            quantity=quantity,
            is_buy=whole[:, 2] != 0,
            id=whole[:, 3],
            mark=mark if (mark != UNMARKED).any() else None,
        )
        self._ready.append(batch)
        self._integers, self._numbers = array("q"), array("d")
