"""Tardis's CSV files by hand, and from files in the lake's layout, as Tardis documents them."""

from __future__ import annotations

import gzip
from datetime import date
from pathlib import Path

import polars as pl

INCREMENTAL = "incremental_book_L2"
TRADES = "trades"
BOOK_25 = "book_snapshot_25"
TICKER = "derivative_ticker"

HEADINGS = {
    INCREMENTAL: "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount",
    TRADES: "exchange,symbol,timestamp,local_timestamp,id,side,price,amount",
    BOOK_25: "exchange,symbol,timestamp,local_timestamp,"
    + ",".join(
        f"asks[{level}].price,asks[{level}].amount,bids[{level}].price,bids[{level}].amount"
        for level in range(25)
    ),
    TICKER: "exchange,symbol,timestamp,local_timestamp,funding_timestamp,funding_rate,"
    "predicted_funding_rate,open_interest,last_price,index_price,mark_price",
}


def path_of(lake: Path, exchange: str, data_type: str, day: date, symbol: str) -> Path:
    """Where a file as Tardis's client names it is looked for."""
    return lake / "tardis_csv" / f"{exchange}_{data_type}_{day.isoformat()}_{symbol}.csv.gz"


def write_text(path: Path, text: str) -> Path:
    """A gzip of text; the same text gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 1, mtime=0))
    return path


def write_lines(path: Path, data_type: str, lines: list[str]) -> Path:
    """A file of a data type with these rows."""
    return write_text(path, "\n".join([HEADINGS[data_type], *lines, ""]))


def write_frame(path: Path, data_type: str, frame: pl.DataFrame) -> Path:
    """A file of a data type; the frame must have its columns."""
    return write_text(path, frame.select(HEADINGS[data_type].split(",")).write_csv())


def _head(frame: pl.DataFrame, exchange: str, symbol: str) -> pl.DataFrame:
    return frame.with_columns(
        exchange=pl.lit(exchange),
        symbol=pl.lit(symbol),
        # The lake's times are those of the microsecond, which a float moved by up to 128 ns.
        timestamp=(pl.col("timestamp") + 500) // 1_000,
        local_timestamp=(pl.col("receipt_timestamp") + 500) // 1_000,
    )


def incremental_of(
    deltas: pl.DataFrame, exchange: str, symbol: str, *, is_snapshot: bool = False
) -> pl.DataFrame:
    """Rows of `book_delta_v2` as rows of `incremental_book_L2`, with times to the microsecond."""
    return _head(deltas, exchange, symbol).with_columns(
        is_snapshot=pl.lit(is_snapshot),
        side=pl.when("side_is_bid").then(pl.lit("bid")).otherwise(pl.lit("ask")),
        amount="size",
    )


def trades_of(trades: pl.DataFrame, exchange: str, symbol: str) -> pl.DataFrame:
    """Rows of `trades` of the lake as rows of Tardis's."""
    return _head(trades, exchange, symbol)


def book_of(book: pl.DataFrame, exchange: str, symbol: str) -> pl.DataFrame:
    """Rows of `book` as rows of `book_snapshot_25`, whose five deepest levels are empty."""
    levels = {
        f"{side}s[{level}].{name}": pl.col(f"{side}_{level}_{own}")
        if level < 20
        else pl.lit(None, pl.Float64)
        for side in ("bid", "ask")
        for level in range(25)
        for name, own in (("price", "price"), ("amount", "size"))
    }
    return _head(book, exchange, symbol).with_columns(**levels)
