"""Prices, sizes and sides of delta rows that are not what the exchange sent."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import polars as pl

from market_pipeline_tests.detection.faults.day import NUMBER, ORIGIN, RECEIPT, BoolArray, RawDay
from market_pipeline_tests.detection.faults.registry import fault
from market_pipeline_tests.detection.faults.rows import (
    WHERE,
    is_near_touch,
    row_at,
    touch_at,
    within_pause,
)

__all__: list[str] = []

SEED = 13


def _one(day: RawDay, at: int) -> BoolArray:
    mask = np.zeros(day.deltas.height, np.bool_)
    mask[at] = True
    return mask


def _at(day: RawDay, where: str, **values: pl.Expr | float) -> RawDay:
    """Other values in one row."""
    return day.where("deltas", _one(day, row_at(day, where)), **values)


def _message(day: RawDay, **values: pl.Expr) -> RawDay:
    """Other values in all rows of a message near the touch."""
    messages = day.messages
    at = int(np.searchsorted(messages.starts, row_at(day, "touch"), side="right")) - 1
    return day.where("deltas", messages.mask([at]), **values)


def _later(day: RawDay) -> BoolArray:
    """True in the rows from the day's place on."""
    later: BoolArray = (
        np.arange(day.deltas.height) >= day.messages.starts[day.messages.at(day.place)]
    )
    return later


def _tick(day: RawDay) -> float:
    """The price step of the day, as its text shows it."""
    texts = (str(price) for price in day.deltas["price"].head(2_000).unique() if price)
    exponents = [Decimal(text).normalize().as_tuple().exponent for text in texts]
    return float(Decimal(1).scaleb(min(int(each) for each in exponents)))


def _grid(column: str, step: float) -> pl.Expr:
    return ((pl.col(column) / step).round() * step).round(10)


@fault("deltas", cases=WHERE)
def price_through_float32(day: RawDay, where: str) -> RawDay:
    """One price went through a 32-bit float, and is not what it was."""
    price = day.deltas["price"].to_numpy()
    row = row_at(day, where, price.astype(np.float32).astype(np.float64) != price)
    return day.where(
        "deltas", _one(day, row), price=pl.col("price").cast(pl.Float32).cast(pl.Float64)
    )


@fault("deltas")
def all_prices_through_float32(day: RawDay) -> RawDay:
    """All prices went through 32-bit floats."""
    return day.with_columns("deltas", pl.col("price").cast(pl.Float32).cast(pl.Float64))


@fault("deltas")
def all_sizes_through_float32(day: RawDay) -> RawDay:
    """All sizes went through 32-bit floats."""
    return day.with_columns("deltas", pl.col("size").cast(pl.Float32).cast(pl.Float64))


@fault("deltas", cases=WHERE)
def price_rounded_to_the_grid(day: RawDay, where: str) -> RawDay:
    """One price is ten steps of the grid lower: a price like any other."""
    return _at(day, where, price=_grid("price", _tick(day)) - 10 * _tick(day))


@fault("deltas", cases=WHERE)
def price_off_by_one_step(day: RawDay, where: str) -> RawDay:
    """One price is a step of the grid higher."""
    return _at(day, where, price=(pl.col("price") + _tick(day)).round(10))


@fault("deltas", cases=WHERE)
def price_off_the_grid(day: RawDay, where: str) -> RawDay:
    """One price lies three tenths of a step beside the grid."""
    return _at(day, where, price=pl.col("price") + _tick(day) * 0.3)


@fault("deltas")
def prices_coarse(day: RawDay) -> RawDay:
    """All prices are rounded to ten steps of the grid."""
    return day.with_columns("deltas", _grid("price", 10 * _tick(day)))


@fault("deltas")
def prices_of_a_message_off_by_one_step(day: RawDay) -> RawDay:
    """All prices of a message are a step of the grid higher."""
    return _message(day, price=(pl.col("price") + _tick(day)).round(10))


@fault("deltas", cases=WHERE)
def price_ten_times(day: RawDay, where: str) -> RawDay:
    """One price is ten times as high."""
    return _at(day, where, price=pl.col("price") * 10)


@fault("deltas", cases=WHERE)
def price_a_tenth(day: RawDay, where: str) -> RawDay:
    """One price is a tenth of itself."""
    return _at(day, where, price=_grid("price", 10 * _tick(day)) / 10)


@fault("deltas")
def prices_of_a_message_ten_times(day: RawDay) -> RawDay:
    """All prices of a message are ten times as high."""
    return _message(day, price=pl.col("price") * 10)


@fault("deltas")
def prices_in_another_unit(day: RawDay) -> RawDay:
    """From the middle on all prices are a hundred times as high."""
    return day.where("deltas", _later(day), price=pl.col("price") * 100)


@fault("deltas", cases=("zero", "negative", "nan", "infinite"))
def price_that_is_none(day: RawDay, what: str) -> RawDay:
    """One price is zero, below zero, or no number."""
    prices = {
        "zero": pl.lit(0.0),
        "negative": -pl.col("price"),
        "nan": pl.lit(float("nan")),
        "infinite": pl.lit(float("inf")),
    }
    return _at(day, "touch", price=prices[what])


@fault("deltas", cases=("negative", "nan", "infinite"))
def size_that_is_none(day: RawDay, what: str) -> RawDay:
    """One size is below zero, or no number."""
    sizes = {
        "negative": -pl.col("size"),
        "nan": pl.lit(float("nan")),
        "infinite": pl.lit(float("inf")),
    }
    return _at(day, "touch", size=sizes[what])


@fault("deltas", cases=WHERE)
def size_ten_times(day: RawDay, where: str) -> RawDay:
    """One size is ten times as large."""
    return _at(day, where, size=pl.col("size") * 10)


@fault("deltas", cases=WHERE)
def size_rounded(day: RawDay, where: str) -> RawDay:
    """One size lacks its last digit: it is two significant digits, or twice itself if it was."""
    rounded = pl.col("size").round_sig_figs(2)
    size = pl.when(rounded == pl.col("size")).then(pl.col("size") * 2).otherwise(rounded)
    return _at(day, where, size=size)


@fault("deltas", cases=("touch", "fleeting"))
def size_with_more_digits(day: RawDay, where: str) -> RawDay:
    """One size has digits beyond the lot."""
    return _at(day, where, size=pl.col("size") * (1 + 1 / 3))


@fault("deltas")
def sizes_of_a_message_ten_times(day: RawDay) -> RawDay:
    """All sizes of a message are ten times as large."""
    return _message(day, size=pl.col("size") * 10)


@fault("deltas")
def sizes_in_another_unit(day: RawDay) -> RawDay:
    """From the middle on all sizes are a thousand times as large."""
    return day.where("deltas", _later(day), size=pl.col("size") * 1_000)


@fault("deltas", cases=(2.0**51, 2.0**53, 2.0**62, 1e18, 1e300))
def size_huge(day: RawDay, lots: float) -> RawDay:
    """One size is so large that a float64 cannot hold it exactly, or an int64 at all."""
    return _at(day, "touch", size=pl.lit(lots * 1e-5 if lots < 2.0**62 else lots))


@fault("deltas", cases=("touch", "deep"))
def size_beyond_float_digits(day: RawDay, where: str) -> RawDay:
    """One size of 2^52 lots has half a lot more, which a float64 rounds to a whole lot."""
    lot = 1e-5 if (day.deltas["size"] % 1).max() else 1.0
    return _at(day, where, size=pl.lit((2.0**52 + 0.5) * lot))


@fault("deltas")
def size_tiny(day: RawDay) -> RawDay:
    """One size is a denormal number: not zero, and not a lot."""
    return _at(day, "touch", size=pl.lit(5e-324))


@fault("deltas", harmless=True)
def removals_as_negative_zero(day: RawDay) -> RawDay:
    """All removals have the size -0.0."""
    return day.where("deltas", pl.col("size") == 0, size=pl.lit(-0.0))


@fault("deltas", cases=WHERE)
def side_flipped(day: RawDay, where: str) -> RawDay:
    """One row is of the other side."""
    return _at(day, where, side_is_bid=~pl.col("side_is_bid"))


@fault("deltas")
def sides_of_a_message_flipped(day: RawDay) -> RawDay:
    """All rows of a message are of the other side."""
    return _message(day, side_is_bid=~pl.col("side_is_bid"))


@fault("deltas")
def sides_flipped_for_a_pause(day: RawDay) -> RawDay:
    """All rows of a pause are of the other side."""
    return day.where("deltas", within_pause(day), side_is_bid=~pl.col("side_is_bid"))


@fault("deltas")
def one_side_only(day: RawDay) -> RawDay:
    """All rows of a pause are bids, whatever they were."""
    return day.where("deltas", within_pause(day), side_is_bid=pl.lit(value=True))


@fault("deltas", cases=("touch", "fleeting"))
def price_and_size_exchanged(day: RawDay, where: str) -> RawDay:
    """One row has its size in the place of its price and its price in that of its size."""
    return _at(day, where, price=pl.col("size"), size=pl.col("price"))


@fault("deltas")
def removal_as_a_level(day: RawDay) -> RawDay:
    """A row that removes a level near the touch says a size instead."""
    return _at(day, "touch removal", size=pl.lit(1.0))


@fault("deltas", cases=WHERE)
def level_as_a_removal(day: RawDay, where: str) -> RawDay:
    """A row that sets a level removes it instead."""
    return _at(day, where, size=pl.lit(0.0))


@fault("deltas")
def removals_as_tiny_levels(day: RawDay) -> RawDay:
    """For a pause every removal near the touch says the size 1."""
    removals = (day.deltas["size"] == 0).to_numpy() & within_pause(day) & is_near_touch(day)
    return day.where("deltas", removals, size=pl.lit(1.0))


def _inserted(day: RawDay, levels: list[tuple[bool, float]], size: float) -> RawDay:
    """The day with more levels at the end of the message at its place."""
    messages = day.messages
    end = int(messages.ends[messages.at(day.place)])
    row = day.deltas[end - 1 : end]
    added = [
        row.with_columns(
            side_is_bid=pl.lit(is_bid), price=pl.lit(round(price, 10)), size=pl.lit(size)
        )
        for is_bid, price in levels
    ]
    return day.put("deltas", pl.concat([day.deltas[:end], *added, day.deltas[end:]]))


def _usual_size(day: RawDay) -> float:
    sized = day.deltas.filter(pl.col("size") > 0)["size"]
    return float(sized[sized.len() // 2])


@fault("deltas", cases=("bid", "ask"))
def level_across_the_touch(day: RawDay, side: str) -> RawDay:
    """A level that nobody sent stands far across the touch."""
    bid, ask = touch_at(day, day.middle_ns)
    price = ask + 40 * _tick(day) if side == "bid" else bid - 40 * _tick(day)
    return _inserted(day, [(side == "bid", price)], _usual_size(day))


@fault("deltas")
def levels_across_the_touch_on_both_sides(day: RawDay) -> RawDay:
    """On each side ten levels that nobody sent stand across the touch."""
    bid, ask = touch_at(day, day.middle_ns)
    step = _tick(day)
    levels = [(True, ask + k * step) for k in range(10)]
    levels += [(False, bid - k * step) for k in range(10)]
    return _inserted(day, levels, _usual_size(day))


@fault("deltas", cases=(1, 7, 30, 3_000))
def ghost_level(day: RawDay, steps: int) -> RawDay:
    """A level that nobody sent stands some steps behind the best bid."""
    bid, _ = touch_at(day, day.middle_ns)
    return _inserted(day, [(True, bid - steps * _tick(day))], _usual_size(day) * 1.5)


@fault("deltas")
def ghost_levels_everywhere(day: RawDay) -> RawDay:
    """A message holds a hundred levels that nobody sent, fifty a side."""
    bid, ask = touch_at(day, day.middle_ns)
    step = _tick(day)
    levels = [(True, bid - k * step) for k in range(1, 51)]
    levels += [(False, ask + k * step) for k in range(1, 51)]
    return _inserted(day, levels, _usual_size(day))


@fault("deltas", cases=(1e18, 9.3e18))
def price_beyond_int64(day: RawDay, price: float) -> RawDay:
    """A level that nobody sent has a price that no int64 number of steps holds."""
    return _inserted(day, [(False, price)], _usual_size(day))


@fault("deltas", cases=("price", "size", "side_is_bid", NUMBER, RECEIPT, ORIGIN))
def value_missing(day: RawDay, column: str) -> RawDay:
    """One value is null."""
    null = pl.lit(None, day.deltas.schema[column])
    return day.where("deltas", _one(day, row_at(day, "touch")), **{column: null})


@fault("deltas")
def one_percent_of_sizes_wrong(day: RawDay) -> RawDay:
    """One size in a hundred is that of another row."""
    rows = day.deltas
    drawn = np.random.default_rng(SEED).random(rows.height) < 0.01
    sized = (rows["size"] > 0).to_numpy()
    return day.where("deltas", drawn & sized, size=pl.col("size").shift(100, fill_value=1.0) + 1)
