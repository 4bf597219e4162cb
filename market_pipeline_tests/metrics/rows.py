"""Rows of a day as metrics are made of them, written down by second."""

from __future__ import annotations

import itertools
from datetime import date
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import polars as pl

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.scale import Scale
from market_pipeline.books.tables import BOOK_TRADES
from market_pipeline.config.instruments import Instrument
from market_pipeline.metrics.day_rows import InstrumentRows
from market_pipeline.metrics.intervals import day_metrics
from market_pipeline.metrics.tables import BOOK_METRICS, DAILY_METRICS
from market_pipeline.quality.intervals import NO_SPANS, NS_PER_SECOND, day_bounds_ns

DAY = date(2024, 8, 8)
START_NS, END_NS = day_bounds_ns(DAY)
TICK, LOT = Decimal("0.1"), Decimal("0.001")
INSTRUMENT = Instrument(venue="BINANCE", symbol="BTC-USDT", source="crypto_lake")
TOUCH = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots")
NO_TIME = BookFlag.BAD_TS_RECEIPT | BookFlag.OUTSIDE_DAY
A_BOOK = (1_000, 30, 1_004, 10)
NO_BID = (None, None, 1_004, 10)


def at(second):
    """An instant of the day."""
    return START_NS + round(second * NS_PER_SECOND)


def a_bbo(*messages):
    """The frame of messages given as (second, (bid, size, ask, size), flags)."""
    rows = [(at(second), *book, int(flags)) for second, book, flags in messages]
    schema = {"ts_receipt_ns": pl.Int64, **dict.fromkeys(TOUCH, pl.Int64), "flags": pl.UInt16}
    return with_numbers(pl.DataFrame(rows, schema=schema, orient="row"))


def with_numbers(rows):
    """The rows with their times as sequence numbers, the same in either table."""
    return rows.with_columns(sequence_number="ts_receipt_ns")


def a_depth(*rows):
    """The frame of rows given as (second, bids, asks, flags) and, if not all, the levels confirmed
    of each; levels are (ticks, lots).
    """
    schema = {"ts_receipt_ns": pl.Int64, "flags": pl.UInt16}
    for side in ("bid", "ask"):
        for part in ("price_ticks", "size_lots"):
            schema |= {f"{side}_{level}_{part}": pl.Int64 for level in range(20)}
    schema |= dict.fromkeys(("bid_levels_confirmed", "ask_levels_confirmed"), pl.Int8)
    made = []
    for second, bids, asks, flags, *confirmed in rows:
        parts = [[level[part] for level in side] for side in (bids, asks) for part in (0, 1)]
        padded = [each for part in parts for each in (*part, *[None] * (20 - len(part)))]
        made.append((at(second), int(flags), *padded, *(confirmed or (20, 20))))
    return with_numbers(pl.DataFrame(made, schema=schema, orient="row"))


def a_trades(*trades):
    """The frame of trades given as (second, size, taker bought) and, if not its own, the order."""
    made = [
        (at(second), number, order[0] if order else number, size, buy)
        for number, (second, size, buy, *order) in enumerate(trades)
    ]
    schema = {
        "ts_receipt_ns": pl.Int64,
        **dict.fromkeys(("id", "taker_order"), pl.Int64),
        "size": pl.Float64,
        "is_buy": pl.Boolean,
    }
    rows = pl.DataFrame(made, schema=schema, orient="row")
    return with_no_book(rows)


def with_no_book(trades):
    """Trades at one price with the further columns of `books.trades`, null as before any book."""
    rest = {n: kind for n, kind in BOOK_TRADES.empty().schema.items() if n not in trades.columns}
    nulls = trades.with_columns(pl.lit(None, kind).alias(name) for name, kind in rest.items())
    return nulls.with_columns(price=100.0)


def batches_of(frame, cuts):
    """The frame cut at the given rows; some batches are empty."""
    edges = [0, *sorted(min(cut, frame.height) for cut in cuts), frame.height]
    return [frame.slice(begin, end - begin) for begin, end in itertools.pairwise(edges)]


def reader(frame, cuts=()):
    """What reads a frame, in batches."""
    return lambda columns: iter([each.select(columns) for each in batches_of(frame, cuts)])


def a_day(
    bbo=None, depth=None, trades=None, gap=None, *, cuts=((), (), ()), tick=TICK, lot=LOT
) -> InstrumentRows:
    """A day of these rows; `gap` is from one second to another."""
    return InstrumentRows(
        bbo=reader(a_bbo() if bbo is None else bbo, cuts[0]),
        depth=reader(a_depth() if depth is None else depth, cuts[1]),
        trades=None if trades is None else reader(trades, cuts[2]),
        tick=Scale.of(tick),
        lot=Scale.of(lot),
        not_observed=NO_SPANS
        if gap is None or gap[0] >= gap[1]
        else np.array([[at(gap[0]), at(gap[1])]]),
    )


def grids(*widths, seconds=600):
    """The edges of intervals of these widths from midnight on."""
    return [
        np.arange(START_NS, at(seconds) + 1, width * NS_PER_SECOND, np.int64) for width in widths
    ]


def frames_of(filled):
    """All rows of a group, a frame for each grid; what changes nowhere is to be the row before."""
    sizes = [len(each) for each in filled.changes]
    whole = pl.DataFrame(dict(filled.columns([np.arange(size) for size in sizes])))
    frames = [whole[sum(sizes[:grid]) :][:size] for grid, size in enumerate(sizes)]
    for frame, changed in zip(frames, filled.changes, strict=True):
        assert changed[0]
        repeats = np.flatnonzero(~changed)
        assert frame[repeats].equals(frame[repeats - 1])
    return frames


class Made(NamedTuple):
    """The rows of `metrics.book_metrics`, a frame for each width, and that of `metrics.daily`."""

    intervals: list[pl.DataFrame]
    daily: pl.DataFrame


def made(day, *widths, of=DAY):
    """The metrics of a day."""
    runs = []
    daily = day_metrics(
        day, instrument=INSTRUMENT, day=of, metrics_seconds=widths, write=runs.append
    )
    types = BOOK_METRICS.empty().schema
    rows = pl.concat(each.expanded().select(*types).cast(types) for each in runs)
    intervals = rows.partition_by("interval_seconds", maintain_order=True)
    return Made(intervals, DAILY_METRICS.frame([daily]))


def minutes_of(*rows, **more):
    """The minutes of a day of these rows in which anything is."""
    (frame,) = made(a_day(*rows, **more), 60).intervals
    return frame.filter(
        (pl.col("message_count") > 0)
        | (pl.col("valid_seconds") > 0)
        | (pl.col("depth_valid_seconds") > 0)
        | (pl.col("trade_count").fill_null(0) > 0)
    ).to_dicts()
