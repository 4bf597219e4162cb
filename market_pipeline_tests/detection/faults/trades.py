"""Trades that are not what was traded: they may speak against a book, never change it."""

from __future__ import annotations

import numpy as np
import polars as pl

from market_pipeline_tests.detection.faults.day import (
    MS,
    ORIGIN,
    RECEIPT,
    SECOND,
    BoolArray,
    RawDay,
)
from market_pipeline_tests.detection.faults.registry import fault

__all__: list[str] = []

SEED = 31
STAMPS = ("zero", "hours ahead", "us", "ms", "int64 max", "int64 min", "day back")


def _one(day: RawDay) -> BoolArray:
    mask = np.zeros(day.trades.height, np.bool_)
    mask[int(day.trades.height * day.place)] = True
    return mask


def _stamp(column: str, how: str) -> pl.Expr:
    return {
        "zero": pl.lit(0),
        "hours ahead": pl.col(column) + 5 * 3_600 * SECOND,
        "us": pl.col(column) // 1_000,
        "ms": pl.col(column) // 1_000_000,
        "int64 max": pl.lit(2**63 - 1),
        "int64 min": pl.lit(-(2**63)),
        "day back": pl.col(column) - 86_400 * SECOND,
    }[how]


@fault("trades", cases=STAMPS, harmless=True)
def trade_origin_stamp_wrong(day: RawDay, how: str) -> RawDay:
    """One trade has an exchange time that is not the time."""
    return day.where("trades", _one(day), **{ORIGIN: _stamp(ORIGIN, how)})


@fault("trades", cases=STAMPS, harmless=True)
def all_trade_origin_stamps_wrong(day: RawDay, how: str) -> RawDay:
    """All trades have exchange times that are not the time."""
    return day.with_columns("trades", _stamp(ORIGIN, how).cast(pl.Int64).alias(ORIGIN))


@fault("trades", cases=STAMPS, harmless=True)
def trade_receipt_stamp_wrong(day: RawDay, how: str) -> RawDay:
    """One trade has a receipt time that is not the time."""
    return day.where("trades", _one(day), **{RECEIPT: _stamp(RECEIPT, how)})


@fault("trades", cases=STAMPS, harmless=True)
def all_trade_receipt_stamps_wrong(day: RawDay, how: str) -> RawDay:
    """All trades have receipt times that are not the time."""
    return day.with_columns("trades", _stamp(RECEIPT, how).cast(pl.Int64).alias(RECEIPT))


@fault("trades", cases=(2_000, -2_000), harmless=True)
def clock_of_the_trades_off(day: RawDay, by_ms: int) -> RawDay:
    """All trades are received and matched some seconds before or after the time."""
    moved = (pl.col(RECEIPT) + by_ms * MS, pl.col(ORIGIN) + by_ms * MS)
    return day.with_columns("trades", *moved)


@fault("trades", cases=(10.0, 0.1, 0.0, -1.0, float("nan"), float("inf"), 1e300), harmless=True)
def trade_price_wrong(day: RawDay, factor: float) -> RawDay:
    """One trade has a price that is some factor of its own."""
    return day.where("trades", _one(day), price=pl.col("price") * factor)


@fault("trades", cases=(10.0, 1.001), harmless=True)
def all_trade_prices_wrong(day: RawDay, factor: float) -> RawDay:
    """All trades have prices that are some factor of their own."""
    return day.with_columns("trades", (pl.col("price") * factor).round(8))


@fault("trades", cases=(1e5, 0.0, -1.0, float("nan"), 1e300), harmless=True)
def trade_size_wrong(day: RawDay, factor: float) -> RawDay:
    """One trade has a size that is some factor of its own."""
    return day.where("trades", _one(day), amount=pl.col("amount") * factor)


@fault("trades", cases=("other", "upper case", "empty", "null"), harmless=True)
def trade_sides_wrong(day: RawDay, how: str) -> RawDay:
    """All trades have the other side, or one that is none."""
    value = {
        "other": pl.when(pl.col("side") == "buy").then(pl.lit("sell")).otherwise(pl.lit("buy")),
        "upper case": pl.col("side").str.to_uppercase(),
        "empty": pl.lit(""),
        "null": pl.lit(None, pl.String),
    }[how]
    return day.with_columns("trades", value.alias("side"))


@fault("trades", harmless=True)
def trade_side_unknown(day: RawDay) -> RawDay:
    """One trade has a side that is none."""
    return day.where("trades", _one(day), side=pl.lit("unknown"))


@fault("trades", harmless=True)
def trades_twice(day: RawDay) -> RawDay:
    """Every trade stands twice."""
    return day.put("trades", day.trades[np.repeat(np.arange(day.trades.height), 2)])


@fault("trades", harmless=True)
def half_of_the_trades_missing(day: RawDay) -> RawDay:
    """Every second trade is not there."""
    return day.put("trades", day.trades.gather_every(2))


@fault("trades", cases=("shuffled", "reversed"), harmless=True)
def trades_in_another_order(day: RawDay, how: str) -> RawDay:
    """The trades stand in any order, or in reverse."""
    order = np.arange(day.trades.height)[::-1].copy()
    if how == "shuffled":
        np.random.default_rng(SEED).shuffle(order)
    return day.put("trades", day.trades[order])


@fault("trades", cases=("zero", "stuck", "negative", "int64 max"), harmless=True)
def trade_ids_wrong(day: RawDay, how: str) -> RawDay:
    """The ids of trades are not the exchange's."""
    value = {
        "zero": pl.lit(0, pl.Int64),
        "stuck": pl.col("id").first(),
        "negative": -pl.col("id"),
        "int64 max": pl.lit(2**63 - 1, pl.Int64),
    }[how]
    return day.with_columns("trades", value.alias("id"))


@fault("trades", cases=("side", "amount", "price", "id", ORIGIN, RECEIPT), harmless=True)
def trade_value_missing(day: RawDay, column: str) -> RawDay:
    """One value of a trade is null."""
    return day.where("trades", _one(day), **{column: pl.lit(None, day.trades.schema[column])})


@fault("trades", harmless=True)
def trades_frozen(day: RawDay) -> RawDay:
    """From the middle on all trades have the price of one of them."""
    price = float(day.trades["price"][int(day.trades.height * day.place)])
    later = np.arange(day.trades.height) >= int(day.trades.height * day.place)
    return day.where("trades", later, price=pl.lit(price))
