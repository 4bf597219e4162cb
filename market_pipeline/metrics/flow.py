"""What takers paid and moved in each interval: the figures that follow from `books.trades` alone.

A trade is of the interval that its receipt time is in. Prints outside the market (`is_market` is
false) are counted and have no other part in any figure. Every figure is null where an interval has
too little of what it is made of; counts are 0 there.

- **Spreads and impact** in basis points are means over prints, weighted by size. Realised spread
  and price impact are of the prints that have both and an effective spread, so that they sum to the
  effective spread of those prints.
- **Windows** (Kyle, Amihud): one begins with the first print that is in no window before, or at
  which the receipt clock ran back, and is `IMPACT_WINDOW_SECONDS` long. Its return is that of the
  mid from just before that print to the window's end. It counts only if the book was valid all the
  time.
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

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from market_pipeline.metrics._flow_sums import AFTER, Orders, Prints, Sums, Windows
from market_pipeline.metrics.columns import (
    FLOW_COLUMNS,
    LEAST_PAIRS,
    LEAST_WINDOWS,
    SIGN_LAGS,
)
from market_pipeline.metrics.day_rows import Filled, changes_at
from market_pipeline.quality.intervals import FloatArray, IntArray

__all__ = ["FLOW_INPUT", "flow_columns"]

FLOW_INPUT = (
    *("ts_receipt_ns", "taker_order", "price", "size", "is_buy", "is_market", "flags", "valid_run"),
    *("price_ticks", "bid_price_ticks", "ask_price_ticks", "effective_spread_ticks"),
    *(f"{name}_ticks" for names in AFTER.values() for name in names),
)
"""The columns that are read of `books.trades`."""


def flow_columns(trades: Iterable[pl.DataFrame], edges_ns: Sequence[IntArray]) -> Filled:
    """The columns `FLOW_COLUMNS`; where the trades are cut changes no value.

    Args:
        trades: `FLOW_INPUT` of `books.trades`, in the order of its rows, cut anywhere.
        edges_ns: Of each grid, int64, shape (intervals + 1,), ascending, all over one span:
            interval i is from edge i up to edge i + 1. Trades outside of all are left out.
    """
    sums = [Sums(len(edges) - 1) for edges in edges_ns]
    sequences = [(Windows(each), Orders(each)) for each in sums]
    start_ns, end_ns = edges_ns[0][0], edges_ns[0][-1]
    for rows in trades:
        ts_ns = rows["ts_receipt_ns"].to_numpy()
        is_within = (start_ns <= ts_ns) & (ts_ns < end_ns)
        is_market = rows["is_market"].fill_null(value=True).to_numpy()
        kept = is_within & is_market
        prints = Prints(rows.filter(kept)) if kept.any() else None
        for edges, each, (windows, orders) in zip(edges_ns, sums, sequences, strict=True):
            interval = np.searchsorted(edges, ts_ns, side="right") - 1
            each.count("outside_market_count", interval[is_within & ~is_market])
            if prints is not None:
                prints.add_to(each, interval[kept])
                windows.add(prints, interval[kept])
                orders.add(prints, interval[kept])
    for windows, orders in sequences:
        windows.close()
        orders.close()
    return Filled(
        [changes_at(each.has_any) for each in sums],
        lambda chosen: _figures(Sums.picked(sums, chosen)),
    )


def _figures(sums: Sums) -> dict[str, pl.Series]:
    enough = sums["impact_window_count"] >= LEAST_WINDOWS
    floats = {
        "effective_spread_bps": sums.ratio("effective", "effective_size"),
        "effective_spread_equal_bps": sums.ratio("effective_equal", "effective_spread_count"),
        **{
            f"{name}_bps": sums.ratio(name, f"{names[1]}_size")
            for names in AFTER.values()
            for name in names
        },
        "kyle_lambda_bps_per_million": sums.ratio("return_net", "net_net", enough=enough),
        "amihud_bps_per_million": sums.ratio("amihud", "impact_window_count", enough=enough),
        "roll_spread_ticks": _roll_spread(sums),
        "sign_mean": sums.ratio("signs", "sign_count"),
    }
    for lag in SIGN_LAGS:
        enough = sums[f"pairs_{lag}"] >= LEAST_PAIRS
        product = sums.ratio(f"products_{lag}", f"pairs_{lag}", enough=enough)
        floats[f"sign_autocorrelation_{lag}"] = product - floats["sign_mean"] ** 2
    return {
        name: pl.Series(floats[name], nan_to_null=True)
        if name in floats
        else pl.Series(sums[name].astype(np.int64))
        for name in (column.name for column in FLOW_COLUMNS)
    }


def _roll_spread(sums: Sums) -> FloatArray:
    enough = sums["bounces"] >= LEAST_PAIRS
    products, changes, before = (
        sums.ratio(name, "bounces", enough=enough)
        for name in ("bounce_products", "changes", "changes_before")
    )
    covariance = products - changes * before
    bounce: FloatArray = np.sqrt(np.where(covariance < 0, -covariance, np.nan))
    return 2 * bounce
