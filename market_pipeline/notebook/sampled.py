"""`asof_quotes`: the quote in force at times of one's own. `depth_matrix`: depth over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.books.tables import BBO, INTERVALS
from market_pipeline.errors import DomainError
from market_pipeline.metrics.book_batches import with_book_in_force, with_sound_times
from market_pipeline.notebook.loaders import load_depth
from market_pipeline.notebook.published import (
    Missing,
    PublishedDays,
    Times,
    no_step,
    published_days,
    whole_step,
    with_times,
)
from market_pipeline.notebook.times import nanoseconds_of, refuse_one_time
from market_pipeline.quality.intervals import NS_PER_SECOND, IntArray, running_time_ns, utc_time
from market_pipeline.stages.metrics.trades import unknown_spans
from market_pipeline.stages.published_rows import in_batches
from market_pipeline.warehouse.read import scan

__all__ = ["asof_quotes", "depth_matrix"]

_ROWS_AT_ONCE = 1 << 17
_TOUCH = [f"{side}_{part}" for side in ("bid", "ask") for part in ("price", "size")]
_QUOTE = [f"{name}_{'ticks' if name.endswith('price') else 'lots'}" for name in _TOUCH] + _TOUCH
_EVENT = ["ts_origin_ns", "ts_receipt_ns", "sequence_number"]
_SCHEMA = pl.Schema(
    {"exchange": pl.String, "symbol": pl.String, "ts_asof_ns": pl.Int64}
    | dict.fromkeys(_EVENT, pl.Int64)
    | {name: pl.Float64 if name in _TOUCH else pl.Int64 for name in _QUOTE}
    | {"flags": pl.UInt16, "verified": pl.Boolean, "age_ns": pl.Int64}
)


def asof_quotes(
    instruments: str | Sequence[str],
    at: Sequence[datetime | str | int] | pl.Series | IntArray,
    *,
    valid_only: bool = True,
    max_age_seconds: float = 60.0,
    times: Times = "ns",
    data_dir: Path | str | None = None,
    missing: Missing = "error",
) -> pl.LazyFrame:
    """The best bid and ask in force at given times: after the last message at or before each.

    One pass over the days' rows, a bounded number of them in memory. Before the first message of
    the earliest day the book is that of the day before, where it is published.

    Args:
        instruments: An id, such as BINANCE_FUTURES:BTC-USDT-PERP, or several.
        at: Times of the receipt clock, in any order, the same for each instrument: datetimes with a
            zone, text as 2024-08-08T12:00:00.5Z, or int ns since the epoch, UTC; a Polars series of
            datetimes with a zone or of integers; an int64 array.
        valid_only: Null prices and sizes where the book was not valid: by the flags of its message,
            within a gap that began after it, or because it was too old. That is the default.
        max_age_seconds: A book whose last message is older is flagged STALE, which is not valid.
        times, data_dir, missing: As for `load_bbo`; `missing` is about the days of these times.

    Returns:
        A row for each instrument and time, in the order given: `exchange`, `symbol` (text),
        `ts_asof_ns` (int64, the time asked for), `ts_origin_ns`, `ts_receipt_ns`,
        `sequence_number` (int64, of the message), best bid and ask as `load_bbo` has them, `flags`
        (uint16), `verified` (bool), `age_ns` (int64, since the message). All but the first three
        are null where there was no message yet.

    Raises:
        DomainError: A time cannot be read, or has no zone, or there is none.
        MissingDataError, SettingsError: As `load_bbo`.
    """
    at_ns = _nanoseconds(at)
    first, last = (utc_time(int(edge)).date() for edge in (at_ns.min(), at_ns.max()))
    found = published_days(BBO, instruments, first, last, data_dir, missing)
    parts = [
        pl.defer(partial(_quotes, found, each, at_ns, valid_only, max_age_seconds), schema=_SCHEMA)
        for each in found.instruments
    ]
    return with_times(pl.concat(parts), times)


def depth_matrix(
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None = None,
    *,
    every_seconds: float = 60.0,
    step_ticks: int = 1,
    confirmed_only: bool = False,
    valid_only: bool = True,
    times: Times = "ns",
    data_dir: Path | str | None = None,
    missing: Missing = "error",
) -> pl.LazyFrame:
    """The depth by time and price, as a heat map draws it: the top 20 levels of `books.depth`.

    Of each interval it is the last published depth that was received in it; an interval without one
    has no rows, as one in a gap.

    Args:
        instruments, start, end, valid_only, times, data_dir, missing: As for `load_bbo`.
        every_seconds: Length of the intervals, which begin at the epoch's multiples of it.
        step_ticks: Prices are taken together by so many ticks.
        confirmed_only: Leave out levels that no snapshot confirmed.

    Returns:
        A row for each cell with any size, by instrument, day, time and price: `exchange`, `symbol`
        (text), `dt` (date), `ts_interval_ns` (int64, the interval's start), `is_bid` (bool),
        `price_ticks` (int64, the lowest price of the cell), `price`, `size` (float64, the sum).

    Raises:
        DomainError: `every_seconds` is not above 0, or `step_ticks` not a whole number above 0.
        MissingDataError, SettingsError: As `load_bbo`.
    """
    every_ns = whole_step("every_seconds", every_seconds * NS_PER_SECOND, every_seconds)
    step = whole_step("step_ticks", step_ticks, step_ticks)
    if step != step_ticks:  # of part of a tick, prices would be wrong
        raise no_step("step_ticks", step_ticks)
    rows = load_depth(
        instruments,
        start,
        end,
        valid_only=valid_only,
        confirmed_only=confirmed_only,
        data_dir=data_dir,
        missing=missing,
    )
    return with_times(_cells(rows, every_ns, step), times)


def _cells(rows: pl.LazyFrame, every_ns: int, step_ticks: int) -> pl.LazyFrame:
    """The rows of `depth_matrix`."""
    interval = ["exchange", "symbol", "dt", "ts_interval_ns"]
    last = (
        rows.with_columns(ts_interval_ns=pl.col("ts_receipt_ns") // every_ns * every_ns)
        .group_by(interval, maintain_order=True)
        .last()
    )
    scale = ["price_multiplier", "price_divisor"]
    sides = (
        last.select(*interval, *scale, is_bid=is_bid, **_levels(name))
        for name, is_bid in (("bid", pl.lit(True)), ("ask", pl.lit(False)))
    )
    price = pl.col("price_ticks") * pl.col("price_multiplier") / pl.col("price_divisor")
    return (
        pl.concat(sides)
        .explode("price_ticks", "size")
        .drop_nulls("price_ticks")
        .with_columns(price_ticks=pl.col("price_ticks") // step_ticks * step_ticks)
        .group_by(*interval, "is_bid", "price_ticks", *scale)
        .agg(pl.col("size").sum())
        .sort(*interval, "price_ticks", "is_bid")
        .select(*interval, "is_bid", "price_ticks", price.alias("price"), "size")
    )


def _levels(side: str) -> dict[str, pl.Expr]:
    """A side's levels as lists."""
    return {
        into: pl.concat_list(f"{side}_{level}_{part}" for level in range(DEPTH_LEVELS))
        for into, part in (("price_ticks", "price_ticks"), ("size", "size"))
    }


def _quotes(
    found: PublishedDays,
    instrument: str,
    at_ns: IntArray,
    valid_only: bool,
    max_age_seconds: float,
) -> pl.DataFrame:
    """The rows of `asof_quotes` of one instrument."""
    order = np.argsort(at_ns, kind="stable")
    in_order_ns = at_ns[order]
    days = (found.days[0] - timedelta(days=1), *found.days)
    quotes = pl.DataFrame(
        {"ts_asof_ns": in_order_ns, "row": np.arange(at_ns.size), "place": order}
    ).join(
        pl.concat([_QUOTES_OF_NOBODY, *_looked_up(_batches(found, instrument, days), in_order_ns)]),
        on="row",
        how="left",
        maintain_order="left",
    )
    venue, _, symbol = instrument.partition(":")
    quotes = quotes.with_columns(
        pl.lit(venue).alias("exchange"),
        pl.lit(symbol).alias("symbol"),
        age_ns=pl.col("ts_asof_ns") - pl.col("clock_ns"),
    )
    is_old = pl.col("age_ns") > max_age_seconds * NS_PER_SECOND
    stale = pl.when(is_old).then(pl.lit(int(BookFlag.STALE), pl.UInt16)).otherwise(0)
    quotes = quotes.with_columns(pl.col("flags") | stale)
    quotes = _marked(quotes, found, instrument, days)
    if valid_only:
        is_valid = pl.col("flags") & int(INVALIDATING) == 0
        quotes = quotes.with_columns(pl.when(is_valid).then(pl.col(*_QUOTE)))
    return quotes.sort("place").select(_SCHEMA.names()).cast(_SCHEMA)


_QUOTES_OF_NOBODY = pl.DataFrame(
    schema={"row": pl.Int64}
    | {name: _SCHEMA[name] for name in (*_EVENT, *_QUOTE, "flags", "verified")}
    | {"clock_ns": pl.Int64}
)


def _batches(found: PublishedDays, instrument: str, days: Sequence[date]) -> Iterator[pl.DataFrame]:
    """The published rows of the days in order at sound times, a bounded number at a time.

    A row without a time of its own is not taken to have come with one of the day before: a book of
    a day would be known before it.
    """
    for day in days:
        # What gives each row its place in time may move its stamp.
        stamp = pl.col("ts_receipt_ns").alias("stamp_ns")
        rows = found.rows(instrument, day).select(*_EVENT, *_QUOTE, "flags", "verified", stamp)
        yield from with_sound_times(in_batches(rows, _ROWS_AT_ONCE))


def _looked_up(batches: Iterator[pl.DataFrame], at_ns: IntArray) -> Iterator[pl.DataFrame]:
    """For times in order, the row in force at each: `row` is the place of the time."""
    done = 0
    rows: pl.DataFrame | None = None
    for rows, _ in with_book_in_force(batches):
        clock_ns = running_time_ns(rows["ts_receipt_ns"].to_numpy())
        # A row at the same time may follow in the next batch.
        upto = int(np.searchsorted(at_ns, clock_ns[-1], side="left"))
        yield _rows_at(rows, clock_ns, at_ns, done, upto)
        done = max(done, upto)
    if rows is not None:
        clock_ns = running_time_ns(rows["ts_receipt_ns"].to_numpy())
        yield _rows_at(rows, clock_ns, at_ns, done, at_ns.size)


def _rows_at(
    rows: pl.DataFrame, clock_ns: IntArray, at_ns: IntArray, start: int, stop: int
) -> pl.DataFrame:
    message = np.searchsorted(clock_ns, at_ns[start:stop], side="right") - 1
    has_book = message >= 0
    message = message[has_book]
    return (
        rows[message]
        .select(
            pl.Series("row", np.arange(start, max(start, stop))[has_book]),
            *_QUOTES_OF_NOBODY.columns[1:-1],
            pl.Series("clock_ns", clock_ns[message]),
            "stamp_ns",
        )
        .with_columns(ts_receipt_ns="stamp_ns")
        .drop("stamp_ns")
    )


def _marked(
    quotes: pl.DataFrame, found: PublishedDays, instrument: str, days: Sequence[date]
) -> pl.DataFrame:
    """Flags the times within spans of which the row of the last message does not know yet."""
    at_ns = quotes["ts_asof_ns"].to_numpy()
    flags = np.zeros(at_ns.size, np.uint16)
    intervals = pl.concat(scan(found.warehouse, INTERVALS, day, {instrument}) for day in days)
    for flag, spans in unknown_spans(intervals).items():
        starts_ns, ends_ns = (np.sort(edges) for edges in spans.T)
        begun = np.searchsorted(starts_ns, at_ns, side="right")
        flags[begun > np.searchsorted(ends_ns, at_ns, side="right")] |= np.uint16(flag)
    is_marked = pl.Series(flags != 0)
    return quotes.with_columns(
        pl.col("flags") | pl.Series(flags),
        pl.when(~is_marked).then("verified").otherwise(pl.col("verified") & False),
    )


def _nanoseconds(at: Sequence[datetime | str | int] | pl.Series | IntArray) -> IntArray:
    """Times as ns since the epoch, UTC; shape (n,), int64, n above 0."""
    refuse_one_time("at", at)
    if isinstance(at, pl.Series) and at.null_count():
        raise _unusable("A time is null", "a time in each row")
    if isinstance(at, pl.Series) and isinstance(at.dtype, pl.Datetime) and at.dtype.time_zone:
        at = at.dt.epoch("ns")
    if isinstance(at, pl.Series) and at.dtype.is_integer():
        at = at.to_numpy()
    if isinstance(at, np.ndarray) and at.dtype.kind in "iu":
        values = at.astype(np.int64)
        if at.ndim != 1 or (at > np.iinfo(np.int64).max).any():
            raise _unusable("The times are no list", "one dimension, below 2^63 ns")
    else:
        try:
            values = np.array([nanoseconds_of(each) for each in at], np.int64)
        except OverflowError:
            raise _unusable("A time is of no day", "a time of the years 1678 to 2261") from None
    if values.size == 0:
        raise _unusable("No time is asked for", "at least one time")
    return values


def _unusable(problem: str, expected: str) -> DomainError:
    return DomainError(
        problem,
        next_step="Give datetimes with a zone, text with one, or int ns since the epoch, UTC.",
        column="at",
        expected=expected,
    )
