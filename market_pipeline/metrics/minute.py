"""Book and trade figures per UTC minute, on the receipt clock, over valid time only.

The book after a message is in force until the next message, so a message from before a minute
carries over into it, and the last message of the day holds for no time at all. State variables
(spread, mid, depth, imbalance) are averaged over the time they were in force:
`sum(x dt) / sum(dt)`, never over messages. Time does not count while the book is invalid
(`books.flags.INVALIDATING`) or in a gap; nothing is carried across either. A figure that needs a
side of the book does not count time in which that side is empty, and is null if that leaves no
time; it is never 0 for want of a book.

Formulas: quoted spread and imbalance as usual; weighted mid in the form of Gatheral and Oomen
(2009), `(bid ask_size + ask bid_size) / (bid_size + ask_size)`, which is no fitted micro-price.
Imbalances lie in [-1, 1] and are positive where bids outweigh asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import numpy as np
import polars as pl

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.instruments import Instrument
from market_pipeline.lake.tables import Column, Table
from market_pipeline.quality.crossed import FlagArray, flag_mask
from market_pipeline.quality.intervals import (
    NS_PER_HOUR,
    NS_PER_SECOND,
    BoolArray,
    FloatArray,
    IntArray,
    day_bounds_ns,
    overlap_ns,
    running_time_ns,
)

__all__ = ["BOOK_METRICS", "DEPTH_LEVELS", "minute_metrics"]

DEPTH_LEVELS = 20

_NS_PER_MINUTE = 60 * NS_PER_SECOND

BOOK_METRICS = Table(
    schema="metrics",
    name="book_metrics",
    description=(
        "One row per instrument and UTC minute in which a message or a trade was received or the "
        "book was valid for some time. State variables are time-weighted over valid time, on the "
        "receipt clock; null means that there was no such time, or that the side was empty."
    ),
    columns=(
        Column("exchange", "VARCHAR", "Venue, upper case."),
        Column("symbol", "VARCHAR", "Symbol at the venue, upper case."),
        Column("dt", "DATE", "UTC day of receipt."),
        Column("minute_start", "TIMESTAMP", "Start of the minute, UTC."),
        Column("valid_seconds", "DOUBLE", "Time of the minute in which the book was valid."),
        Column("message_count", "BIGINT", "Book messages received, valid or not."),
        Column("trade_count", "BIGINT", "Trades received; null without a trades file."),
        Column("buy_volume", "DOUBLE", "Quantity bought by takers; null without a trades file."),
        Column("sell_volume", "DOUBLE", "Quantity sold by takers; null without a trades file."),
        Column("spread", "DOUBLE", "Best ask minus best bid, in quote currency."),
        Column("spread_ticks", "DOUBLE", "Best ask minus best bid, in ticks."),
        Column("spread_bps", "DOUBLE", "Best ask minus best bid over the mid, in basis points."),
        Column("mid", "DOUBLE", "Half of best bid plus best ask."),
        Column("weighted_mid", "DOUBLE", "Mid weighted by the opposite side's touch size."),
        Column("bid_touch_size", "DOUBLE", "Size at the best bid."),
        Column("ask_touch_size", "DOUBLE", "Size at the best ask."),
        Column("touch_imbalance", "DOUBLE", "(bid - ask) / (bid + ask) of the touch sizes."),
        Column("bid_depth_20", "DOUBLE", "Size of the best 20 bid levels; null without depth."),
        Column("ask_depth_20", "DOUBLE", "Size of the best 20 ask levels; null without depth."),
        Column("depth_imbalance_20", "DOUBLE", "(bid - ask) / (bid + ask) of those sizes."),
        Column("depth_valid_seconds", "DOUBLE", "Valid time of the depth; null without depth."),
    ),
    storage="duckdb",
)

_COLUMNS = tuple(column.name for column in BOOK_METRICS.columns)


def minute_metrics(
    bbo: pl.DataFrame | pl.LazyFrame,
    depth: pl.DataFrame | pl.LazyFrame | None,
    trades: pl.DataFrame | pl.LazyFrame | None,
    *,
    instrument: Instrument,
    day: date,
    tick: Decimal,
    lot: Decimal,
    not_observed: IntArray,
) -> pl.DataFrame:
    """The minutes of one instrument's day, in the columns of `metrics.book_metrics`.

    Only the columns named here are read, and of a lazy frame only they are loaded.

    Args:
        bbo: One row per message in order: ts_receipt_ns, bid_price_ticks, bid_size_lots,
            ask_price_ticks, ask_size_lots (int64, null where the side is empty), flags (uint16).
        depth: Rows in order, each in force until the next: ts_receipt_ns, bid_0_size …
            bid_19_size, ask_0_size … ask_19_size (float64, null where there is no such level),
            flags (uint16). None if no depth was built.
        trades: ts_receipt_ns, quantity (float64), is_buy (bool: the taker bought), in any order.
            None if there was no trades file.
        instrument, day: What the rows are of.
        tick, lot: The steps of that day.
        not_observed: Gaps and quiet holes, see `GapReport.not_observed`; shape (k, 2).

    Returns:
        One row per minute, in time order; a minute without a message, a trade or valid time has
        none. Rows received more than an hour outside the day are left out.
    """
    touch = _load_touch(bbo.lazy())
    minutes = _Minutes.around(day)
    pieces = _pieces(touch.ts_receipt_ns, touch.flags, minutes, not_observed)
    message_count = minutes.count(touch.ts_receipt_ns)
    valid_seconds = minutes.sum(pieces.minute, pieces.held_ns) / NS_PER_SECOND
    figures = {
        "valid_seconds": pl.Series(valid_seconds),
        "message_count": pl.Series(message_count),
        **_touch_figures(touch, pieces, minutes, tick=float(tick), lot=float(lot)),
        **_depth_figures(depth, minutes, not_observed),
        **_trade_figures(trades, minutes),
    }
    present = (message_count > 0) | (valid_seconds > 0)
    present |= figures["trade_count"].fill_null(0).to_numpy() > 0
    starts_us = minutes.starts_ns[:-1] // 1_000
    return (
        pl.DataFrame(figures)
        .with_columns(
            pl.lit(instrument.venue).alias("exchange"),
            pl.lit(instrument.symbol).alias("symbol"),
            pl.lit(day).alias("dt"),
            pl.Series("minute_start", starts_us).cast(pl.Datetime("us")),
        )
        .filter(pl.Series(present))
        .select(_COLUMNS)
    )


# --- time -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Minutes:
    """The minutes that are reported: those of the UTC day and of an hour on either side.

    Attributes:
        starts_ns: int64, shape (minutes + 1,): the start of each, then the end of the last.
    """

    starts_ns: IntArray

    @classmethod
    def around(cls, day: date) -> _Minutes:
        start_ns, end_ns = day_bounds_ns(day)
        after_ns = end_ns + NS_PER_HOUR + _NS_PER_MINUTE
        return cls(np.arange(start_ns - NS_PER_HOUR, after_ns, _NS_PER_MINUTE, dtype=np.int64))

    @property
    def number(self) -> int:
        return len(self.starts_ns) - 1

    def of(self, ts_ns: IntArray) -> IntArray:
        """Which minute each instant is in; the instants must be held."""
        minute: IntArray = (ts_ns - self.starts_ns[0]) // _NS_PER_MINUTE
        return minute

    def hold(self, ts_ns: IntArray) -> BoolArray:
        """True where an instant is in one of the minutes."""
        held: BoolArray = (ts_ns >= self.starts_ns[0]) & (ts_ns < self.starts_ns[-1])
        return held

    def count(self, ts_ns: IntArray) -> IntArray:
        return np.bincount(self.of(ts_ns[self.hold(ts_ns)]), minlength=self.number)

    def sum(self, minute: IntArray, values: IntArray | FloatArray) -> FloatArray:
        """The sum of the values per minute, each of which is one of these."""
        sums = np.bincount(minute, weights=values, minlength=self.number)
        return sums.astype(np.float64, copy=False)


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """Stretches of valid time within one minute and under one book.

    Attributes:
        state: int64, shape (pieces,): the row whose book is in force.
        minute: int64, shape (pieces,): which of the reported minutes.
        held_ns: int64, shape (pieces,): for how long; all above 0.
    """

    state: IntArray
    minute: IntArray
    held_ns: IntArray

    def average(self, values: FloatArray, usable: BoolArray, minutes: _Minutes) -> pl.Series:
        """The time-weighted mean of a figure per minute over the time in which it is usable.

        Args:
            values: float64, shape (rows,), of each row's book; finite, also where not usable.
            usable: bool, shape (rows,).
            minutes: The reported minutes.

        Returns:
            float64, one per minute; null where there was no such time.
        """
        # A weight of 0 in place of a selection: no copies of state and minute for a few rows.
        weights = self.held_ns * usable[self.state]
        total_ns = minutes.sum(self.minute, weights)
        weighted = values[self.state]
        weighted *= weights
        means = np.full(minutes.number, np.nan)
        np.divide(minutes.sum(self.minute, weighted), total_ns, out=means, where=total_ns > 0)
        return pl.Series(means, nan_to_null=True)


def _pieces(
    ts_receipt_ns: IntArray, flags: FlagArray, minutes: _Minutes, not_observed: IntArray
) -> _Pieces:
    """Cuts the time each book was in force at the borders of minutes; leaves out invalid time."""
    if len(ts_receipt_ns) == 0:
        none = np.empty(0, dtype=np.int64)
        return _Pieces(none, none, none)
    time_ns = running_time_ns(ts_receipt_ns)
    borders = minutes.starts_ns
    borders = borders[(borders > time_ns[0]) & (borders < time_ns[-1])]
    position = np.searchsorted(time_ns, borders, side="right")
    starts_ns = np.insert(time_ns, position, borders)
    state = np.insert(np.arange(len(time_ns)), position, position - 1)
    ends_ns = np.append(starts_ns[1:], starts_ns[-1])
    held_ns = ends_ns - starts_ns - overlap_ns(starts_ns, ends_ns, not_observed)
    kept = (held_ns > 0) & ~flag_mask(flags, INVALIDATING)[state] & minutes.hold(starts_ns)
    return _Pieces(state[kept], minutes.of(starts_ns[kept]), held_ns[kept])


# --- figures ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Touch:
    """The best levels after every message; where a side is empty its ticks and lots are 0."""

    ts_receipt_ns: IntArray
    flags: FlagArray
    bid_ticks: IntArray
    bid_lots: IntArray
    ask_ticks: IntArray
    ask_lots: IntArray
    has_bid: BoolArray
    has_ask: BoolArray


def _load_touch(bbo: pl.LazyFrame) -> _Touch:
    steps = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots")
    frame = bbo.select("ts_receipt_ns", "flags", *steps).collect()
    bid_ticks, bid_lots, ask_ticks, ask_lots = (
        frame[name].fill_null(0).to_numpy() for name in steps
    )
    return _Touch(
        ts_receipt_ns=frame["ts_receipt_ns"].to_numpy(),
        flags=frame["flags"].to_numpy(),
        bid_ticks=bid_ticks,
        bid_lots=bid_lots,
        ask_ticks=ask_ticks,
        ask_lots=ask_lots,
        has_bid=frame["bid_price_ticks"].is_not_null().to_numpy(),
        has_ask=frame["ask_price_ticks"].is_not_null().to_numpy(),
    )


def _touch_figures(
    touch: _Touch, pieces: _Pieces, minutes: _Minutes, *, tick: float, lot: float
) -> dict[str, pl.Series]:
    both = touch.has_bid & touch.has_ask

    def average(values: FloatArray, usable: BoolArray = both) -> pl.Series:
        return pieces.average(values, usable, minutes)

    # A book with an empty side has no mid; the 1 only keeps the division quiet.
    twice_mid = np.where(both, touch.bid_ticks + touch.ask_ticks, 1).astype(np.float64)
    spread = (touch.ask_ticks - touch.bid_ticks).astype(np.float64)
    spread_ticks, mid_ticks = average(spread), average(twice_mid / 2)
    spread_bps = average(spread / twice_mid * 20_000)
    # The weighted mid is the mid plus half the spread times the imbalance: no product of a price
    # and a size is ever formed, which would not fit the 53 bits of a float.
    imbalance = _imbalance(touch.bid_lots, touch.ask_lots, both)
    weighted_mid_ticks = average(twice_mid / 2 + spread / 2 * imbalance)
    return {
        "spread": spread_ticks * tick,
        "spread_ticks": spread_ticks,
        "spread_bps": spread_bps,
        "mid": mid_ticks * tick,
        "weighted_mid": weighted_mid_ticks * tick,
        "bid_touch_size": average(touch.bid_lots.astype(np.float64), touch.has_bid) * lot,
        "ask_touch_size": average(touch.ask_lots.astype(np.float64), touch.has_ask) * lot,
        "touch_imbalance": average(imbalance),
    }


def _depth_figures(
    depth: pl.DataFrame | pl.LazyFrame | None, minutes: _Minutes, not_observed: IntArray
) -> dict[str, pl.Series]:
    names = ("bid_depth_20", "ask_depth_20", "depth_imbalance_20", "depth_valid_seconds")
    if depth is None:
        return {name: _nulls(pl.Float64, minutes) for name in names}
    frame = (
        depth.lazy()
        .select(
            "ts_receipt_ns",
            "flags",
            *(
                expression
                for side in ("bid", "ask")
                for expression in (
                    pl.sum_horizontal(
                        f"{side}_{level}_size" for level in range(DEPTH_LEVELS)
                    ).alias(side),
                    pl.col(f"{side}_0_size").is_not_null().alias(f"has_{side}"),
                )
            ),
        )
        .collect(engine="streaming")
    )
    bid, ask = frame["bid"].to_numpy(), frame["ask"].to_numpy()
    has_bid, has_ask = frame["has_bid"].to_numpy(), frame["has_ask"].to_numpy()
    pieces = _pieces(
        frame["ts_receipt_ns"].to_numpy(), frame["flags"].to_numpy(), minutes, not_observed
    )
    both = has_bid & has_ask
    figures = (
        pieces.average(bid, has_bid, minutes),
        pieces.average(ask, has_ask, minutes),
        pieces.average(_imbalance(bid, ask, both), both, minutes),
        pl.Series(minutes.sum(pieces.minute, pieces.held_ns) / NS_PER_SECOND),
    )
    return dict(zip(names, figures, strict=True))


def _trade_figures(
    trades: pl.DataFrame | pl.LazyFrame | None, minutes: _Minutes
) -> dict[str, pl.Series]:
    if trades is None:
        return {
            "trade_count": _nulls(pl.Int64, minutes),
            "buy_volume": _nulls(pl.Float64, minutes),
            "sell_volume": _nulls(pl.Float64, minutes),
        }
    frame = trades.lazy().select("ts_receipt_ns", "quantity", "is_buy").collect()
    ts_receipt_ns = frame["ts_receipt_ns"].to_numpy()
    held = minutes.hold(ts_receipt_ns)
    minute = minutes.of(ts_receipt_ns[held])
    quantity, is_buy = frame["quantity"].to_numpy()[held], frame["is_buy"].to_numpy()[held]
    return {
        "trade_count": pl.Series(minutes.count(ts_receipt_ns)),
        "buy_volume": pl.Series(minutes.sum(minute[is_buy], quantity[is_buy])),
        "sell_volume": pl.Series(minutes.sum(minute[~is_buy], quantity[~is_buy])),
    }


def _imbalance(
    bid: IntArray | FloatArray, ask: IntArray | FloatArray, both: BoolArray
) -> FloatArray:
    """(bid - ask) / (bid + ask), 0 where a side is empty (and the figure then not used)."""
    total = (bid + ask).astype(np.float64)
    return np.divide(bid - ask, total, out=np.zeros(len(total)), where=both & (total > 0))


def _nulls(dtype: type[pl.Float64 | pl.Int64], minutes: _Minutes) -> pl.Series:
    return pl.repeat(None, minutes.number, dtype=dtype, eager=True)
