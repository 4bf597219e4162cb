"""Messages that are not whole: rows lost, repeated or moved, messages split and joined."""

from __future__ import annotations

import numpy as np
import polars as pl

from market_pipeline_tests.detection.faults.day import MS, NUMBER, ORIGIN, RECEIPT, RawDay
from market_pipeline_tests.detection.faults.registry import fault
from market_pipeline_tests.detection.faults.rows import WHERE, row_at, within_pause

__all__: list[str] = []

SEED = 11


def _long_message(day: RawDay, least: int = 4) -> int:
    """The first message at the day's place that has some rows."""
    messages = day.messages
    lengths = messages.ends - messages.starts
    later = np.flatnonzero(lengths[messages.at(day.place) :] >= least)
    return messages.at(day.place) + int(later[0])


def _second_half(day: RawDay) -> np.ndarray:
    """True in the second half of the rows of a message."""
    messages = day.messages
    at = _long_message(day)
    mask = messages.mask([at])
    mask[: (messages.starts[at] + messages.ends[at]) // 2] = False
    return mask


@fault("deltas", cases=WHERE)
def row_lost(day: RawDay, where: str) -> RawDay:
    """One row of a message is not there."""
    mask = np.zeros(day.deltas.height, np.bool_)
    mask[row_at(day, where)] = True
    return day.without("deltas", mask)


@fault("deltas")
def one_percent_of_rows_lost(day: RawDay) -> RawDay:
    """One row in a hundred is not there; no message is lost whole but for those of one row."""
    return day.without("deltas", np.random.default_rng(SEED).random(day.deltas.height) < 0.01)


@fault("deltas")
def last_rows_of_messages_lost(day: RawDay) -> RawDay:
    """Of the messages of a pause only the first half of the rows is there."""
    messages = day.messages
    inside = within_pause(day)[messages.starts]
    place = np.arange(day.deltas.height) - np.repeat(
        messages.starts, messages.ends - messages.starts
    )
    lengths = np.repeat(messages.ends - messages.starts, messages.ends - messages.starts)
    return day.without("deltas", messages.mask_of(inside) & (place >= (lengths + 1) // 2))


@fault("deltas", cases=("same size", "other size"))
def row_twice(day: RawDay, size: str) -> RawDay:
    """A row of a message stands twice in it, the second time with its size or with another."""
    at = row_at(day, "touch")
    rows = day.deltas
    again = rows[at : at + 1]
    if size == "other size":
        again = again.with_columns(pl.col("size") * 2)
    return day.put("deltas", pl.concat([rows[: at + 1], again, rows[at + 1 :]]))


@fault("deltas")
def row_in_the_next_message(day: RawDay) -> RawDay:
    """A row of a message stands in the next one."""
    messages = day.messages
    at = row_at(day, "touch")
    of = int(np.searchsorted(messages.starts, at, side="right")) - 1
    behind = int(messages.ends[of])
    rows = day.deltas
    moved = rows[at : at + 1].with_columns(
        pl.lit(rows[name][behind], pl.Int64).alias(name)
        for name in (ORIGIN, RECEIPT, NUMBER, "message")
    )
    rest = pl.concat([rows[:at], rows[at + 1 : behind], moved, rows[behind:]])
    return day.put("deltas", rest)


@fault("deltas")
def removals_lost(day: RawDay) -> RawDay:
    """No removal of a level is there for a pause, so that levels that are gone stay."""
    return day.without("deltas", within_pause(day) & (day.deltas["size"] == 0).to_numpy())


@fault("deltas")
def new_levels_lost(day: RawDay) -> RawDay:
    """Only removals of levels are there for a pause."""
    return day.without("deltas", within_pause(day) & (day.deltas["size"] > 0).to_numpy())


@fault("deltas", cases=("bids", "asks"))
def side_lost_for_a_pause(day: RawDay, side: str) -> RawDay:
    """No row of one side is there for a pause."""
    of_side = day.deltas["side_is_bid"].to_numpy() == (side == "bids")
    return day.without("deltas", within_pause(day) & of_side)


@fault("deltas", cases=("bids", "asks"))
def side_lost_for_good(day: RawDay, side: str) -> RawDay:
    """No row of one side is there from the middle on."""
    of_side = day.deltas["side_is_bid"].to_numpy() == (side == "bids")
    later = np.arange(day.deltas.height) >= day.messages.starts[day.messages.at(day.place)]
    return day.without("deltas", later & of_side)


@fault("deltas")
def removal_lost_at_the_touch(day: RawDay) -> RawDay:
    """The row that removes a best level is not there."""
    mask = np.zeros(day.deltas.height, np.bool_)
    mask[row_at(day, "touch removal")] = True
    return day.without("deltas", mask)


@fault("deltas", harmless=True)
def rows_of_messages_reordered(day: RawDay) -> RawDay:
    """The rows of every message stand in another order, which changes no level."""
    drawn = pl.Series("drawn", np.random.default_rng(SEED).random(day.deltas.height))
    runs = day.deltas.with_columns(drawn, run=pl.col("message").rle_id())
    return day.put("deltas", runs.sort("run", "drawn").drop("run", "drawn"))


@fault("deltas", harmless=True)
def messages_conflated(day: RawDay) -> RawDay:
    """For a pause every two messages come as one, with the number and times of the second."""
    messages = day.messages
    inside = np.flatnonzero(within_pause(day)[messages.starts])
    firsts = inside[:-1:2]
    rows = day.deltas.with_columns(
        pl.Series(name, _of_second(day, firsts, name))
        for name in (ORIGIN, RECEIPT, NUMBER, "message")
    )
    # Of a level that both set, the second message has the last word, as it stands behind.
    return day.put("deltas", rows)


def _of_second(day: RawDay, firsts: np.ndarray, name: str) -> np.ndarray:
    """A column in which some messages have the value of the one after them."""
    messages = day.messages
    values = messages.first(name).copy()
    values[firsts] = values[firsts + 1]
    return np.repeat(values, messages.ends - messages.starts)


@fault("deltas")
def two_messages_joined(day: RawDay) -> RawDay:
    """A message has the number and times of the one before it, so that both look like one."""
    messages = day.messages
    at = messages.at(day.place)
    before = {name: pl.lit(int(messages.first(name)[at - 1])) for name in (ORIGIN, RECEIPT, NUMBER)}
    return day.where("deltas", messages.mask([at]), **before)


@fault("deltas")
def message_split_by_stamp(day: RawDay) -> RawDay:
    """The second half of a message has a receipt stamp one millisecond later."""
    return day.where("deltas", _second_half(day), **{RECEIPT: pl.col(RECEIPT) + MS})


@fault("deltas")
def message_split_by_bad_stamp(day: RawDay) -> RawDay:
    """One row in the middle of a message has a receipt stamp of a day before."""
    mask = np.zeros(day.deltas.height, np.bool_)
    mask[int(np.flatnonzero(_second_half(day))[0])] = True
    return day.where("deltas", mask, **{RECEIPT: pl.col(RECEIPT) - 86_400_000 * MS})


@fault("deltas")
def message_split_by_number(day: RawDay) -> RawDay:
    """The second half of a message has a number one higher."""
    return day.where("deltas", _second_half(day), **{NUMBER: pl.col(NUMBER) + 1})


@fault("deltas")
def message_split_by_bad_number(day: RawDay) -> RawDay:
    """One row in the middle of a message has ten times its number."""
    mask = np.zeros(day.deltas.height, np.bool_)
    mask[int(np.flatnonzero(_second_half(day))[0])] = True
    return day.where("deltas", mask, **{NUMBER: pl.col(NUMBER) * 10})


@fault("deltas")
def messages_interleaved(day: RawDay) -> RawDay:
    """The rows of two neighbouring messages stand by turns."""
    messages = day.messages
    lengths = messages.ends - messages.starts
    begin = messages.at(day.place)
    both = np.minimum(lengths[begin:-1], lengths[begin + 1 :]) >= 3
    at = begin + int(np.flatnonzero(both)[0])
    first = np.arange(messages.starts[at], messages.ends[at])
    second = np.arange(messages.starts[at + 1], messages.ends[at + 1])
    rank = np.concatenate([2 * np.arange(first.size), 2 * np.arange(second.size) + 1])
    mixed = np.concatenate([first, second])[np.argsort(rank, kind="stable")]
    order = np.arange(day.deltas.height)
    order[first[0] : second[-1] + 1] = mixed
    return day.put("deltas", day.deltas[order])


@fault("deltas")
def every_message_in_two(day: RawDay) -> RawDay:
    """From the middle on the second half of every message is received 256 ns later."""
    messages = day.messages
    lengths = messages.ends - messages.starts
    place = np.arange(day.deltas.height) - np.repeat(messages.starts, lengths)
    late = place >= np.repeat((lengths + 1) // 2, lengths)
    late[: messages.starts[messages.at(day.place)]] = False
    return day.where("deltas", late, **{RECEIPT: pl.col(RECEIPT) + 256})
