"""Trades and orders of takers by interval of receipt, of the rows of `books.trades`.

Prints outside the market (`is_market` is false) are in none, as they are in no bar.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from market_pipeline.mapped import ColumnArray
from market_pipeline.metrics.day_rows import Chosen, Filled, changes_at, picked
from market_pipeline.quality.intervals import IntArray

__all__ = ["TRADED_INPUT", "traded_columns"]

TRADED_INPUT = ("ts_receipt_ns", "id", "taker_order", "size", "is_buy", "is_market")
"""The columns that are read of `books.trades`."""


def traded_columns(trades: Iterable[pl.DataFrame], edges_ns: Sequence[IntArray]) -> Filled:
    """The columns of `TRADE_COLUMNS`.

    A trade outside all intervals is in none. An order is counted at its first trade.

    Args:
        trades: Their `TRADED_INPUT`, in any order, in batches cut anywhere.
        edges_ns: Of each grid, int64, shape (intervals + 1,), of equal width.
    """
    counts = [np.zeros((len(edges) - 1, 3), np.int64) for edges in edges_ns]
    volumes = [np.zeros((len(edges) - 1, 2)) for edges in edges_ns]
    for batch in trades:
        ts_ns = batch["ts_receipt_ns"].to_numpy()
        is_market = batch["is_market"].fill_null(value=True).to_numpy()
        is_first = (batch["id"] == batch["taker_order"]).to_numpy()
        is_buy, is_sell = (batch["is_buy"].to_numpy() == side for side in (True, False))
        size = batch["size"].to_numpy()
        for edges, count, volume in zip(edges_ns, counts, volumes, strict=True):
            at = (ts_ns - edges[0]) // (edges[1] - edges[0])
            inside = (at >= 0) & (at < len(count)) & is_market
            # Added term by term, so that no cut of the rows changes a rounding.
            for column, which in enumerate((inside, inside & is_buy, inside & is_first)):
                np.add.at(count[:, column], at[which], 1)
            for column, which in enumerate((inside & is_buy, inside & is_sell)):
                np.add.at(volume[:, column], at[which], size[which])

    def columns(chosen: Chosen) -> dict[str, ColumnArray]:
        names = "trade_count", "buy_count", "taker_order_count"
        return dict(zip(names, picked(counts, chosen).T, strict=True)) | dict(
            zip(("buy_volume", "sell_volume"), picked(volumes, chosen).T, strict=True)
        )

    return Filled([changes_at(count[:, 0] > 0) for count in counts], columns)
