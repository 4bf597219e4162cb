"""Whether trades printed where the book shows that trading was possible.

One taker order gives one print for each price it met, all of one side and one exchange time, so
consecutive prints of one side and time are one order. It met the best of its prices first: that
price is compared with the book, and the others, for which the order went on into the book, are not.
A figure in orders is also the same whether the vendor gathers an order's prints or not.

The feed shows the book from message to message (on Binance every 50 or 100 ms) and the market moves
in between, so the touch just before a trade is not yet the touch that it met. An order is therefore
compared with all books in force from `WINDOW_NS` before it to `WINDOW_NS` after it, among them
those of the last message strictly before it and of the first one after: it prints through if its
best price is below the lowest best bid or above the highest best ask of them all. For a buy the
first is an order that paid less than anybody bid, the second one that paid more than it had to.

Both are taken by the exchange's clock, which is the one that trades and book share; see
`docs/checks/trade_through.md` for what other clocks and windows give on real days.

A stamp that contradicts the order of the others (`stray_times`) is not believed: a book then has
the time of the one before it, and a trade is not compared. Neither is a print outside the market.

Books come in batches, in any cut: what crosses from one to the next are the books of the window.
Orders are made of some prints at a time, because a day may have millions, and of those outside the
book only the places are kept that are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.scale import NOT_REPRESENTABLE, Scale, to_steps
from market_pipeline.books.soundness import sound_times_ns
from market_pipeline.books.state import rows_behind
from market_pipeline.quality.findings import MAX_PLACES
from market_pipeline.quality.intervals import (
    NS_PER_SECOND,
    BoolArray,
    FloatArray,
    IndexArray,
    IntArray,
    day_bounds_ns,
    in_time_order,
    running_time_ns,
    time_order,
)
from market_pipeline.quality.measures.stray_times import limited, stray_times
from market_pipeline.sources.batches import OUTSIDE_MARKET, Trades

__all__ = [
    "BOOK_COLUMNS",
    "NO_ASK",
    "NO_BID",
    "WINDOW_NS",
    "TradeThroughReport",
    "WorstMinute",
    "find_trades_through",
]

BOOK_COLUMNS = ("flags", "bid_price_ticks", "ask_price_ticks")
"""The columns that are read of `books.bbo`."""

WINDOW_NS = 200_000_000
"""Twice the slowest interval at which Binance tells of its book."""

_NS_PER_MINUTE = 60 * NS_PER_SECOND
_MINUTES_PER_DAY = 1_440
_ORDERS_OF_A_SHARE = 20
_PRINTS_AT_ONCE = 1 << 18
NO_BID, NO_ASK = -(2**62), 2**62
"""What stands for the best price of a side that is empty: it sets no bound."""


@dataclass(frozen=True, slots=True)
class WorstMinute:
    """The UTC minute, by receipt, with the largest share of orders outside the book."""

    start_ns: int
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class TradeThroughReport:
    """Taker orders compared with the book.

    Attributes:
        unplaced: int64, shape (trades,): rows of the trades whose exchange time contradicts those
            of the others, so that they are not compared.
        compared: Orders for which all books of the window are valid, with one before and one after.
        through: Orders that printed outside the book.
        trade: int64, shape (places,): the row of the trades with the best price of each of the
            first `MAX_PLACES` of them by exchange time, and of the worst one.
        beyond_ticks: float64, shape (places,): how far outside, in ticks.
        lowest_bid_ticks, highest_ask_ticks: int64, shape (places,): the books it was compared with.
        worst: Which of these places is the farthest outside, the first of equals; 0 without any.
        per_hour: Orders outside the book by UTC hour of receipt, 24 entries.
        worst_minute: Of the minutes with at least 20 compared orders; None without one.
    """

    unplaced: IntArray
    compared: int
    through: int
    trade: IntArray
    beyond_ticks: FloatArray
    lowest_bid_ticks: IntArray
    highest_ask_ticks: IntArray
    worst: int
    per_hour: tuple[int, ...]
    worst_minute: WorstMinute | None


def find_trades_through(
    books: Iterable[pl.DataFrame],
    trades: Trades,
    *,
    ts_origin_ns: IntArray,
    flags: NDArray[np.uint16],
    tick: Scale,
    day: date,
) -> TradeThroughReport:
    """Holds each taker order against the books around it.

    Args:
        books: Their `BOOK_COLUMNS`, one row per message in order, in batches: flags (uint16),
            bid_price_ticks, ask_price_ticks (int64, null where the side is empty).
        trades: Of the same day, in any order.
        ts_origin_ns, flags: int64 and uint16, shape (books,): of all books at once, because the
            clock takes a look at the whole day.
        tick: The price step of the day. A price that is not on it is compared all the same.
        day: The UTC day.
    """
    stray = _stray_trades(trades)
    is_outside = False if trades.mark is None else trades.mark == OUTSIDE_MARKET
    prints = _Prints.of(trades, stray | is_outside)
    clock_ns = _book_clock_ns(ts_origin_ns, flags)
    start_ns, end_ns = day_bounds_ns(day)
    compared, through = np.zeros((2, _MINUTES_PER_DAY), np.int64)
    none = np.empty(0, np.int64)
    places = _Places(none, np.empty(0), none, none)
    for near, which in _windows(books, clock_ns, prints.ts_ns):
        for orders in _orders(trades, prints, which, tick):
            of, found = _held_against(near, orders)
            # Whatever was received outside the day counts in its first or last minute.
            receipt_ns = np.clip(trades.ts_receipt_ns[orders.trade[of]], start_ns, end_ns - 1)
            minute = (receipt_ns - start_ns) // _NS_PER_MINUTE
            outside = found.beyond_ticks > 0
            compared += np.bincount(minute, minlength=_MINUTES_PER_DAY)
            through += np.bincount(minute[outside], minlength=_MINUTES_PER_DAY)
            places = places.joined(found.of(outside))
    return TradeThroughReport(
        unplaced=np.flatnonzero(stray),
        compared=int(compared.sum()),
        through=int(through.sum()),
        **places._asdict(),
        worst=places.worst,
        per_hour=tuple(through.reshape(24, 60).sum(axis=1).tolist()),
        worst_minute=_worst_minute(through, compared, start_ns),
    )


class _Places(NamedTuple):
    """Orders and how far they printed outside the book; see `TradeThroughReport`."""

    trade: IntArray
    beyond_ticks: FloatArray
    lowest_bid_ticks: IntArray
    highest_ask_ticks: IntArray

    def of(self, which: BoolArray | IntArray) -> _Places:
        return _Places._make(column[which] for column in self)

    @property
    def worst(self) -> int:
        return int(self.beyond_ticks.argmax()) if len(self.trade) else 0

    def joined(self, later: _Places) -> _Places:
        """The first ones of these and of later ones, and the worst, which comes last if later."""
        if not len(later.trade):
            return self
        every = rows_behind(_Places._make, self, later)
        first = np.arange(min(len(every.trade), MAX_PLACES))
        return every.of(np.union1d(first, [every.worst]))


def _stray_trades(trades: Trades) -> BoolArray:
    """The trades whose exchange time contradicts the order of the others.

    That is the order they stand in, or that of their receipt if it contradicts fewer.
    """
    ts_ns = limited(trades.ts_origin_ns)
    as_they_stand = stray_times(ts_ns)
    if not as_they_stand.any():
        return as_they_stand
    row = time_order(trades.ts_receipt_ns)
    if row is None:
        return as_they_stand
    as_received = np.empty(len(row), np.bool_)
    as_received[row] = stray_times(ts_ns[row])
    return min(as_they_stand, as_received, key=np.count_nonzero)


def _book_clock_ns(ts_origin_ns: IntArray, flags: NDArray[np.uint16]) -> IntArray:
    """When each book was in force from on, by the exchange's clock; int64, never decreasing.

    That is its own time, or that of the book before if its own is no time of its, or is behind.
    """
    clock_ns = limited(ts_origin_ns)
    is_bad = (flags & np.uint16(BookFlag.BAD_TS_ORIGIN)) != 0
    if is_bad.any():
        sound = np.flatnonzero(~is_bad)
        is_bad[sound] = stray_times(clock_ns[sound])
    else:
        is_bad = stray_times(clock_ns)
    return running_time_ns(sound_times_ns(clock_ns, is_bad))


def _worst_minute(through: IntArray, compared: IntArray, start_ns: int) -> WorstMinute | None:
    enough = compared >= _ORDERS_OF_A_SHARE
    if not enough.any():
        return None
    share = np.where(enough, through / np.maximum(compared, 1), -1.0)
    worst = int(share.argmax())
    return WorstMinute(start_ns + worst * _NS_PER_MINUTE, float(share[worst]))


class _Prints(NamedTuple):
    """The trades that are compared, by exchange time.

    Attributes:
        ts_ns: int64, shape (prints,), ascending.
        row: int32, shape (prints,): their rows; None if they are all trades as they stand.
    """

    ts_ns: IntArray
    row: IndexArray | None

    @classmethod
    def of(cls, trades: Trades, left_out: BoolArray) -> _Prints:
        ts_ns, row = limited(trades.ts_origin_ns), None
        if left_out.any():
            row = np.flatnonzero(~left_out).astype(np.int32)
            ts_ns = ts_ns[row]
        order = time_order(ts_ns)
        if order is not None:
            row, ts_ns = order if row is None else row[order], ts_ns[order]
        return cls(ts_ns, row)


class _Orders(NamedTuple):
    """Taker orders by exchange time.

    Attributes:
        ts_ns: int64, shape (orders,), ascending.
        is_buy: bool, shape (orders,).
        signed_ticks: float64, shape (orders,): the lowest price of a buy, and less the highest of a
            sell, so that of either side the best is the least; whole unless off the tick.
        trade: int64, shape (orders,): the row of the trades with that price, the first if several.
    """

    ts_ns: IntArray
    is_buy: BoolArray
    signed_ticks: FloatArray
    trade: IntArray

    @classmethod
    def of(cls, trades: Trades, ts_ns: IntArray, row: IntArray, tick: Scale) -> _Orders:
        """The orders of one print or more, given by time and row."""
        is_buy = trades.is_buy[row]
        starts = np.ones(len(row), np.bool_)
        starts[1:] = (ts_ns[1:] != ts_ns[:-1]) | (is_buy[1:] != is_buy[:-1])
        price = np.where(is_buy, 1.0, -1.0) * _ticks(trades.price[row], tick)
        best = np.minimum.reduceat(price, np.flatnonzero(starts))
        order = np.cumsum(starts) - 1
        has_best = np.flatnonzero(price == best[order])
        first = has_best[np.searchsorted(order[has_best], np.arange(len(best)))]
        return cls(ts_ns[starts], is_buy[starts], best, row[first])

    def part(self, which: slice) -> _Orders:
        return _Orders._make(column[which] for column in self)

    def after(self, last: _Orders) -> _Orders:
        """These orders behind the one before, which goes on in the first of them if it is alike."""
        joined = rows_behind(_Orders._make, last, self)
        if joined.ts_ns[0] != joined.ts_ns[1] or joined.is_buy[0] != joined.is_buy[1]:
            return joined
        if joined.signed_ticks[1] < joined.signed_ticks[0]:
            return self
        return _Orders._make(np.delete(column, 1) for column in joined)


def _orders(trades: Trades, prints: _Prints, which: slice, tick: Scale) -> Iterator[_Orders]:
    """The orders of some prints, a bounded number at a time, none of them cut."""
    last: _Orders | None = None
    for start in range(which.start, which.stop, _PRINTS_AT_ONCE):
        stop = min(start + _PRINTS_AT_ONCE, which.stop)
        row = in_time_order(prints.row, start, stop)
        orders = _Orders.of(trades, prints.ts_ns[start:stop], row, tick)
        if last is not None:
            orders = orders.after(last)
        last = orders.part(slice(-1, None))
        yield orders.part(slice(-1))
    if last is not None:
        yield last


def _ticks(price: FloatArray, tick: Scale) -> FloatArray:
    """Prices in ticks, whole where they are on the tick."""
    steps = np.empty(len(price), np.int64)
    if to_steps(price, tick, steps) == 0:
        return steps.astype(np.float64)
    with np.errstate(over="ignore"):
        return np.where(steps == NOT_REPRESENTABLE, price / float(tick.step), steps)


class _Books(NamedTuple):
    """Consecutive books.

    Attributes:
        ts_ns: int64, shape (books,), never decreasing: from when on each is in force.
        bid_ticks, ask_ticks: int64, shape (books,); an empty side is far out.
        invalid: bool, shape (books,).
    """

    ts_ns: IntArray
    bid_ticks: IntArray
    ask_ticks: IntArray
    invalid: BoolArray

    @classmethod
    def of(cls, rows: pl.DataFrame, ts_ns: IntArray) -> _Books:
        return cls(
            ts_ns,
            rows["bid_price_ticks"].fill_null(NO_BID).to_numpy(),
            rows["ask_price_ticks"].fill_null(NO_ASK).to_numpy(),
            (rows["flags"].to_numpy() & np.uint16(INVALIDATING)) != 0,
        )

    def after(self, earlier: _Books) -> _Books:
        """These books behind some earlier ones."""
        return rows_behind(_Books._make, earlier, self)

    def since(self, first: int) -> _Books:
        """The books from one on."""
        return _Books._make(column[first:] for column in self)

    def in_force_from(self, ts_ns: IntArray) -> IntArray:
        """The last book strictly before each instant, the first of all if there is none."""
        return np.maximum(np.searchsorted(self.ts_ns, ts_ns, side="left") - 1, 0)


def _windows(
    books: Iterable[pl.DataFrame], clock_ns: IntArray, prints_ns: IntArray
) -> Iterator[tuple[_Books, slice]]:
    """Some books, and the prints whose whole window they hold; each print at most once."""
    done = row = 0
    near: _Books | None = None
    for rows in books:
        if rows.is_empty():
            continue
        new = _Books.of(rows, clock_ns[row : row + rows.height])
        row += rows.height
        near = new if near is None else new.after(near)
        whole = int(np.searchsorted(prints_ns, near.ts_ns[-1] - WINDOW_NS, side="left"))
        if whole > done:
            yield near, slice(done, whole)
            done = whole
        next_ns = prints_ns[done : done + 1] - WINDOW_NS
        near = near.since(int(near.in_force_from(next_ns)[0]) if len(next_ns) else -1)
    if near is not None:
        # The day ends inside these windows; what there is of them is a book before and one after.
        before_end = int(np.searchsorted(prints_ns, near.ts_ns[-1], side="right"))
        yield near, slice(done, before_end)


def _held_against(books: _Books, orders: _Orders) -> tuple[IntArray, _Places]:
    """Which orders can be compared, and how far each is outside the books of its window."""
    before = np.searchsorted(books.ts_ns, orders.ts_ns, side="left")
    of = np.flatnonzero(before > 0)
    ts_ns, before = orders.ts_ns[of], before[of] - 1
    first = books.in_force_from(ts_ns - WINDOW_NS)
    end = np.searchsorted(books.ts_ns, ts_ns + WINDOW_NS, side="right")
    end = np.maximum(end, before + 2)
    invalid = np.concatenate((np.zeros(1, np.int64), np.cumsum(books.invalid)))
    valid = invalid[end] == invalid[first]
    of, first, end = of[valid], first[valid], end[valid]
    # `reduceat` takes from each place to the next one: every second result is a window's. The book
    # put behind the last one is never part of a window, but may be the end of one.
    windows = np.column_stack((first, end)).ravel()
    lowest_bid = np.minimum.reduceat(np.append(books.bid_ticks, 0), windows)[::2]
    highest_ask = np.maximum.reduceat(np.append(books.ask_ticks, 0), windows)[::2]
    best = np.abs(orders.signed_ticks[of])
    beyond_ticks = np.maximum(lowest_bid - best, best - highest_ask)
    return of, _Places(orders.trade[of], beyond_ticks, lowest_bid, highest_ask)
