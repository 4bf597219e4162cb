"""Sums by interval of what `flow` makes its figures of: prints, windows of prints, taker orders.

Whatever is taken over from one batch of rows to the next is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.books.state import read_only
from market_pipeline.books.tables import SECONDS_AFTER
from market_pipeline.jit import kernel
from market_pipeline.metrics.columns import IMPACT_WINDOW_SECONDS, SIGN_LAGS, TOUCH_DISTANCES
from market_pipeline.metrics.day_rows import Chosen, picked
from market_pipeline.quality.intervals import NS_PER_SECOND, BoolArray, FloatArray, IntArray

__all__ = ["AFTER", "Orders", "Prints", "Sums", "Windows"]

_PER_MILLION = 1e-6

AFTER = {
    seconds: (f"realised_spread_{seconds}s", f"price_impact_{seconds}s")
    for seconds in SECONDS_AFTER
}
"""The two figures of each time after a trade."""
_RETURN = AFTER[IMPACT_WINDOW_SECONDS][1]
_SPREADS = ("effective_spread", *(name for names in AFTER.values() for name in names))
_TICKS = tuple(f"{name}_ticks" for name in ("price", "bid_price", "ask_price", *_SPREADS))

_FAR_TICKS = 3


@kernel
def _add_each(sums: FloatArray, interval: IntArray, values: FloatArray) -> None:
    """Adds values one after the other, as `np.add.at` does."""
    for i in range(interval.size):
        sums[interval[i]] += values[i]


class Sums:
    """Sums by interval, made term by term, so that no cut of the rows changes a rounding.

    Attributes:
        intervals: How many.
        has_any: bool, shape (intervals,): to which of them anything was added.
    """

    def __init__(self, intervals: int) -> None:
        self.intervals = intervals
        self.has_any = np.zeros(intervals, np.bool_)
        self._of: dict[str, FloatArray] = {}

    @classmethod
    def picked(cls, sums: Sequence[Sums], chosen: Chosen) -> Sums:
        """The sums of some intervals of each grid, those of one grid after the other."""
        names = dict.fromkeys(name for each in sums for name in each._of)
        made = cls(sum(len(each) for each in chosen))
        made._of = {name: picked([each[name] for each in sums], chosen) for name in names}
        return made

    def __getitem__(self, name: str) -> FloatArray:
        """A sum by its name, float64 (intervals,)."""
        if name not in self._of:
            self._of[name] = np.zeros(self.intervals)
        return self._of[name]

    def add(self, name: str, interval: IntArray, values: FloatArray | IntArray) -> None:
        """Adds values, each to the sum of its interval."""
        self.has_any[interval] = True  # it raises where there is no such interval
        _add_each(self[name], read_only(interval), read_only(values.astype(np.float64, copy=False)))

    def count(self, name: str, interval: IntArray) -> None:
        """Adds 1 for each."""
        np.add.at(self[name], interval, 1.0)
        self.has_any[interval] = True

    def ratio(self, of: str, by: str, *, enough: BoolArray | None = None) -> FloatArray:
        """One sum over another, which is positive where there is a figure; else NaN."""
        there = self[by] > 0 if enough is None else enough & (self[by] > 0)
        ratio = np.full(self.intervals, np.nan)
        np.divide(self[of], self[by], out=ratio, where=there)
        return ratio


class Prints:
    """Some prints of the market, in the order of the rows."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.ts_ns: IntArray = rows["ts_receipt_ns"].to_numpy()
        self.order: IntArray = rows["taker_order"].to_numpy()
        self.is_buy: BoolArray = rows["is_buy"].to_numpy()
        self.sign = np.where(self.is_buy, 1, -1)
        self.size: FloatArray = rows["size"].to_numpy()
        self.value = rows["price"].to_numpy() * self.size * _PER_MILLION
        # All at once: asked of each column by itself it takes ten times as long.
        self._rows = rows.select(
            pl.col(*_TICKS, "valid_run").fill_null(0),
            pl.col("flags").fill_null(INVALIDATING),
            pl.col(*_TICKS).is_not_null().name.prefix("has_"),
        )
        self.run: NDArray[np.int32] = self._rows["valid_run"].to_numpy()
        self.is_valid = (self._rows["flags"].to_numpy() & INVALIDATING) == 0
        self.price, self.has_price = self.whole("price_ticks")
        self._bid, self._has_bid = self.whole("bid_price_ticks")
        self._ask, self._has_ask = self.whole("ask_price_ticks")
        self.in_bps = {name: self._bps(name) for name in _SPREADS}

    def whole(self, name: str) -> tuple[IntArray, BoolArray]:
        """A column of ticks, 0 where it is null, and where it is not."""
        return self._rows[name].to_numpy(), self._rows[f"has_{name}"].to_numpy()

    def _bps(self, name: str) -> tuple[FloatArray, BoolArray]:
        """Twice a distance, given in ticks, over the mid, and where there is one."""
        ticks, has = self.whole(f"{name}_ticks")
        has &= self.is_valid & self._has_bid & self._has_ask
        # The 1 only keeps the division quiet.
        return 20_000 * ticks / np.where(has, self._bid + self._ask, 1), has

    def add_to(self, sums: Sums, interval_of: IntArray) -> None:
        """Adds what each print is alone, given the interval of each."""
        self._add_distances(sums, interval_of)
        spread, has = self.in_bps["effective_spread"]
        size, interval, spread = self.size[has], interval_of[has], spread[has]
        sums.add("effective", interval, spread * size)
        sums.add("effective_size", interval, size)
        sums.add("effective_equal", interval, spread)
        sums.count("effective_spread_count", interval)
        for names in AFTER.values():
            (realised, has_it), (impact, has) = (self.in_bps[name] for name in names)
            has = has & has_it
            size, interval = self.size[has], interval_of[has]
            sums.count(f"{names[1]}_count", interval)
            sums.add(f"{names[1]}_size", interval, size)
            for name, figure in zip(names, (realised, impact), strict=True):
                sums.add(name, interval, figure[has] * size)

    def _add_distances(self, sums: Sums, interval: IntArray) -> None:
        touch = np.where(self.is_buy, self._ask, self._bid)
        has = np.where(self.is_buy, self._has_ask, self._has_bid)
        has &= self.is_valid & self.has_price
        away = np.clip(self.sign * (self.price - touch), -1, _FAR_TICKS)
        for ticks, name in enumerate(TOUCH_DISTANCES, start=-1):
            sums.count(name, interval[has & (away == ticks)])
        sums.count("no_touch_count", interval[~has])


@kernel
def _find_windows(ts_ns: IntArray, start_ns: int, width_ns: int, begins: BoolArray) -> int:
    """Writes which prints begin a window, given where the last one before began; its start."""
    for row in range(ts_ns.size):
        begins[row] = not (start_ns <= ts_ns[row] < start_ns + width_ns)
        if begins[row]:
            start_ns = ts_ns[row]
    return start_ns


class Windows:
    """The windows of `IMPACT_WINDOW_SECONDS`, of which the last one is still open."""

    def __init__(self, sums: Sums) -> None:
        self._sums = sums
        self._start_ns = -(2**62)
        self._interval = np.zeros(1, np.int64)
        self._return_bps = np.full(1, np.nan)
        self._value, self._net = np.zeros((2, 1))

    def add(self, prints: Prints, interval: IntArray) -> None:
        """Adds prints to the open window, or to further ones."""
        begins = np.empty(prints.ts_ns.size, np.bool_)
        width_ns = IMPACT_WINDOW_SECONDS * NS_PER_SECOND
        self._start_ns = _find_windows(prints.ts_ns, self._start_ns, width_ns, begins)
        impact_bps, has_impact = prints.in_bps[_RETURN]
        # An impact is twice a move, in the taker's direction.
        return_bps = np.where(has_impact, prints.sign * impact_bps / 2, np.nan)[begins]
        self._interval = np.append(self._interval, interval[begins])
        self._return_bps = np.append(self._return_bps, return_bps)
        further = np.zeros(len(return_bps))
        self._value, self._net = np.append(self._value, further), np.append(self._net, further)
        window = np.cumsum(begins)
        np.add.at(self._value, window, prints.value)
        np.add.at(self._net, window, prints.sign * prints.value)
        self._count(len(further))

    def close(self) -> None:
        """Nothing comes after."""
        self._count(1)

    def _count(self, windows: int) -> None:
        """Counts the first of the windows, and keeps the others."""
        has = ~np.isnan(self._return_bps[:windows])
        interval, change, value, net = (
            each[:windows][has]
            for each in (self._interval, self._return_bps, self._value, self._net)
        )
        self._sums.count("impact_window_count", interval)
        self._sums.add("return_net", interval, change * net)
        self._sums.add("net_net", interval, net * net)
        self._sums.add("amihud", interval, np.abs(change) / value)
        self._interval, self._return_bps = self._interval[windows:], self._return_bps[windows:]
        self._value, self._net = self._value[windows:], self._net[windows:]


class Orders:
    """The orders of takers in their sequence; the last one may go on in what comes next."""

    def __init__(self, sums: Sums) -> None:
        self._sums = sums
        # Of the open order its first and its last print, and of those before it all that is used.
        self._open: list[NDArray[np.int64]] = [np.empty(0, np.int64) for _ in range(6)]
        self._past = np.empty((5, 0), np.int64)

    def add(self, prints: Prints, interval: IntArray) -> None:
        """Adds prints, to the open order first."""
        new: list[NDArray[Any]] = [
            *(prints.order, prints.sign, interval, prints.run, prints.price, prints.has_price)
        ]
        columns = [np.concatenate(pair) for pair in zip(self._open, new, strict=True)]
        first = np.flatnonzero(np.append(True, np.diff(columns[0]) != 0))
        last = np.append(first[1:], len(columns[0])) - 1
        self._open = [column[[first[-1], last[-1]]] for column in columns]
        self._count(columns, first[:-1], last[:-1])

    def close(self) -> None:
        """Nothing comes after."""
        if self._open[0].size:
            self._count(self._open, np.array([0]), np.array([1]))

    def _count(self, columns: list[IntArray], first: IntArray, last: IntArray) -> None:
        """Counts whole orders, given by their first and last print."""
        _, sign, interval, run, price, has_price = columns
        self._sums.count("sign_count", interval[first])
        self._sums.add("signs", interval[first], sign[first])
        orders = np.stack(
            [sign[first], interval[first], run[first], price[last], has_price[last]], dtype=np.int64
        )
        past = self._past.shape[1]
        orders = np.concatenate([self._past, orders], axis=1)
        for lag in SIGN_LAGS:
            self._add_pairs(orders, past, lag)
        self._add_bounces(orders, past)
        self._past = orders[:, -max(SIGN_LAGS) :]

    def _add_pairs(self, orders: IntArray, past: int, lag: int) -> None:
        """Adds the products of signs of all pairs whose later order is new."""
        later = np.arange(max(past, lag), orders.shape[1])
        later = later[_are_together(orders, later, later - lag)]
        sign, interval = orders[0], orders[1, later]
        self._sums.count(f"pairs_{lag}", interval)
        self._sums.add(f"products_{lag}", interval, sign[later] * sign[later - lag])

    def _add_bounces(self, orders: IntArray, past: int) -> None:
        """Adds the products of the two changes to each new order from the second one before it."""
        later = np.arange(max(past, 2), orders.shape[1])
        has_price = orders[4] > 0
        together = has_price[later] & has_price[later - 1] & has_price[later - 2]
        for lag in (1, 2):
            together &= _are_together(orders, later, later - lag)
        later = later[together]
        price, interval = orders[3], orders[1, later]
        change = (price[later] - price[later - 1]).astype(np.float64)
        before = (price[later - 1] - price[later - 2]).astype(np.float64)
        self._sums.count("bounces", interval)
        self._sums.add("changes", interval, change)
        self._sums.add("changes_before", interval, before)
        self._sums.add("bounce_products", interval, change * before)


def _are_together(orders: IntArray, one: IntArray, other: IntArray) -> BoolArray:
    """Whether orders are of one interval, and no invalid time lies between them."""
    _, interval, run, *_ = orders
    together: BoolArray = (
        (interval[one] == interval[other]) & (run[one] == run[other]) & (run[one] > 0)
    )
    return together
