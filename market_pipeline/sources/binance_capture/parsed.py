"""Blocks of lines as the kernel parses them: what is in each line, and which it left alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from market_pipeline.sources.binance_capture.frame_kernel import (
    COLUMNS,
    END,
    KIND,
    LEFT,
    LEVEL_BYTES,
    ROW,
    SEEN,
    parse_lines,
)
from market_pipeline.sources.binance_capture.linking import Market

__all__ = ["Lines", "Parser"]


@dataclass(frozen=True, slots=True)
class Lines:
    """Consecutive lines of a file; the arrays hold until the next block is parsed.

    Attributes:
        file, first: The file, and the number of the first of these lines, from 1.
        columns: int64 (n, COLUMNS), see `frame_kernel`.
        trades: float64 (n, 2), price and quantity, where a line is a trade.
        price, size: float64 (rows,), the levels of all depth events, bids before asks.
    """

    file: Path
    first: int
    columns: NDArray[np.int64]
    trades: NDArray[np.float64]
    price: NDArray[np.float64]
    size: NDArray[np.float64]

    def left(self) -> list[int]:
        """The indices of the lines that the kernel left alone."""
        return np.flatnonzero(self.columns[:, KIND] == LEFT).tolist()

    def of_kind(self, kind: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The indices of the lines of a kind, and their columns."""
        at = np.flatnonzero(self.columns[:, KIND] == kind)
        return at, self.columns[at]

    def part(self, begin: int, end: int) -> Lines:
        """The lines from one index up to another."""
        rows = slice(self._row(begin), self._row(end))
        return replace(
            self,
            first=self.first + begin,
            columns=self.columns[begin:end],
            trades=self.trades[begin:end],
            price=self.price[rows],
            size=self.size[rows],
        )

    def bounds(self, index: int) -> slice:
        """Where a line is in the text of the block, without its line break."""
        return slice(self.columns[index - 1, END] + 1 if index else 0, self.columns[index, END])

    def _row(self, index: int) -> int:
        return int(self.columns[index, ROW]) if index < len(self.columns) else self.price.size


class Parser:
    """Parses blocks of text about one symbol.

    Args:
        market: Whose depth events they are.
        symbol: In the venue's spelling, such as BTCUSDT.
    """

    def __init__(self, market: Market, symbol: str) -> None:
        self._is_spot = market == "spot"
        self._symbol = np.frombuffer(symbol.encode(), np.uint8)
        self._seen = np.zeros(SEEN, np.int64)
        self._make_room(0, 0)

    def _make_room(self, lines: int, rows: int) -> None:
        self._columns, self._trades = np.empty((lines, COLUMNS), np.int64), np.empty((lines, 2))
        self._price, self._size = np.empty(rows), np.empty(rows)

    def parse(self, file: Path, first: int, lines: int, text: bytes) -> Lines:
        """The lines of a block, each of which ends with its line break."""
        rows = len(text) // LEVEL_BYTES
        if lines > len(self._columns) or rows > self._price.size:
            self._make_room(max(lines, len(self._columns)), max(rows, self._price.size))
        rows = parse_lines(
            np.frombuffer(text, np.uint8),
            self._symbol,
            self._is_spot,
            self._seen,
            self._columns,
            self._trades,
            self._price,
            self._size,
        )
        return Lines(
            file,
            first,
            self._columns[:lines],
            self._trades[:lines],
            self._price[:rows],
            self._size[:rows],
        )
