"""The venue's own aggregation of trades, to be put beside the prints it is made of.

Of spot that is one taker order's prints at one price; of futures the prints of one side and price
within 100 ms, whosever they are, and none outside the market.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from market_pipeline.sources.binance_capture.frames import (
    AggTradeFrame,
    FrameDecoder,
    check_json,
    known_time,
)
from market_pipeline.sources.binance_capture.lines import Findings, read_lines
from market_pipeline.sources.binance_capture.one_pass import BATCH_ROWS

__all__ = ["AggTradeBatch", "read_agg_trades"]

_AGG_TRADE = b'"aggTrade"'
_INTEGERS = 6


@dataclass(frozen=True, slots=True)
class AggTradeBatch:
    """Consecutive aggregated trades: prints of one taker's side at one price.

    Attributes:
        file: The file.
        ts_origin_ns, ts_receipt_ns: int64 (n,), ns UTC.
        id: int64 (n,), the venue's number of each aggregated trade.
        first_id, last_id: int64 (n,), the ids of its first and last print.
        is_buy: bool (n,), whether the taker bought.
        price, quantity: float64 (n,), above 0.
    """

    file: Path
    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    id: NDArray[np.int64]
    first_id: NDArray[np.int64]
    last_id: NDArray[np.int64]
    is_buy: NDArray[np.bool_]
    price: NDArray[np.float64]
    quantity: NDArray[np.float64]


def read_agg_trades(
    files: Sequence[Path], symbol: str, findings: Findings
) -> Iterator[AggTradeBatch]:
    """Yields the `aggTrade` frames in file order, in batches of bounded size.

    Their ids rise by one: a missing one is reported as a gap, one that came before is left out.

    Args:
        files, symbol, findings: As for `readers.read_deltas`.

    Raises:
        LakeFileError: If a file cannot be read, see `read_blocks`.
    """
    decoder = FrameDecoder(AggTradeFrame, symbol, findings)
    last_id: int | None = None
    for file in files:
        integers, numbers = array("q"), array("d")
        for line, ts_receipt_ns, text in read_lines(file, findings):
            if _AGG_TRADE not in text:
                check_json(file, line, text, findings)
                continue
            frame = decoder.decode(file, line, text)
            if frame is None:
                continue
            ts_origin_ns = known_time(frame.T, file, line, findings)
            if ts_origin_ns is None or not findings.is_next_id(last_id, frame.a, "a", file, line):
                continue
            last_id = frame.a
            integers.extend(
                (ts_origin_ns, ts_receipt_ns, frame.a, frame.f, frame.last, not frame.m)
            )
            numbers.extend((frame.p, frame.q))
            if len(integers) >= _INTEGERS * BATCH_ROWS:
                yield _batch(file, integers, numbers)
                integers, numbers = array("q"), array("d")
        if integers:
            yield _batch(file, integers, numbers)


def _batch(file: Path, integers: array[int], numbers: array[float]) -> AggTradeBatch:
    whole = np.array(integers, np.int64).reshape(-1, _INTEGERS).T
    *times_and_ids, is_buy = np.ascontiguousarray(whole)
    ts_origin_ns, ts_receipt_ns, number, first_id, last_id = times_and_ids
    price, quantity = np.ascontiguousarray(np.array(numbers, np.float64).reshape(-1, 2).T)
    return AggTradeBatch(
        file,
        ts_origin_ns,
        ts_receipt_ns,
        number,
        first_id,
        last_id,
        is_buy != 0,
        price,
        quantity,
    )
