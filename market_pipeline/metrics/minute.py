"""Book and trade figures per UTC minute, on the receipt clock, over valid time only.

The book after a message is in force until the next message, so a message from before a minute
carries over into it, and the last message of the day holds for no time at all. State variables
(spread, mid, depth, imbalance) are averaged over the time they were in force:
`sum(x dt) / sum(dt)`, never over messages. Time does not count while the book is invalid
(`books.flags.INVALIDATING`) or in a gap; nothing continues across either. A figure that needs a
side of the book does not count time in which that side is empty, and is null if that leaves no
time; it is never 0 for want of a book.

Formulas: quoted spread and imbalance as usual; weighted mid in the form of Gatheral and Oomen
(2009), `(bid ask_size + ask bid_size) / (bid_size + ask_size)`, which is no fitted micro-price.
Imbalances lie in [-1, 1] and are positive where bids outweigh asks.

Rows come in batches, in any cut: what crosses from one to the next is the last book and the time
(`metrics.book_batches`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal

import numpy as np
import polars as pl

from market_pipeline.books.flags import BookFlag
from market_pipeline.config.instruments import Instrument
from market_pipeline.metrics.book_batches import with_book_in_force, with_sound_times
from market_pipeline.metrics.tables import BOOK_METRICS
from market_pipeline.metrics.time_weighted import Grid, Sums, Values
from market_pipeline.quality.intervals import BoolArray, FloatArray, IntArray
from market_pipeline.quality.measures.bars import trade_bars
from market_pipeline.sources.batches import Trades

__all__ = ["BBO_COLUMNS", "DEPTH_COLUMNS", "DEPTH_LEVELS", "minute_metrics"]

DEPTH_LEVELS = 20

_TOUCH = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots")
_BID_SIZES = tuple(f"bid_{level}_size" for level in range(DEPTH_LEVELS))
_ASK_SIZES = tuple(f"ask_{level}_size" for level in range(DEPTH_LEVELS))
BBO_COLUMNS = ("ts_receipt_ns", "flags", *_TOUCH)
_CONFIRMED = ("bid_levels_confirmed", "ask_levels_confirmed")
DEPTH_COLUMNS = ("ts_receipt_ns", "flags", *_BID_SIZES, *_ASK_SIZES, *_CONFIRMED)
"""The columns that are read of either table."""

_COLUMNS = tuple(column.name for column in BOOK_METRICS.columns)


def minute_metrics(
    bbo: Iterable[pl.DataFrame],
    depth: Iterable[pl.DataFrame] | None,
    trades: Trades | None,
    *,
    instrument: Instrument,
    day: date,
    tick: Decimal,
    lot: Decimal,
    not_observed: IntArray,
) -> pl.DataFrame:
    """The minutes of one instrument's day, in the columns of `metrics.book_metrics`.

    Batches are consecutive rows, cut anywhere; the figures do not depend on where.

    Args:
        bbo: One row per message in order, `BBO_COLUMNS`: ts_receipt_ns, bid_price_ticks,
            bid_size_lots, ask_price_ticks, ask_size_lots (int64, null where the side is empty),
            flags (uint16).
        depth: Rows in order, each in force until the next, `DEPTH_COLUMNS`: ts_receipt_ns,
            bid_0_size … bid_19_size, ask_0_size … ask_19_size (float64, null where there is no such
            level), flags (uint16). None if no depth was built.
        trades: In any order; None if there was no trades file.
        instrument, day: What the rows are of.
        tick, lot: The steps of that day.
        not_observed: Gaps and quiet holes, see `GapReport.not_observed`; shape (k, 2).

    Returns:
        One row per minute, in time order; a minute without a message, a trade or valid time has
        none. Rows received more than an hour outside the day are left out, and so are those that
        the rebuild found to be of another day.
    """
    minutes = Grid.minutes_around(day)
    touch = Sums(minutes, not_observed)
    message_count = np.zeros(minutes.number, dtype=np.int64)
    for rows, new in with_book_in_force(with_sound_times(bbo)):
        touch.add(rows, _touch_values(rows))
        received = new.filter((pl.col("flags") & int(BookFlag.OUTSIDE_DAY)) == 0)
        message_count += minutes.count(received["ts_receipt_ns"].to_numpy())
    figures = {
        "valid_seconds": pl.Series(touch.valid_seconds),
        "message_count": pl.Series(message_count),
        **_touch_figures(touch, tick=float(tick), lot=float(lot)),
        **_depth_figures(depth, minutes, not_observed),
        **_trade_figures(None if trades is None else trade_bars(trades, day), minutes),
    }
    starts_us = minutes.starts_ns[:-1] // 1_000
    rows = pl.DataFrame(figures).with_columns(
        pl.lit(instrument.venue).alias("exchange"),
        pl.lit(instrument.symbol).alias("symbol"),
        pl.lit(day).alias("dt"),
        pl.Series("minute_start", starts_us).cast(pl.Datetime("us")),
    )
    present = (pl.col("message_count") > 0) | (pl.col("valid_seconds") > 0)
    return rows.filter(present | (pl.col("trade_count").fill_null(0) > 0)).select(_COLUMNS)


def _touch_values(rows: pl.DataFrame) -> Values:
    has_bid = rows["bid_price_ticks"].is_not_null().to_numpy()
    has_ask = rows["ask_price_ticks"].is_not_null().to_numpy()
    bid_ticks, bid_lots, ask_ticks, ask_lots = (
        rows[name].fill_null(0).to_numpy() for name in _TOUCH
    )
    both = has_bid & has_ask
    # A book with an empty side has no mid; the 1 only keeps the division quiet.
    twice_mid = np.where(both, bid_ticks + ask_ticks, 1).astype(np.float64)
    spread = (ask_ticks - bid_ticks).astype(np.float64)
    imbalance = _imbalance(bid_lots, ask_lots, both)
    # The weighted mid is the mid plus half the spread times the imbalance: no product of a price
    # and a size is ever formed, which would not fit the 53 bits of a float.
    weighted_mid = twice_mid / 2 + spread / 2 * imbalance
    return {
        "spread": (spread, both),
        "spread_bps": (spread / twice_mid * 20_000, both),
        "mid": (twice_mid / 2, both),
        "weighted_mid": (weighted_mid, both),
        "bid_touch_size": (bid_lots.astype(np.float64), has_bid),
        "ask_touch_size": (ask_lots.astype(np.float64), has_ask),
        "touch_imbalance": (imbalance, both),
    }


def _touch_figures(touch: Sums, *, tick: float, lot: float) -> dict[str, pl.Series]:
    spread_ticks = touch.average("spread")
    return {
        "spread": spread_ticks * tick,
        "spread_ticks": spread_ticks,
        "spread_bps": touch.average("spread_bps"),
        "mid": touch.average("mid") * tick,
        "weighted_mid": touch.average("weighted_mid") * tick,
        "bid_touch_size": touch.average("bid_touch_size") * lot,
        "ask_touch_size": touch.average("ask_touch_size") * lot,
        "touch_imbalance": touch.average("touch_imbalance"),
    }


def _depth_values(rows: pl.DataFrame) -> Values:
    bid, ask = _total(rows, _BID_SIZES), _total(rows, _ASK_SIZES)
    has_bid = _is_confirmed(rows, _BID_SIZES, rows["bid_levels_confirmed"])
    has_ask = _is_confirmed(rows, _ASK_SIZES, rows["ask_levels_confirmed"])
    both = has_bid & has_ask
    return {
        "bid_depth_20": (bid, has_bid),
        "ask_depth_20": (ask, has_ask),
        "depth_imbalance_20": (_imbalance(bid, ask, both), both),
    }


def _is_confirmed(rows: pl.DataFrame, sizes: Sequence[str], confirmed: pl.Series) -> BoolArray:
    """Where a side has levels, and no other may stand among them that no message reported.

    A day that was published before levels were counted is taken as it is.
    """
    levels = np.zeros(rows.height, np.int64)
    for name in sizes:
        levels += rows[name].is_not_null().to_numpy()
    known = confirmed.fill_null(DEPTH_LEVELS).to_numpy()
    is_confirmed: BoolArray = (levels > 0) & (known >= levels)
    return is_confirmed


def _total(rows: pl.DataFrame, sizes: Sequence[str]) -> FloatArray:
    # One level after the other, the best first: Polars' horizontal sum shares the columns out to
    # its threads, and is then rounded differently from run to run.
    total = np.zeros(rows.height)
    for name in sizes:
        total += rows[name].fill_null(0.0).to_numpy()
    return total


def _depth_figures(
    depth: Iterable[pl.DataFrame] | None, minutes: Grid, not_observed: IntArray
) -> dict[str, pl.Series]:
    names = ("bid_depth_20", "ask_depth_20", "depth_imbalance_20")
    if depth is None:
        return {name: _nulls(pl.Float64, minutes) for name in (*names, "depth_valid_seconds")}
    sums = Sums(minutes, not_observed)
    for rows, _ in with_book_in_force(with_sound_times(depth)):
        sums.add(rows, _depth_values(rows))
    return {
        **{name: sums.average(name) for name in names},
        "depth_valid_seconds": pl.Series(sums.valid_seconds),
    }


def _trade_figures(bars: pl.DataFrame | None, minutes: Grid) -> dict[str, pl.Series]:
    prices = {f"trade_{name}": name for name in ("open", "high", "low", "close")}
    volumes = ("buy_volume", "sell_volume")
    if bars is None:
        nulls = {name: _nulls(pl.Float64, minutes) for name in (*volumes, *prices)}
        return {"trade_count": _nulls(pl.Int64, minutes), **nulls}
    minute_starts = pl.DataFrame({"minute_start_ns": minutes.starts_ns[:-1]})
    rows = minute_starts.join(bars, on="minute_start_ns", how="left", maintain_order="left")
    return {
        **{name: rows[name].fill_null(0) for name in ("trade_count", *volumes)},
        **{name: rows[column] for name, column in prices.items()},
    }


def _imbalance(
    bid: IntArray | FloatArray, ask: IntArray | FloatArray, both: BoolArray
) -> FloatArray:
    """(bid - ask) / (bid + ask), 0 where a side is empty (and the figure then not used)."""
    total = (bid + ask).astype(np.float64)
    return np.divide(bid - ask, total, out=np.zeros(len(total)), where=both & (total > 0))


def _nulls(dtype: type[pl.Float64 | pl.Int64], minutes: Grid) -> pl.Series:
    return pl.repeat(None, minutes.number, dtype=dtype, eager=True)
