"""Rows of `book` that do not show the book at their number: single ones and whole series."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from market_pipeline_tests.detection.faults.day import (
    LEVELS,
    MS,
    NUMBER,
    ORIGIN,
    RECEIPT,
    SECOND,
    BoolArray,
    IntArray,
    RawDay,
)
from market_pipeline_tests.detection.faults.registry import fault

__all__: list[str] = []

SEED = 17
IDENTITY = (ORIGIN, RECEIPT, NUMBER, "message", "shard")
CONTENT = tuple(
    f"{side}_{level}_{part}"
    for side in ("bid", "ask")
    for level in range(LEVELS)
    for part in ("price", "size")
)


def _at(day: RawDay) -> int:
    return int(day.snapshots.height * day.place)


def _one(day: RawDay, at: int | None = None) -> BoolArray:
    mask = np.zeros(day.snapshots.height, np.bool_)
    mask[_at(day) if at is None else at] = True
    return mask


def _later(day: RawDay) -> BoolArray:
    later: BoolArray = np.arange(day.snapshots.height) >= _at(day)
    return later


def _pause(day: RawDay) -> tuple[int, int]:
    """The first snapshot of a pause at the day's place, and the first after it."""
    times = day.snapshots[RECEIPT].to_numpy()
    begin = _at(day)
    return begin, int(np.searchsorted(times, times[begin] + day.pause_ns))


def _content_of(day: RawDay, shown: IntArray) -> RawDay:
    """The day whose snapshots show, under their own number and times, the levels of others."""
    rows = day.snapshots
    content = rows.select(CONTENT)[np.clip(shown, 0, rows.height - 1)]
    return day.put("snapshots", rows.with_columns(content.get_columns()))


def _order(day: RawDay) -> IntArray:
    return np.arange(day.snapshots.height, dtype=np.int64)


def _next_message(day: RawDay, by: int) -> RawDay:
    """Snapshots with the number and times of a message before or after their own."""
    messages = day.messages
    numbers = messages.first(NUMBER)
    own = np.searchsorted(numbers, day.snapshots[NUMBER].to_numpy())
    other = np.clip(own + by, 0, len(messages) - 1)
    return day.put(
        "snapshots",
        day.snapshots.with_columns(
            pl.Series(name, messages.first(name)[other]) for name in (ORIGIN, RECEIPT, NUMBER)
        ),
    )


@fault("snapshots", cases=(0.01, 0.5))
def snapshot_number_ten_times(day: RawDay, place: float) -> RawDay:
    """One snapshot has ten times its number."""
    at = int(day.snapshots.height * place)
    return day.where("snapshots", _one(day, at), **{NUMBER: pl.col(NUMBER) * 10})


@fault("snapshots", cases=(0, -1, 2**63 - 1, -(2**63)))
def snapshot_number_is_none(day: RawDay, number: int) -> RawDay:
    """One snapshot has a number that no message can have."""
    return day.where("snapshots", _one(day), **{NUMBER: pl.lit(number)})


@fault("snapshots", cases=(1, -1))
def snapshot_numbers_off_by_one(day: RawDay, by: int) -> RawDay:
    """All snapshots have a number that is off by one, which is no message's own."""
    return day.with_columns("snapshots", pl.col(NUMBER) + by)


@fault("snapshots", cases=(1, -1, 10))
def snapshots_of_another_message(day: RawDay, by: int) -> RawDay:
    """Each snapshot has the number and times of a message after or before the one it shows."""
    return _next_message(day, by)


@fault("snapshots")
def some_snapshots_of_another_message(day: RawDay) -> RawDay:
    """One snapshot in ten has the number and times of the message after the one it shows."""
    moved = _next_message(day, 1).snapshots
    late = np.random.default_rng(SEED).random(moved.height) < 0.1
    values = {name: pl.lit(moved[name]) for name in (ORIGIN, RECEIPT, NUMBER)}
    return day.where("snapshots", late, **values)


@fault("snapshots", cases=("pause", "for good"))
def snapshots_frozen(day: RawDay, how_long: str) -> RawDay:
    """Snapshots go on showing the levels of one of them, with numbers and times of their own."""
    begin, end = _pause(day)
    shown = _order(day)
    shown[begin : end if how_long == "pause" else None] = begin
    return _content_of(day, shown)


@fault("snapshots")
def snapshots_frozen_whole(day: RawDay) -> RawDay:
    """For a pause one snapshot comes again and again, with its old number and times."""
    begin, end = _pause(day)
    order = _order(day)
    order[begin:end] = begin
    return day.put("snapshots", day.snapshots[order])


@fault("snapshots")
def snapshots_lag(day: RawDay) -> RawDay:
    """Every snapshot shows the levels of a pause before, with its own number and times."""
    begin, end = _pause(day)
    return _content_of(day, _order(day) - (end - begin))


@fault("snapshots", cases=(1, 3))
def snapshots_lag_a_little(day: RawDay, by: int) -> RawDay:
    """Every snapshot shows the levels of an earlier one, with its own number and times."""
    return _content_of(day, _order(day) - by)


@fault("snapshots", cases=(1, 100))
def stale_snapshot(day: RawDay, by: int) -> RawDay:
    """One snapshot shows the levels of an earlier one."""
    shown = _order(day)
    shown[_at(day)] -= by
    return _content_of(day, shown)


@fault("snapshots")
def two_snapshots_exchanged(day: RawDay) -> RawDay:
    """Two snapshots that are 50 apart show each other's levels."""
    shown = _order(day)
    shown[[_at(day), _at(day) + 50]] = shown[[_at(day) + 50, _at(day)]]
    return _content_of(day, shown)


@fault("snapshots", cases=(0, 5, 19))
def snapshot_size_wrong(day: RawDay, level: int) -> RawDay:
    """One size of one snapshot is twice itself."""
    name = f"bid_{level}_size"
    return day.where("snapshots", _one(day), **{name: pl.col(name) * 2})


@fault("snapshots", cases=(0, 19))
def snapshot_price_wrong(day: RawDay, level: int) -> RawDay:
    """One price of one snapshot is an eighth of a thousandth away from the touch."""
    name = f"ask_{level}_price"
    return day.where("snapshots", _one(day), **{name: (pl.col(name) * 1.000125).round(1)})


@fault("snapshots")
def snapshot_level_missing(day: RawDay) -> RawDay:
    """One snapshot lacks its third bid; those behind have moved up, and the last stands twice."""
    moved = {
        f"bid_{level}_{part}": pl.col(f"bid_{min(level + 1, LEVELS - 1)}_{part}")
        for level in range(2, LEVELS)
        for part in ("price", "size")
    }
    return day.where("snapshots", _one(day), **moved)


@fault("snapshots", cases=("seed", "all"))
def snapshot_levels_random(day: RawDay, which: str) -> RawDay:
    """The first snapshot, or one in ten, has a wrong size at its best bid."""
    drawn = np.random.default_rng(SEED).random(day.snapshots.height) < 0.1
    chosen = _one(day, 0) if which == "seed" else drawn
    return day.where("snapshots", chosen, bid_0_size=pl.col("bid_0_size") * 3)


@fault("snapshots", cases=("one", "all", "seed"))
def snapshot_sides_exchanged(day: RawDay, which: str) -> RawDay:
    """A snapshot has its asks in the place of its bids, or all have."""
    chosen = {"one": _one(day), "all": _order(day) >= 0, "seed": _one(day, 0)}[which]
    return day.where("snapshots", chosen, **_mirrored(pl.col))


def _mirrored(value: Callable[[str], pl.Expr]) -> dict[str, pl.Expr]:
    other = {"bid": "ask", "ask": "bid"}
    return {name: value(other[name[:3]] + name[3:]) for name in CONTENT}


@fault("snapshots", cases=("one", "all"))
def snapshot_sizes_scaled(day: RawDay, which: str) -> RawDay:
    """All sizes of a snapshot, or of all, are a thousand times as large."""
    chosen = _one(day) if which == "one" else _order(day) >= 0
    sizes = [name for name in CONTENT if name.endswith("size")]
    return day.where("snapshots", chosen, **{name: pl.col(name) * 1_000 for name in sizes})


@fault("snapshots", cases=("one", "all"))
def snapshot_prices_scaled(day: RawDay, which: str) -> RawDay:
    """All prices of a snapshot, or of all, are ten times as high."""
    chosen = _one(day) if which == "one" else _order(day) >= 0
    prices = [name for name in CONTENT if name.endswith("price")]
    return day.where("snapshots", chosen, **{name: pl.col(name) * 10 for name in prices})


@fault("snapshots")
def snapshot_prices_through_float32(day: RawDay) -> RawDay:
    """All prices of snapshots went through 32-bit floats."""
    prices = [name for name in CONTENT if name.endswith("price")]
    return day.with_columns("snapshots", pl.col(prices).cast(pl.Float32).cast(pl.Float64))


@fault("snapshots", harmless=True)
def snapshots_twice(day: RawDay) -> RawDay:
    """Every snapshot stands twice."""
    return day.put("snapshots", day.snapshots[np.repeat(_order(day), 2)])


@fault("snapshots", cases=("first half", "second half", "all but first", "all", "a pause"))
def snapshots_missing(day: RawDay, which: str) -> RawDay:
    """Snapshots are missing for a part of the day, or for all of it."""
    rows, middle = day.snapshots, _at(day)
    begin, end = _pause(day)
    kept = {
        "first half": rows[middle:],
        "second half": rows[:middle],
        "all but first": rows[:1],
        "all": rows[:0],
        "a pause": pl.concat([rows[:begin], rows[end:]]),
    }
    return day.put("snapshots", kept[which])


@fault("snapshots", harmless=True)
def snapshots_sparse(day: RawDay) -> RawDay:
    """Only one snapshot in 200 is there."""
    return day.put("snapshots", day.snapshots.gather_every(200))


@fault("snapshots", cases=("one", "seed"))
def snapshot_crossed(day: RawDay, which: str) -> RawDay:
    """In one snapshot the best bid is above the best ask."""
    chosen = _one(day) if which == "one" else _one(day, 0)
    return day.where("snapshots", chosen, bid_0_price=pl.col("ask_3_price"))


@fault("snapshots", cases=("nan", "zero", "null"))
def snapshot_shallow(day: RawDay, filler: str) -> RawDay:
    """All snapshots have five levels a side; what lies behind is filled up."""
    value = {"nan": pl.lit(float("nan")), "zero": pl.lit(0.0), "null": pl.lit(None, pl.Float64)}
    behind = [name for name in CONTENT if int(name.split("_")[1]) >= 5]
    return day.with_columns("snapshots", *(value[filler].alias(name) for name in behind))


@fault("snapshots", cases=("nan", "zero"))
def snapshot_side_empty(day: RawDay, filler: str) -> RawDay:
    """One snapshot has no asks."""
    value = {"nan": pl.lit(float("nan")), "zero": pl.lit(0.0)}[filler]
    asks = [name for name in CONTENT if name.startswith("ask")]
    return day.where("snapshots", _one(day), **dict.fromkeys(asks, value))


@fault("snapshots")
def snapshot_levels_unsorted(day: RawDay) -> RawDay:
    """In one snapshot the fourth and fifth bid stand in each other's place."""
    names = {f"bid_3_{part}": f"bid_4_{part}" for part in ("price", "size")}
    exchanged = {one: pl.col(other) for one, other in names.items()}
    exchanged |= {other: pl.col(one) for one, other in names.items()}
    return day.where("snapshots", _one(day), **exchanged)


@fault("snapshots")
def snapshot_level_twice(day: RawDay) -> RawDay:
    """In one snapshot the second bid has the price of the first."""
    return day.where("snapshots", _one(day), bid_1_price=pl.col("bid_0_price"))


@fault("snapshots")
def snapshot_size_zero(day: RawDay) -> RawDay:
    """In one snapshot the best bid has the size 0."""
    return day.where("snapshots", _one(day), bid_0_size=pl.lit(0.0))


@fault("snapshots", cases=("reversed", "shuffled"))
def snapshots_in_another_order(day: RawDay, order: str) -> RawDay:
    """The rows of snapshots stand in reverse, or in any order."""
    rows = _order(day)[::-1].copy()
    if order == "shuffled":
        np.random.default_rng(SEED).shuffle(rows)
    return day.put("snapshots", day.snapshots[rows])


@fault("snapshots", cases=("zero", "stuck", "elsewhere", "counted"))
def snapshot_numbers_of_their_own(day: RawDay, numbers: str) -> RawDay:
    """All snapshots have numbers that are not those of the messages they show."""
    value = {
        "zero": pl.lit(0, pl.Int64),
        "stuck": pl.col(NUMBER).first(),
        "elsewhere": pl.col(NUMBER) - 1_000_000_000,
        "counted": pl.int_range(pl.len()) + 1,
    }[numbers]
    return day.with_columns("snapshots", value.alias(NUMBER))


@fault("snapshots")
def snapshot_numbers_stuck_for_a_pause(day: RawDay) -> RawDay:
    """For a pause all snapshots have the number of the first of it; what they show is right."""
    begin, end = _pause(day)
    stuck = (_order(day) >= begin) & (_order(day) < end)
    return day.where("snapshots", stuck, **{NUMBER: pl.lit(int(day.snapshots[NUMBER][begin]))})


@fault("snapshots", cases=("stale", "corrupt", "shallow"))
def seed_wrong(day: RawDay, how: str) -> RawDay:
    """The first snapshot shows a later book, has all sizes twice, or only its best levels."""
    if how == "stale":
        shown = _order(day)
        shown[0] = _at(day)
        return _content_of(day, shown)
    names = [name for name in CONTENT if name.endswith("size")]
    if how == "corrupt":
        return day.where("snapshots", _one(day, 0), **{name: pl.col(name) * 2 for name in names})
    behind = [name for name in CONTENT if int(name.split("_")[1]) >= 1]
    return day.where("snapshots", _one(day, 0), **dict.fromkeys(behind, pl.lit(float("nan"))))


@fault("snapshots", cases=(50, -50, 2_000))
def snapshot_stamps_moved(day: RawDay, by_ms: int) -> RawDay:
    """All snapshots are received some milliseconds before or after their message."""
    return day.with_columns("snapshots", pl.col(RECEIPT) + by_ms * MS)


@fault("snapshots", cases=("hour ahead", "day ahead", "day back", "zero", "int64 max", "us"))
def snapshot_stamp_wrong(day: RawDay, how: str) -> RawDay:
    """One snapshot has a receipt stamp far from its own."""
    value = {
        "hour ahead": pl.col(RECEIPT) + 3_600 * SECOND,
        "day ahead": pl.col(RECEIPT) + 86_400 * SECOND,
        "day back": pl.col(RECEIPT) - 86_400 * SECOND,
        "zero": pl.lit(0),
        "int64 max": pl.lit(2**63 - 1),
        "us": pl.col(RECEIPT) // 1_000,
    }[how]
    early = int(day.snapshots.height * 0.05)
    return day.where("snapshots", _one(day, early), **{RECEIPT: value})


@fault("snapshots", cases=("zero", "us", "day back", "stuck"))
def all_snapshot_stamps_wrong(day: RawDay, how: str) -> RawDay:
    """All snapshots have receipt stamps that are not the time; their numbers are right."""
    value = {
        "zero": pl.lit(0, pl.Int64),
        "us": pl.col(RECEIPT) // 1_000,
        "day back": pl.col(RECEIPT) - 86_400 * SECOND,
        "stuck": pl.col(RECEIPT).first(),
    }[how]
    return day.with_columns("snapshots", value.alias(RECEIPT))


@fault("snapshots", cases=("zero", "hours ahead", "us"))
def all_snapshot_origin_stamps_wrong(day: RawDay, how: str) -> RawDay:
    """All snapshots have exchange stamps that are not the time."""
    value = {
        "zero": pl.lit(0, pl.Int64),
        "hours ahead": pl.col(ORIGIN) + 5 * 3_600 * SECOND,
        "us": pl.col(ORIGIN) // 1_000,
    }[how]
    return day.with_columns("snapshots", value.alias(ORIGIN))
