"""The venue's own best bid and ask, with which a rebuilt book is compared."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from market_pipeline.sources.binance_capture.frames import (
    BookTickerFrame,
    FrameDecoder,
    check_json,
    known_time,
)
from market_pipeline.sources.binance_capture.lines import Findings, read_lines
from market_pipeline.sources.binance_capture.one_pass import BATCH_ROWS

__all__ = ["BookTickerBatch", "read_book_ticker"]

_BOOK_TICKER = b'"bookTicker"'
_EVENT = b'"e":'
_BEST_BID_SIZE = b'"B":'


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


def read_book_ticker(
    files: Sequence[Path], symbol: str, findings: Findings
) -> Iterator[BookTickerBatch]:
    """Yields the `bookTicker` frames in file order, in batches of bounded size.

    Args:
        files, symbol, findings: As for `readers.read_deltas`.

    Raises:
        LakeFileError: If a file cannot be read, see `read_blocks`.
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
            ts_origin_ns = 0 if frame.E is None else known_time(frame.E, file, line, findings)
            if ts_origin_ns is None:
                continue
            integers.extend((ts_origin_ns, ts_receipt_ns, frame.u))
            numbers.extend((frame.b, frame.B, frame.a, frame.A))
            if len(integers) >= 3 * BATCH_ROWS:
                yield _book_ticker_batch(file, integers, numbers)
                integers, numbers = array("q"), array("d")
        if integers:
            yield _book_ticker_batch(file, integers, numbers)


def _book_ticker_batch(file: Path, integers: array[int], numbers: array[float]) -> BookTickerBatch:
    times = np.array(integers, np.int64).reshape(-1, 3).T
    touch = np.array(numbers, np.float64).reshape(-1, 4).T
    return BookTickerBatch(file, *np.ascontiguousarray(times), *np.ascontiguousarray(touch))
