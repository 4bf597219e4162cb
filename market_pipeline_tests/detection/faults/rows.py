"""Which rows of a day a fault spoils: at the touch, deep in the book, or for a moment only."""

from __future__ import annotations

import numpy as np
import polars as pl

from market_pipeline_tests.detection.faults.day import NUMBER, RECEIPT, BoolArray, RawDay

__all__ = ["WHERE", "is_near_touch", "row_at", "touch_at", "within_pause"]

WHERE = ("touch", "deep", "fleeting")
"""A level near the touch that the next snapshot shows; one below all snapshots; one at the touch
that the next snapshot shows no more."""

_SNAPSHOTS_LOOKED_AT = 2_000
_NEAR_LEVELS = 3


def within_pause(day: RawDay) -> BoolArray:
    """True in the delta rows of a pause at the day's place."""
    begin = day.middle_ns
    times = day.deltas[RECEIPT].to_numpy()
    inside: BoolArray = (times >= begin) & (times < begin + day.pause_ns)
    return inside


def touch_at(day: RawDay, ts_receipt_ns: int) -> tuple[float, float]:
    """Best bid and ask of the last snapshot at a time, or of the first one."""
    snapshots = day.snapshots.filter(pl.col(RECEIPT) <= ts_receipt_ns)
    row = (snapshots.tail(1) if snapshots.height else day.snapshots.head(1)).row(0, named=True)
    return row["bid_0_price"], row["ask_0_price"]


def is_near_touch(day: RawDay, share: float = 2e-4) -> BoolArray:
    """True in the delta rows whose price is near the touch of the middle of the day."""
    bid, ask = touch_at(day, day.middle_ns)
    middle = (bid + ask) / 2
    near: BoolArray = np.abs(day.deltas["price"].to_numpy() / middle - 1) < share
    return near


def row_at(day: RawDay, where: str, eligible: BoolArray | None = None) -> int:
    """The index of a delta row after the day's place, as `WHERE` says.

    `touch removal` is a row that removes a level near the touch which the next snapshot, too, does
    not show. Without any such row, the first sized row after the place.

    Args:
        day: Whose deltas.
        where: One of `WHERE`, or `touch removal`.
        eligible: bool (rows,), the rows it may be; all if None.
    """
    begin = day.messages.starts[day.messages.at(day.place)]
    later = day.deltas[int(begin) :]
    may_be = np.ones(later.height, np.bool_) if eligible is None else eligible[int(begin) :]
    if where == "deep":
        return int(begin) + _deep(day, later, may_be)
    snapshots = day.snapshots.filter(pl.col(NUMBER) >= later[NUMBER][0])
    snapshots = snapshots.head(_SNAPSHOTS_LOOKED_AT)
    numbers = later[NUMBER].to_numpy()
    is_bid, price, size = (later[name].to_numpy() for name in ("side_is_bid", "price", "size"))
    before = 0
    for place in range(1, snapshots.height):
        row = snapshots.row(place, named=True)
        then = snapshots.row(place - 1, named=True)
        end = int(np.searchsorted(numbers, row[NUMBER], side="right"))
        for at in np.flatnonzero(may_be[before:end]) + before:
            side = "bid" if is_bid[at] else "ask"
            shown = [row[f"{side}_{level}_price"] for level in range(20)]
            earlier = [then[f"{side}_{level}_price"] for level in range(20)]
            near = price[at] in shown[:_NEAR_LEVELS]
            was_near = price[at] in earlier[:_NEAR_LEVELS]
            found = {
                "touch": near and size[at] == row[f"{side}_{shown.index(price[at])}_size"]
                if near
                else False,
                "fleeting": size[at] > 0
                and price[at] not in shown
                and abs(price[at] / shown[0] - 1) < 2e-4,
                "touch removal": was_near and size[at] == 0 and price[at] not in shown,
            }[where]
            if found:
                return int(begin + at)
        before = end
    return int(begin) + int(np.flatnonzero((size > 0) & may_be)[0])


def _deep(day: RawDay, later: pl.DataFrame, may_be: BoolArray) -> int:
    """The first sized row well below every level that a snapshot shows."""
    lowest = float(day.snapshots["bid_19_price"].drop_nans().min() or 0)  # type: ignore[arg-type]
    highest = float(day.snapshots["ask_19_price"].drop_nans().max() or np.inf)  # type: ignore[arg-type]
    price, size = later["price"].to_numpy(), later["size"].to_numpy()
    sized = (size > 0) & may_be
    deep = sized & ((price < lowest) | (price > highest))
    rows = np.flatnonzero(deep if deep.any() else sized)
    return int(rows[0])
