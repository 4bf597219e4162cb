"""Open, high, low, close and volume of prints, in bars of equal width on whichever clock is given.

numba infers the kernel's types: prices and sizes are whole steps, int64, or floats of a vendor's.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import DTypeLike

from market_pipeline.books.state import read_only
from market_pipeline.jit import kernel
from market_pipeline.mapped import ColumnArray
from market_pipeline.quality.intervals import BoolArray, IntArray, in_time_order, time_order
from market_pipeline.sources.batches import Trades

__all__ = ["PrintBars", "in_receipt_order"]

_TRADES_AT_ONCE = 1 << 18

_OPEN, _HIGH, _LOW, _CLOSE = range(4)
_ALL, _BUY, _SELL = range(3)
_FIRST_NS, _FIRST_NUMBER, _FIRST_ROW, _LAST_NS, _LAST_NUMBER, _LAST_ROW = range(6)


def in_receipt_order(trades: Trades) -> Iterator[IntArray]:
    """The rows of trades as they were received, equal times as they stand, a part at a time.

    What is worked out of all trades at once takes more memory than the trades do.
    """
    order = time_order(trades.ts_receipt_ns)
    for start in range(0, trades.price.size, _TRADES_AT_ONCE):
        yield in_time_order(order, start, min(start + _TRADES_AT_ONCE, trades.price.size))


class PrintBars:
    """Bars from one instant to another, that prints are added to.

    The first print of a bar is the one of the earliest time, of those the one of the lowest number,
    and of those the one of the lowest row; the last one likewise.

    Args:
        start_ns, end_ns: Of all bars; a whole number of widths apart.
        width_ns: Of each bar.
        dtype: Of prices and sizes.

    Attributes:
        prices: Shape (bars, 4): open, high, low, close; of no meaning without a print.
        volumes: Shape (bars, 3): of all prints, of takers who bought, of takers who sold.
        value: float64, shape (bars,): the sum of price times size.
        trade_count: int64, shape (bars,).
        late_count: int64, shape (bars,): prints added after one of a later bar.
        first_number, last_number: int64, shape (bars,).
        outside: int64, shape (2,): prints before the first bar, and after the last.
    """

    def __init__(self, start_ns: int, end_ns: int, width_ns: int, dtype: DTypeLike) -> None:
        bars = (end_ns - start_ns) // width_ns
        self._start_ns, self._width_ns = start_ns, width_ns
        self._ends = np.zeros((bars, 6), np.int64)
        self._latest = np.zeros(1, np.int64)
        self.prices = np.zeros((bars, 4), dtype)
        self.volumes = np.zeros((bars, 3), dtype)
        self.value = np.zeros(bars)
        self.trade_count, self.late_count = np.zeros((2, bars), np.int64)
        self.first_number, self.last_number = (
            self._ends[:, _FIRST_NUMBER],
            self._ends[:, _LAST_NUMBER],
        )
        self.outside = np.zeros(2, np.int64)

    def add(
        self,
        time_ns: IntArray,
        number: IntArray,
        row: IntArray,
        price: ColumnArray,
        size: ColumnArray,
        is_buy: BoolArray,
    ) -> None:
        """Adds prints in the order they were received; sums are formed in that order.

        Args:
            time_ns: int64, shape (n,): which bar each is of.
            number, row: int64, shape (n,): the venue's number of each, and its place in the file.
            price, size: Of the bars' type, shape (n,).
            is_buy: bool, shape (n,): whether the taker bought.
        """
        _add_prints(
            read_only(time_ns),
            read_only(number),
            read_only(row),
            read_only(price),
            read_only(size),
            read_only(is_buy),
            self._start_ns,
            self._width_ns,
            self.prices,
            self.volumes,
            self.value,
            self.trade_count,
            self.late_count,
            self._ends,
            self._latest,
            self.outside,
        )


@kernel
def _add_prints(
    time_ns,
    number,
    row,
    price,
    size,
    is_buy,
    start_ns,
    width_ns,
    prices,
    volumes,
    value,
    trade_count,
    late_count,
    ends,
    latest,
    outside,
):
    bars = trade_count.size
    for i in range(time_ns.size):
        if time_ns[i] < start_ns:
            outside[0] += 1
            continue
        bar = (time_ns[i] - start_ns) // width_ns
        if bar >= bars:
            outside[1] += 1
            continue
        late_count[bar] += bar < latest[0]
        latest[0] = max(bar, latest[0])
        key = (time_ns[i], number[i], row[i])
        end = ends[bar]
        is_new = trade_count[bar] == 0
        if is_new or key < (end[_FIRST_NS], end[_FIRST_NUMBER], end[_FIRST_ROW]):
            end[_FIRST_NS], end[_FIRST_NUMBER], end[_FIRST_ROW] = key
            prices[bar, _OPEN] = price[i]
        if is_new or key > (end[_LAST_NS], end[_LAST_NUMBER], end[_LAST_ROW]):
            end[_LAST_NS], end[_LAST_NUMBER], end[_LAST_ROW] = key
            prices[bar, _CLOSE] = price[i]
        if is_new or price[i] > prices[bar, _HIGH]:
            prices[bar, _HIGH] = price[i]
        if is_new or price[i] < prices[bar, _LOW]:
            prices[bar, _LOW] = price[i]
        volumes[bar, _ALL] += size[i]
        volumes[bar, _BUY if is_buy[i] else _SELL] += size[i]
        value[bar] += np.float64(price[i]) * np.float64(size[i])
        trade_count[bar] += 1
