"""Trades and orders of takers by interval of receipt, of the rows of `books.trades`.

Prints outside the market (`is_market` is false) are in none, as they are in no bar.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from market_pipeline.quality.intervals import IntArray

__all__ = ["TRADED_INPUT", "traded_columns"]

TRADED_INPUT = ("ts_receipt_ns", "id", "taker_order", "size", "is_buy", "is_market")
"""The columns that are read of `books.trades`."""


def traded_columns(trades: Iterable[pl.DataFrame], edges_ns: IntArray) -> pl.DataFrame:
    """The columns of `TRADE_COLUMNS`, a row for each interval.

    A trade outside all of them is in none. An order is counted at its first trade.

    Args:
        trades: Their `TRADED_INPUT`, in any order, in batches cut anywhere.
        edges_ns: int64, shape (intervals + 1,), of equal width.
    """
    number, width_ns = len(edges_ns) - 1, int(edges_ns[1] - edges_ns[0])
    trade_count, buy_count, order_count = np.zeros((3, number), np.int64)
    buy_volume, sell_volume = np.zeros((2, number))
    for batch in trades:
        at = (batch["ts_receipt_ns"].to_numpy() - edges_ns[0]) // width_ns
        is_market = batch["is_market"].fill_null(value=True).to_numpy()
        inside = (at >= 0) & (at < number) & is_market
        is_first = (batch["id"] == batch["taker_order"]).to_numpy() & inside
        is_buy, is_sell = (batch["is_buy"].to_numpy() == side for side in (True, False))
        size = batch["size"].to_numpy()
        trade_count += np.bincount(at[inside], minlength=number)
        buy_count += np.bincount(at[inside & is_buy], minlength=number)
        order_count += np.bincount(at[is_first], minlength=number)
        # Added term by term, so that no cut of the rows changes a rounding.
        np.add.at(buy_volume, at[inside & is_buy], size[inside & is_buy])
        np.add.at(sell_volume, at[inside & is_sell], size[inside & is_sell])
    return pl.DataFrame(
        {
            "trade_count": trade_count,
            "buy_count": buy_count,
            "taker_order_count": order_count,
            "buy_volume": buy_volume,
            "sell_volume": sell_volume,
        }
    )
