"""The book just before each trade of a day, and the mids some time after it.

Just before a trade means after the last message that was received before it. At the same receipt
time the trade comes first: a message that tells what a trade did to the book often has the time of
the trade. The receipt clock never runs backwards (`running_time_ns`), and a message without a time
of its own came with the one before it (`metrics.book_batches`).

A book is in force until the next message, but not across a span in which nobody knows it: within a
gap, or after a snapshot that disagreed with it, the trade's copy of the flags has that reason too,
which the row of the last message before has not.

The mid some time after a trade is that of the book just before that time, found in the same way.
There is none unless the book was valid from the trade until then: not if any invalid book was in
force in between for some time or for nobody knows how long (`NO_TIME`), nor if no message came at
that time or later, which alone would show that the feed went on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import DTypeLike, NDArray

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.tables import SECONDS_AFTER
from market_pipeline.mapped import ColumnArray, mapped_zeros
from market_pipeline.metrics.book_batches import NO_TIME, with_book_in_force, with_sound_times
from market_pipeline.quality.intervals import (
    NS_PER_SECOND,
    BoolArray,
    IndexArray,
    IntArray,
    in_time_order,
    running_time_ns,
    time_order,
)

__all__ = ["BOOK_COLUMNS", "BooksAround", "BooksBefore", "books_around"]

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


class BooksAround(NamedTuple):
    """The book before each trade, and the mids after it.

    Attributes:
        before: The book before.
        run: int32 (trades,), which run of valid time the book before is in, ascending with time; 0
            where it is invalid or not known, or there is none.
        mid2_after: For each of `SECONDS_AFTER`, int64 (trades,), in half ticks; 0 is no mid.
    """

    before: BooksBefore
    run: NDArray[np.int32]
    mid2_after: tuple[IntArray, ...]


_TYPES: tuple[DTypeLike, ...] = (*[np.int64] * 5, np.uint16, np.bool_)
_TYPES_AFTER: tuple[DTypeLike, ...] = (*[np.int64] * len(SECONDS_AFTER), np.int32)


def books_around(
    books: Iterable[pl.DataFrame],
    unknown: Mapping[BookFlag, IntArray],
    ts_receipt_ns: IntArray,
    folder: Path | None = None,
) -> BooksAround:
    """Looks up the book before each trade, and the mids after it.

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
    trades = len(ts_receipt_ns)
    before = BooksBefore(*mapped_zeros(_TYPES, trades, folder))
    *mid2_after, run = mapped_zeros(_TYPES_AFTER, trades, folder)
    order = time_order(ts_receipt_ns)
    ts_ns = ts_receipt_ns if order is None else ts_receipt_ns[order]
    done = dict.fromkeys((0, *SECONDS_AFTER), 0)
    rows: _Rows | None = None
    for frame, _ in with_book_in_force(with_sound_times(books)):
        rows = _Rows.of(frame, 1 if rows is None else rows.runs)
        for seconds, first in done.items():
            # Those at the last time too: no message after it is earlier, and they come before it.
            last_ns = rows.clock_ns[-1] - seconds * NS_PER_SECOND
            done[seconds] = max(first, int(np.searchsorted(ts_ns, last_ns, side="right")))
            new = slice(first, done[seconds])
            if not seconds:
                _fill_before(before, run, rows, _looked_up(rows, ts_ns, order, new))
            else:
                into = mid2_after[SECONDS_AFTER.index(seconds)]
                found = _looked_up(rows, ts_ns, order, new, seconds * NS_PER_SECOND)
                _fill_after(into, run, rows, found)
    if rows is not None:
        rest = _looked_up(rows, ts_ns, order, slice(done[0], trades))
        _fill_before(before, run, rows, rest)
    _mark(before, unknown, ts_receipt_ns)
    _break(run, mid2_after, unknown, ts_receipt_ns)
    return BooksAround(before, run, tuple(mid2_after))


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Some rows of the book.

    Attributes:
        clock_ns: int64 (rows,), never decreasing.
        columns: Those of `BooksBefore` but for the age, without nulls.
        mid2: int64 (rows,), in half ticks; 0 where a side is empty or the book invalid.
        run: int32 (rows,), which run of valid time the book is in, from 1; 0 where it is invalid.
        runs: The number of the run that the last row is in, or the next valid one.
    """

    clock_ns: IntArray
    columns: list[ColumnArray]
    mid2: IntArray
    run: NDArray[np.int32]
    runs: int

    @classmethod
    def of(cls, rows: pl.DataFrame, run: int) -> _Rows:
        """Rows of which the first is in a run, or before it."""
        clock_ns = running_time_ns(rows["ts_receipt_ns"].to_numpy())
        no_null = rows.select(
            pl.col(*_TOUCH, "flags").fill_null(0), pl.col("verified").fill_null(False)
        )
        columns = [column.to_numpy() for column in no_null]
        bid_ticks, bid_lots, ask_ticks, ask_lots, flags, _ = columns
        is_valid = (flags & np.uint16(INVALIDATING)) == 0
        runs = np.full(len(clock_ns), run, np.int32)
        # An invalid book ends a run if it is in force for some time, or nobody knows how long: what
        # lies behind a clock that was set back is later than the clock says.
        ends_run = ~is_valid[:-1] & ((np.diff(clock_ns) > 0) | (flags[:-1] & NO_TIME != 0))
        runs[1:] += np.cumsum(ends_run, dtype=np.int32)
        has_mid = is_valid & (bid_lots > 0) & (ask_lots > 0)
        return cls(
            clock_ns,
            columns,
            np.where(has_mid, bid_ticks + ask_ticks, 0),
            np.where(is_valid, runs, 0).astype(np.int32, copy=False),
            int(runs[-1]),
        )


_Found = tuple[IntArray | slice, IntArray, IntArray]
"""Trades, the row of the book of each, and how old it was."""


def _looked_up(
    rows: _Rows, ts_ns: IntArray, order: IndexArray | None, which: slice, later_ns: int = 0
) -> Iterator[_Found]:
    """The books before the next trades by time, or before some time after them."""
    for start in range(which.start, which.stop, _TRADES_AT_ONCE):
        stop = min(start + _TRADES_AT_ONCE, which.stop)
        at_ns = ts_ns[start:stop] + later_ns
        book = np.searchsorted(rows.clock_ns, at_ns, side="left") - 1
        if order is None and book[0] >= 0:
            yield slice(start, stop), book, at_ns - rows.clock_ns[book]
        else:
            has_book = book >= 0
            book, trade = book[has_book], in_time_order(order, start, stop)[has_book]
            yield trade, book, at_ns[has_book] - rows.clock_ns[book]


def _fill_before(
    before: BooksBefore, run: NDArray[np.int32], rows: _Rows, found: Iterable[_Found]
) -> None:
    looked_up: tuple[ColumnArray, ...] = before[1:]
    for trade, book, age_ns in found:
        before.age_ns[trade] = age_ns
        run[trade] = rows.run[book]
        for into, column in zip(looked_up, rows.columns, strict=True):
            into[trade] = column[book]


def _fill_after(
    mid2: IntArray, run: NDArray[np.int32], rows: _Rows, found: Iterable[_Found]
) -> None:
    """Writes the mids that are in the run of valid time which the book before the trade is in."""
    for trade, book, _ in found:
        mid2[trade] = np.where(rows.run[book] == run[trade], rows.mid2[book], 0)


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


def _break(
    run: NDArray[np.int32],
    mid2_after: Sequence[IntArray],
    unknown: Mapping[BookFlag, IntArray],
    ts_receipt_ns: IntArray,
) -> None:
    """Ends runs, and takes back mids, where the book is not known for some time since the trade."""
    if not unknown:
        return
    spans = np.concatenate([each[each[:, 0] < each[:, 1]] for each in unknown.values()])
    starts_ns, ends_ns = (np.sort(edges) for edges in spans.T)
    for start in range(0, len(ts_receipt_ns), _TRADES_AT_ONCE):
        part = slice(start, start + _TRADES_AT_ONCE)
        over = np.searchsorted(ends_ns, ts_receipt_ns[part])
        is_known = (run[part] > 0) & (np.searchsorted(starts_ns, ts_receipt_ns[part]) == over)
        run[part] = np.where(is_known, run[part] + over, 0)
        for seconds, mid2 in zip(SECONDS_AFTER, mid2_after, strict=True):
            until_ns = ts_receipt_ns[part] + seconds * NS_PER_SECOND
            mid2[part][np.searchsorted(starts_ns, until_ns) > over] = 0
