"""What every source yields: bounded batches of raw values, each row knowing its file and place."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_pipeline.mapped import ColumnArray

__all__ = ["MARKET", "OUTSIDE_MARKET", "UNMARKED", "DeltaBatch", "SnapshotBatch", "TradeTimes"]
__all__ += ["Trades"]

UNMARKED, OUTSIDE_MARKET, MARKET = -1, 0, 1
"""What a trade is marked as: nothing that is known, a print outside the market, one of it."""


@dataclass(frozen=True, slots=True)
class DeltaBatch:
    """Consecutive delta rows of one file, as the vendor wrote them.

    Rows of one message share `sequence_number` and `ts_receipt_ns`; a message may begin or end in
    another batch. Sizes are absolute and 0 removes the level.

    Attributes:
        file, first_row: The file, and which of its rows the first of these is.
        ts_origin_ns, ts_receipt_ns, sequence_number: int64 (n,), ns UTC.
        is_bid: bool (n,).
        price, size: float64 (n,), finite, price above 0, size at least 0.
        gap_rows: int64 (gaps,), ascending indices into this batch of the first rows of messages
            before which others are proven to be lost; empty where the source cannot prove any.
        recovered_rows: int64, the same where a snapshot in between leads to the message: the book
            is lost until that snapshot, and right from there on.
    """

    file: Path
    first_row: int
    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    is_bid: NDArray[np.bool_]
    price: NDArray[np.float64]
    size: NDArray[np.float64]
    gap_rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    recovered_rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def part(self, start: int, end: int, *, copied: bool = False) -> DeltaBatch:
        """The rows from `start` up to `end`, in arrays of their own if they are `copied`."""
        columns: list[ColumnArray] = [
            column[start:end].copy() if copied else column[start:end]
            for column in (
                self.ts_origin_ns,
                self.ts_receipt_ns,
                self.sequence_number,
                self.is_bid,
                self.price,
                self.size,
            )
        ]
        for rows in (self.gap_rows, self.recovered_rows):
            columns.append(rows[(rows >= start) & (rows < end)] - start)
        return DeltaBatch(self.file, self.first_row + start, *columns)


@dataclass(frozen=True, slots=True)
class SnapshotBatch:
    """Consecutive snapshots of one file: the top levels after the message of that sequence number.

    Attributes:
        file, first_row: The file, and which of its rows the first of these is.
        ts_receipt_ns, sequence_number: int64 (n,).
        bid_price, bid_size, ask_price, ask_size: float64 (n, levels), best first; a level that is
            not there has size 0.
        ts_origin_ns: int64 (n,); None where the source has none, or nobody asked for it.
    """

    file: Path
    first_row: int
    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    bid_price: NDArray[np.float64]
    bid_size: NDArray[np.float64]
    ask_price: NDArray[np.float64]
    ask_size: NDArray[np.float64]
    ts_origin_ns: NDArray[np.int64] | None = None


class TradeTimes(NamedTuple):
    """When the trades of a day were, int64 (trades,) each."""

    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Trades:
    """All trades of one instrument and day in file order.

    Attributes:
        ts_origin_ns, ts_receipt_ns: int64 (n,), ns UTC.
        price, quantity: float64 (n,).
        is_buy: bool (n,), whether the taker bought.
        id: int64 (n,), the venue's number of each; None where nobody asked for it.
        mark: int8 (n,), `MARKET`, `OUTSIDE_MARKET` (of an insurance fund, a deleveraging, …) or
            `UNMARKED`; None where the source marks none of them.
    """

    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    price: NDArray[np.float64]
    quantity: NDArray[np.float64]
    is_buy: NDArray[np.bool_]
    id: NDArray[np.int64] | None = None
    mark: NDArray[np.int8] | None = None

    @property
    def times(self) -> TradeTimes:
        """When they were."""
        return TradeTimes(self.ts_origin_ns, self.ts_receipt_ns)
