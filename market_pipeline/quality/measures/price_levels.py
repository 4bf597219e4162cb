"""At which prices a raw table is: at its start, at its end, and in each hour.

Medians, so that no single price decides. They tell an instrument from another whose file was taken
for its own, by comparing tables of one day with each other and with the day before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from market_pipeline.quality.intervals import NS_PER_HOUR, FloatArray, IntArray

__all__ = ["PriceLevels", "apart", "price_ratio"]

_END_ROWS = 1_024
_SAMPLE_ROWS = 1 << 16
_HOURS = 24


class PriceLevels:
    """Follows the prices of a raw table, batch by batch; memory does not grow with the day.

    Only finite prices above zero count, of rows that were received within the UTC day.
    """

    def __init__(self, day_start_ns: int) -> None:
        self._day_start_ns = day_start_ns
        self._rows = 0
        self._first: FloatArray = np.empty(0)
        self._last: FloatArray = np.empty(0)
        # Every so many rows one is kept; more apart the more rows there are.
        self._stride = 1
        self._hours: list[IntArray] = [np.empty(0, np.int64)]
        self._prices: list[FloatArray] = [np.empty(0)]

    def add(self, ts_receipt_ns: IntArray, price: FloatArray) -> None:
        """Takes rows into account: their receipt times, and a price of each, in file order."""
        for begin in range(0, len(price), _END_ROWS):
            if self._first.size >= _END_ROWS:
                break
            part = slice(begin, begin + _END_ROWS)
            _, of_day = self._of_day(ts_receipt_ns[part], price[part])
            self._first = np.append(self._first, of_day)[:_END_ROWS]
        tail = slice(-2 * _END_ROWS, None)
        _, of_day = self._of_day(ts_receipt_ns[tail], price[tail])
        self._last = np.append(self._last, of_day)[-_END_ROWS:]

        rows = self._rows + len(price)
        while rows > self._stride * _SAMPLE_ROWS:
            hours, prices = np.concatenate(self._hours), np.concatenate(self._prices)
            self._hours, self._prices = [hours[::2].copy()], [prices[::2].copy()]
            self._stride *= 2
        taken = slice(-self._rows % self._stride, None, self._stride)
        self._hours.append(self._hour(ts_receipt_ns[taken]))
        self._prices.append(price[taken].copy())  # and not the batch with it
        self._rows = rows

    def figures(self) -> dict[str, float | list[float | None] | None]:
        """The columns of `lake.profiles`, after the last batch."""
        hours, prices = np.concatenate(self._hours), np.concatenate(self._prices)
        usable = np.isfinite(prices) & (prices > 0.0)
        by_hour = [prices[usable & (hours == hour)] for hour in range(_HOURS)]
        return {
            "first_price": _median(self._first),
            "last_price": _median(self._last),
            "prices_per_hour": [_median(each) for each in by_hour],
        }

    def _hour(self, ts_receipt_ns: IntArray) -> IntArray:
        return np.asarray((ts_receipt_ns - self._day_start_ns) // NS_PER_HOUR, np.int64)

    def _of_day(self, ts_receipt_ns: IntArray, price: FloatArray) -> tuple[IntArray, FloatArray]:
        hour = self._hour(ts_receipt_ns)
        kept = (hour >= 0) & (hour < _HOURS) & np.isfinite(price) & (price > 0.0)
        return hour[kept], price[kept]


def price_ratio(
    ours: Sequence[float | None] | None, theirs: Sequence[float | None] | None
) -> float | None:
    """The median over the hours that both tables have of how many times theirs our prices are.

    None if they share no hour.
    """
    pairs = zip(ours or (), theirs or (), strict=False)
    ratios = [our / their for our, their in pairs if our is not None and their is not None]
    return float(np.median(ratios)) if ratios else None


def apart(ratio: float) -> float:
    """How many times the larger of two prices is the smaller, from their ratio."""
    return math.inf if ratio <= 0.0 else max(ratio, 1.0 / ratio)


def _median(values: FloatArray) -> float | None:
    return float(np.median(values)) if values.size else None
