"""The rows of `books.trades`: each trade with the book around it (`metrics.books_around`).

Trades stay in the order of the files, and may be in any order of time.

Prints of one taker: an exchange that prints a taker's order once for each resting order it met, or
each price, numbers these prints in sequence and gives them one time. So neighbours of one exchange
time, side and mark with ids in sequence are one `taker_order`; two takers of one side who follow
each other within the clock's step cannot be distinguished.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from market_pipeline.books.arrow import identity_columns
from market_pipeline.books.scale import NOT_REPRESENTABLE, Scale, to_steps
from market_pipeline.books.tables import BOOK_TRADES
from market_pipeline.config.instruments import Instrument
from market_pipeline.metrics.books_around import BooksAround, BooksBefore
from market_pipeline.quality.intervals import BoolArray, FloatArray, IntArray
from market_pipeline.sources.batches import MARKET, UNMARKED, Trades

__all__ = ["TradeRows", "trade_rows"]

_TRADES_AT_ONCE = 1 << 17


class TradeRows(NamedTuple):
    """Some rows of `books.trades`, and where they are off the grid.

    Attributes:
        rows: The rows.
        off_tick, off_lot: int64: the trades, counted over the day from 0, whose price is not on the
            tick, and whose size is not on the lot.
    """

    rows: pa.RecordBatch
    off_tick: IntArray
    off_lot: IntArray


def trade_rows(
    trades: Trades,
    books: BooksAround,
    *,
    instrument: Instrument,
    day: date,
    tick: Scale,
    lot: Scale,
) -> Iterator[TradeRows]:
    """The rows of a day, a bounded number at a time.

    Args:
        trades: With their ids.
        books: Those of each.
        instrument, day: What the rows are of.
        tick, lot: The steps of that day.

    Raises:
        ValueError: If the trades have no ids.
    """
    if trades.id is None:
        raise ValueError("the trades were read without their ids")
    taker_order = 0
    for start in range(0, trades.price.size, _TRADES_AT_ONCE):
        part = slice(start, min(start + _TRADES_AT_ONCE, trades.price.size))
        orders = _taker_orders(trades, trades.id, part, taker_order)
        taker_order = int(orders[-1])
        price, size = _Steps.of(trades.price[part], tick), _Steps.of(trades.quantity[part], lot)
        is_buy = trades.is_buy[part]
        columns = [
            *identity_columns(instrument.venue, instrument.symbol, day, len(orders)),
            *(pa.array(c[part]) for c in (trades.ts_origin_ns, trades.ts_receipt_ns, trades.id)),
            pa.array(orders),
            _array(price.steps, price.off),
            _array(size.steps, size.off),
            pa.array(price.values),
            pa.array(size.values),
            pa.array(is_buy),
            _is_market(trades, part),
            *_book_columns(books, part, price, is_buy),
        ]
        yield TradeRows(
            pa.RecordBatch.from_arrays(columns, names=BOOK_TRADES.arrow_schema.names),
            start + np.flatnonzero(price.off),
            start + np.flatnonzero(size.off),
        )


def _taker_orders(trades: Trades, ids: IntArray, part: slice, last: int) -> IntArray:
    """The first id of each trade's order; `last` is that of the trade before the first one."""
    earlier = slice(max(part.start - 1, 0), part.stop)
    ts_ns, is_buy, number = (c[earlier] for c in (trades.ts_origin_ns, trades.is_buy, ids))
    goes_on = (ts_ns[1:] == ts_ns[:-1]) & (is_buy[1:] == is_buy[:-1]) & (np.diff(number) == 1)
    if trades.mark is not None:
        goes_on &= np.diff(trades.mark[earlier]) == 0
    starts = np.ones(part.stop - part.start, np.bool_)
    starts[len(starts) - len(goes_on) :] = ~goes_on
    first = np.maximum.accumulate(np.where(starts, np.arange(len(starts)), -1))
    return np.where(first < 0, last, ids[part][first])


def _is_market(trades: Trades, part: slice) -> pa.Array:
    """What the venue says of some trades; null where it says nothing."""
    if trades.mark is None:
        return pa.nulls(len(trades.price[part]), pa.bool_())
    mark = trades.mark[part]
    return _array(mark == MARKET, mark == UNMARKED)


class _Steps(NamedTuple):
    """Values as whole steps where they are, and as floats.

    Attributes:
        steps: int64.
        off: bool, where a value is no whole number of steps.
        values: float64, nearest to the decimal, or as the source has it where off the grid.
    """

    steps: IntArray
    off: BoolArray
    values: FloatArray

    @classmethod
    def of(cls, values: FloatArray, scale: Scale) -> _Steps:
        steps = np.empty(len(values), np.int64)
        if not to_steps(values, scale, steps):
            return cls(steps, np.zeros(len(values), np.bool_), scale.to_floats(steps))
        off = steps == NOT_REPRESENTABLE
        return cls(steps, off, np.where(off, values, scale.to_floats(steps)))


def _book_columns(
    books: BooksAround, part: slice, price: _Steps, is_buy: BoolArray
) -> Iterator[pa.Array]:
    """The columns from `bid_price_ticks` on."""
    before = BooksBefore._make(column[part] for column in books.before)
    no_bid, no_ask = before.bid_size_lots == 0, before.ask_size_lots == 0
    yield _array(before.bid_price_ticks, no_bid)
    yield _array(before.bid_size_lots, no_bid)
    yield _array(before.ask_price_ticks, no_ask)
    yield _array(before.ask_size_lots, no_ask)
    no_book = before.age_ns == 0
    yield _array(before.flags, no_book)
    yield _array(before.verified, no_book)
    yield _array(before.age_ns, no_book)
    run = books.run[part]
    yield _array(run, run == 0)
    no_mid = no_bid | no_ask
    no_distance = no_mid | price.off
    twice_mid = before.bid_price_ticks + before.ask_price_ticks
    distance = 2 * price.steps - twice_mid
    sign = np.where(is_buy, 1, -1)
    effective = sign * distance
    yield _array(distance, no_distance)
    yield _array(effective, no_distance)
    # The 1 only keeps the division quiet.
    yield _array(20_000 * effective / np.where(no_distance, 1, twice_mid), no_distance)
    for mid2_after in books.mid2_after:
        later = mid2_after[part]
        none = later == 0
        yield _array(sign * (2 * price.steps - later), none | price.off)
        yield _array(sign * (later - twice_mid), none | no_mid)


def _array(values: NDArray[np.generic], absent: BoolArray) -> pa.Array:
    """Null where absent; without a mask where nothing is, which Arrow handles faster."""
    return pa.array(values, mask=absent if absent.any() else None)
