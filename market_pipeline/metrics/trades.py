"""Each trade with the book as it was just before it: the rows of `books.trades`.

Just before a trade means after the last message that was received before it. At the same receipt
time the trade comes first: a message that tells what a trade did to the book often has the time of
the trade. The receipt clock never runs backwards (`running_time_ns`), and a message without a time
of its own came with the one before it (`metrics.book_batches`).

A book is in force until the next message, but not across a span in which nobody knows it: within a
gap, or after a snapshot that disagreed with it, the trade's copy of the flags has that reason too,
which the row of the last message before has not.

Trades stay in the order of the files, and may be in any order of time.

Prints of one taker: an exchange that prints a taker's order once for each resting order it met, or
each price, numbers these prints in sequence and gives them one time. So neighbours of one exchange
time, side and mark with ids in sequence are one `taker_order`; two takers of one side who follow
each other within the clock's step cannot be distinguished.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from market_pipeline.books.arrow import identity_columns
from market_pipeline.books.flags import BookFlag
from market_pipeline.books.scale import NOT_REPRESENTABLE, Scale, to_steps
from market_pipeline.books.tables import BOOK_TRADES
from market_pipeline.config.instruments import Instrument
from market_pipeline.mapped import ColumnArray, mapped_zeros
from market_pipeline.metrics.book_batches import with_book_in_force, with_sound_times
from market_pipeline.quality.intervals import (
    BoolArray,
    FloatArray,
    IndexArray,
    IntArray,
    in_time_order,
    running_time_ns,
    time_order,
)
from market_pipeline.sources.batches import MARKET, UNMARKED, Trades

__all__ = ["BOOK_COLUMNS", "BooksBefore", "TradeRows", "books_before", "trade_rows"]

_TRADES_AT_ONCE = 1 << 17
_TOUCH = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots")
BOOK_COLUMNS = ("ts_receipt_ns", "flags", "verified", *_TOUCH)
"""The columns that are read of `books.bbo`."""


class BooksBefore(NamedTuple):
    """The book before each trade, shape (trades,) each, in the order of the trades.

    Attributes:
        age_ns: int64, since its message; 0 where there was no book yet, and else above 0.
        bid_price_ticks, bid_size_lots, ask_price_ticks, ask_size_lots: int64; size 0 is no level.
        flags: uint16.
        verified: bool.
    """

    age_ns: IntArray
    bid_price_ticks: IntArray
    bid_size_lots: IntArray
    ask_price_ticks: IntArray
    ask_size_lots: IntArray
    flags: NDArray[np.uint16]
    verified: BoolArray


_TYPES: tuple[DTypeLike, ...] = (*[np.int64] * 5, np.uint16, np.bool_)


def books_before(
    books: Iterable[pl.DataFrame],
    unknown: Mapping[BookFlag, IntArray],
    ts_receipt_ns: IntArray,
    folder: Path | None = None,
) -> BooksBefore:
    """Looks up the book before each trade.

    Args:
        books: Their `BOOK_COLUMNS`, one row per message in order, in batches cut anywhere; price
            and size are null where a side is empty.
        unknown: By the flag that says why, spans of receipt time in which the last book is not to
            be trusted whatever its row says; int64, shape (k, 2).
        ts_receipt_ns: Of the trades, in any order.
        folder: Where the file lies from which the result is mapped, see `mapped`.

    Raises:
        OSError: If the disk has no room for the result.
    """
    before = BooksBefore(*mapped_zeros(_TYPES, len(ts_receipt_ns), folder))
    order = time_order(ts_receipt_ns)
    ts_ns = ts_receipt_ns if order is None else ts_receipt_ns[order]
    done = 0
    rows: pl.DataFrame | None = None
    for rows, _ in with_book_in_force(with_sound_times(books)):
        # Those at the last time too: no message after it is earlier, and they come before it.
        last_ns = int(rows["ts_receipt_ns"].to_numpy().max())
        upto = int(np.searchsorted(ts_ns, last_ns, side="right"))
        _fill(before, rows, ts_ns, order, slice(done, upto))
        done = max(done, upto)
    if rows is not None:
        _fill(before, rows, ts_ns, order, slice(done, len(ts_ns)))
    _mark(before, unknown, ts_receipt_ns)
    return before


def _fill(
    before: BooksBefore, rows: pl.DataFrame, ts_ns: IntArray, order: IndexArray | None, which: slice
) -> None:
    """Writes the books of the next trades by time, some of them at a time."""
    clock_ns = running_time_ns(rows["ts_receipt_ns"].to_numpy())
    no_null = rows.select(
        pl.col(*_TOUCH, "flags").fill_null(0), pl.col("verified").fill_null(False)
    )
    columns = [column.to_numpy() for column in no_null]
    looked_up: tuple[ColumnArray, ...] = before[1:]
    for start in range(which.start, which.stop, _TRADES_AT_ONCE):
        stop = min(start + _TRADES_AT_ONCE, which.stop)
        book = np.searchsorted(clock_ns, ts_ns[start:stop], side="left") - 1
        has_book = book >= 0
        book, trade = book[has_book], in_time_order(order, start, stop)[has_book]
        before.age_ns[trade] = ts_ns[start:stop][has_book] - clock_ns[book]
        for into, column in zip(looked_up, columns, strict=True):
            into[trade] = column[book]


def _mark(
    before: BooksBefore, unknown: Mapping[BookFlag, IntArray], ts_receipt_ns: IntArray
) -> None:
    """Flags the trades within spans in which the book is not known.

    A span begins and ends with messages, and a trade at the same time comes before either.
    """
    for flag, spans in unknown.items():
        starts_ns, ends_ns = (np.sort(edges) for edges in spans.T)
        for start in range(0, len(ts_receipt_ns), _TRADES_AT_ONCE):
            part = slice(start, start + _TRADES_AT_ONCE)
            open_spans = np.searchsorted(starts_ns, ts_receipt_ns[part])
            open_spans -= np.searchsorted(ends_ns, ts_receipt_ns[part])
            within = (open_spans > 0) & (before.age_ns[part] > 0)
            before.flags[part][within] |= np.uint16(flag)
            before.verified[part][within] = False


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
    before: BooksBefore,
    *,
    instrument: Instrument,
    day: date,
    tick: Scale,
    lot: Scale,
) -> Iterator[TradeRows]:
    """The rows of a day, a bounded number at a time.

    Args:
        trades: With their ids.
        before: The book before each.
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
            *_book_columns(BooksBefore._make(c[part] for c in before), price, is_buy),
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


def _book_columns(before: BooksBefore, price: _Steps, is_buy: BoolArray) -> Iterator[pa.Array]:
    """The columns from `bid_price_ticks` on."""
    no_bid, no_ask = before.bid_size_lots == 0, before.ask_size_lots == 0
    yield _array(before.bid_price_ticks, no_bid)
    yield _array(before.bid_size_lots, no_bid)
    yield _array(before.ask_price_ticks, no_ask)
    yield _array(before.ask_size_lots, no_ask)
    no_book = before.age_ns == 0
    yield _array(before.flags, no_book)
    yield _array(before.verified, no_book)
    yield _array(before.age_ns, no_book)
    no_distance = no_bid | no_ask | price.off
    twice_mid = before.bid_price_ticks + before.ask_price_ticks
    distance = 2 * price.steps - twice_mid
    effective = np.where(is_buy, distance, -distance)
    yield _array(distance, no_distance)
    yield _array(effective, no_distance)
    # The 1 only keeps the division quiet.
    yield _array(20_000 * effective / np.where(no_distance, 1, twice_mid), no_distance)


def _array(values: NDArray[np.generic], absent: BoolArray) -> pa.Array:
    """Null where absent; without a mask where nothing is, which Arrow handles faster."""
    return pa.array(values, mask=absent if absent.any() else None)
