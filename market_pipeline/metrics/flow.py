"""What takers paid and moved in each interval: the figures that follow from `books.trades` alone.

A trade is of the interval that its receipt time is in. Prints outside the market (`is_market` is
false) are counted and have no other part in any figure. Every figure is null where an interval has
too little of what it is made of; counts are 0 there.

- **Spreads and impact** in basis points are means over prints, weighted by size. Realised spread
  and price impact are of the prints that have both and an effective spread, so that they sum to the
  effective spread of those prints.
- **Windows** (Kyle, Amihud): one begins with the first print that is in no window before, or at
  which the receipt clock ran back, and is `WINDOW_SECONDS` long. Its return is that of the mid from
  just before that print to the window's end. It counts only if the book was valid all the time.
- **Kyle's lambda** is the slope, through the origin, of those returns r on the net value Q that
  takers bought in the window: sum(r Q) / sum(Q Q) (Kyle 1985, Econometrica 53:1315). **Amihud** is
  the mean of |r| over the value traded (Amihud 2002, J. Fin. Markets 5:31). A value is price times
  size, in millions of the quote currency; of an inverse contract that is no amount of money.
- **Taker orders** stand for their prints in the figures of sequences, for a split order would be
  taken for many of one side. Those that are compared are of one interval, and of one run of valid
  time (`valid_run`). The price of an order is that of its last print.
- **Roll's spread** is 2 sqrt(-c), c the covariance of successive changes of price from order to
  order (Roll 1984, J. Finance 39:1127); null if c is not negative.
- **Sign autocorrelation** at a lag is E[s t] - E[s]^2 over pairs of orders so far apart, 1 for a
  buy and -1 for a sell (Lillo & Farmer 2004, Stud. Nonlinear Dyn. E. 8(3)).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from market_pipeline.metrics._flow_sums import (
    AFTER,
    AWAY,
    LAGS,
    WINDOW_SECONDS,
    Orders,
    Prints,
    Sums,
    Windows,
)
from market_pipeline.quality.intervals import FloatArray, IntArray
from market_pipeline.warehouse.tables import Column

__all__ = ["FLOW_COLUMNS", "TRADE_COLUMNS", "flow_columns"]

_LEAST_WINDOWS = 10
_LEAST_PAIRS = 30

TRADE_COLUMNS = (
    *("ts_receipt_ns", "taker_order", "price", "size", "is_buy", "is_market", "flags", "valid_run"),
    *("price_ticks", "bid_price_ticks", "ask_price_ticks", "effective_spread_ticks"),
    *(f"{name}_ticks" for names in AFTER.values() for name in names),
)
"""The columns that are read of `books.trades`."""

_A_PRINT = "Prints of takers"

FLOW_COLUMNS: tuple[Column, ...] = (
    Column("print_count", "BIGINT", "Trades of the market, at least 0."),
    Column("outside_market_count", "BIGINT", "Prints outside the market, in no other figure."),
    Column("taker_order_count", "BIGINT", "Orders of takers that these trades began, at least 0."),
    *(
        Column(name, "BIGINT", f"{_A_PRINT} {where}, in the valid book just before.")
        for name, where in AWAY.items()
    ),
    Column("no_touch_count", "BIGINT", f"{_A_PRINT} without such a price, or off the tick."),
    Column(
        "effective_spread_bps",
        "DOUBLE",
        "Mean effective spread over the mid, weighted by size, in basis points, of prints with a "
        "valid book; any sign.",
    ),
    Column(
        "effective_spread_equal_bps",
        "DOUBLE",
        "The same with each print alike, in basis points; any sign.",
    ),
    *(
        column
        for seconds, (realised, impact) in AFTER.items()
        for column in (
            Column(
                f"{realised}_bps",
                "DOUBLE",
                f"Mean realised spread after {seconds} s, weighted by size, in basis points; any "
                "sign.",
            ),
            Column(
                f"{impact}_bps",
                "DOUBLE",
                f"Mean price impact after {seconds} s of the same prints; any sign.",
            ),
        )
    ),
    Column(
        "impact_window_count",
        "BIGINT",
        f"Windows of {WINDOW_SECONDS} s that the next two figures are made of.",
    ),
    Column(
        "kyle_lambda_bps_per_million",
        "DOUBLE",
        "Slope of mid returns in basis points on the net value bought, in millions of quote "
        f"currency; null below {_LEAST_WINDOWS} windows; any sign.",
    ),
    Column(
        "amihud_bps_per_million",
        "DOUBLE",
        "Mean of absolute mid returns in basis points over the value traded, in millions of quote "
        f"currency; null below {_LEAST_WINDOWS} windows; at least 0.",
    ),
    Column(
        "roll_spread_ticks",
        "DOUBLE",
        "Spread that the bounce of prices from order to order shows, in ticks; null without a "
        f"bounce or below {_LEAST_PAIRS} pairs; above 0.",
    ),
    Column(
        "sign_mean", "DOUBLE", "Mean sign of taker orders, 1 for a buy, -1 for a sell; -1 to 1."
    ),
    *(
        Column(
            f"sign_autocorrelation_{lag}",
            "DOUBLE",
            f"Mean product of the signs of taker orders {lag} apart, less the squared mean; null "
            f"below {_LEAST_PAIRS} pairs; -2 to 1.",
        )
        for lag in LAGS
    ),
)
"""What `flow_columns` gives."""


def flow_columns(trades: Iterable[pl.DataFrame], edges_ns: IntArray) -> pl.DataFrame:
    """The figures of intervals one after the other, in the columns `FLOW_COLUMNS`.

    Args:
        trades: `TRADE_COLUMNS` of `books.trades`, in the order of its rows, cut anywhere.
        edges_ns: int64, shape (intervals + 1,), ascending: interval i is from edge i up to edge
            i + 1. Trades outside of all are left out.

    Returns:
        One row for each interval, in order. Where the trades are cut changes no value.
    """
    sums = Sums(len(edges_ns) - 1)
    windows, orders = Windows(sums), Orders(sums)
    for rows in trades:
        interval = np.searchsorted(edges_ns, rows["ts_receipt_ns"].to_numpy(), side="right") - 1
        is_within = (interval >= 0) & (interval < sums.intervals)
        is_market = rows["is_market"].fill_null(value=True).to_numpy()
        sums.count("outside_market", interval[is_within & ~is_market])
        kept = is_within & is_market
        if kept.any():
            prints = Prints(rows.filter(kept), interval[kept])
            prints.add_to(sums)
            windows.add(prints)
            orders.add(prints)
    windows.close()
    orders.close()
    return _figures(sums)


def _figures(sums: Sums) -> pl.DataFrame:
    enough = sums["windows"] >= _LEAST_WINDOWS
    floats = {
        "effective_spread_bps": sums.ratio("effective", "effective_size"),
        "effective_spread_equal_bps": sums.ratio("effective_equal", "effective_count"),
        **{
            f"{name}_bps": sums.ratio(name, f"{names[0]}_size")
            for names in AFTER.values()
            for name in names
        },
        "kyle_lambda_bps_per_million": sums.ratio("return_net", "net_net", enough=enough),
        "amihud_bps_per_million": sums.ratio("amihud", "windows", enough=enough),
        "roll_spread_ticks": _roll_spread(sums),
        "sign_mean": sums.ratio("signs", "orders"),
    }
    for lag in LAGS:
        enough = sums[f"pairs_{lag}"] >= _LEAST_PAIRS
        product = sums.ratio(f"products_{lag}", f"pairs_{lag}", enough=enough)
        floats[f"sign_autocorrelation_{lag}"] = product - floats["sign_mean"] ** 2
    counts = {"print_count": "prints", "outside_market_count": "outside_market"}
    counts |= {"taker_order_count": "orders", "impact_window_count": "windows"}
    counts |= {name: name for name in (*AWAY, "no_touch_count")}
    return pl.DataFrame(
        {name: sums.counted(of) for name, of in counts.items()}
        | {name: pl.Series(values, nan_to_null=True) for name, values in floats.items()}
    ).select(column.name for column in FLOW_COLUMNS)


def _roll_spread(sums: Sums) -> FloatArray:
    enough = sums["bounces"] >= _LEAST_PAIRS
    products, changes, before = (
        sums.ratio(name, "bounces", enough=enough)
        for name in ("bounce_products", "changes", "changes_before")
    )
    covariance = products - changes * before
    bounce: FloatArray = np.sqrt(np.where(covariance < 0, -covariance, np.nan))
    return 2 * bounce
