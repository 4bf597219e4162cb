"""Sequence numbers of the deltas: single ones, runs, restarts, and numbers of another kind."""

from __future__ import annotations

import numpy as np
import polars as pl

from market_pipeline_tests.detection.faults.day import NUMBER, BoolArray, RawDay
from market_pipeline_tests.detection.faults.registry import fault
from market_pipeline_tests.detection.faults.rows import within_pause

__all__: list[str] = []

SEED = 23
RUN = 50
FAR_NUMBERS = (
    "ten times",
    "twice",
    "zero",
    "one",
    "negative",
    "int64 max",
    "int64 min",
    "million ahead",
    "million back",
    "one ahead",
    "one back",
)


def _number(how: str) -> pl.Expr:
    """A number that is not the message's own, from the one that is."""
    return {
        "ten times": pl.col(NUMBER) * 10,
        "twice": pl.col(NUMBER) * 2,
        "zero": pl.lit(0),
        "one": pl.lit(1),
        "negative": -pl.col(NUMBER),
        "int64 max": pl.lit(2**63 - 1),
        "int64 min": pl.lit(-(2**63)),
        "million ahead": pl.col(NUMBER) + 10**9,
        "million back": pl.col(NUMBER) - 10**9,
        "one ahead": pl.col(NUMBER) + 1,
        "one back": pl.col(NUMBER) - 1,
    }[how]


def _run(day: RawDay, count: int, place: float | None = None) -> BoolArray:
    messages = day.messages
    begin = messages.at(day.place if place is None else place)
    return messages.mask(range(begin, min(begin + count, len(messages))))


def _from_number(day: RawDay, place: float) -> pl.Expr:
    """True in the rows whose number is that of a message at a place of the day, or higher."""
    return pl.col(NUMBER) >= int(day.messages.first(NUMBER)[day.messages.at(place)])


def _restarted(day: RawDay, tables: tuple[str, ...], place: float = 0.5) -> RawDay:
    """Numbers begin again at a small one in the middle; times go on."""
    begin = int(day.messages.first(NUMBER)[day.messages.at(place)])
    for table in tables:
        chosen = pl.col(NUMBER) >= begin
        day = day.where(table, chosen, **{NUMBER: pl.col(NUMBER) - begin + 1_000})
    return day


@fault("deltas", cases=FAR_NUMBERS)
def number_wrong(day: RawDay, how: str) -> RawDay:
    """One message has a number that is not its own."""
    return day.where("deltas", _run(day, 1), **{NUMBER: _number(how)})


@fault("deltas", cases=("ten times", "zero", "int64 max"))
def first_number_wrong(day: RawDay, how: str) -> RawDay:
    """The first message has a number that is not its own."""
    return day.where("deltas", _run(day, 1, 0.0), **{NUMBER: _number(how)})


@fault("deltas", cases=("ten times", "zero"))
def last_number_wrong(day: RawDay, how: str) -> RawDay:
    """The last message has a number that is not its own."""
    return day.where("deltas", _run(day, 1, 1.0), **{NUMBER: _number(how)})


@fault("deltas", cases=("ten times", "zero", "million back", "million ahead", "negative"))
def run_of_numbers_wrong(day: RawDay, how: str) -> RawDay:
    """Fifty messages in a row have numbers that are not their own."""
    return day.where("deltas", _run(day, RUN), **{NUMBER: _number(how)})


@fault("deltas", cases=("ten times", "zero"))
def many_numbers_wrong(day: RawDay, how: str) -> RawDay:
    """One message in a hundred has a number that is not its own."""
    messages = day.messages
    drawn = np.random.default_rng(SEED).random(len(messages)) < 0.01
    return day.where("deltas", messages.mask_of(drawn), **{NUMBER: _number(how)})


@fault("deltas", cases=("pause", "for good"))
def numbers_stuck(day: RawDay, how_long: str) -> RawDay:
    """All messages have the same number, for a pause or to the end of the day."""
    messages = day.messages
    begin = int(messages.first(NUMBER)[messages.at(day.place)])
    later = np.arange(day.deltas.height) >= messages.starts[messages.at(day.place)]
    stuck = within_pause(day) if how_long == "pause" else later
    return day.where("deltas", stuck, **{NUMBER: pl.lit(begin)})


@fault("deltas", "snapshots", harmless=True)
def numbers_restart(day: RawDay) -> RawDay:
    """The numbers of deltas and snapshots begin again in the middle; no message is lost."""
    return _restarted(day, ("deltas", "snapshots"))


@fault("deltas", "snapshots")
def numbers_restart_after_a_loss(day: RawDay) -> RawDay:
    """Fifty messages are lost and the numbers of deltas and snapshots begin again."""
    restarted = _restarted(day, ("deltas", "snapshots"))
    messages = restarted.messages
    begin = messages.at(0.5)
    return restarted.put(
        "deltas", messages.take(np.setdiff1d(np.arange(len(messages)), begin + np.arange(RUN)))
    )


@fault("deltas", "snapshots", harmless=True)
def numbers_restart_twice(day: RawDay) -> RawDay:
    """The numbers of deltas and snapshots begin again two times; no message is lost."""
    numbers = day.messages.first(NUMBER)
    first, second = (int(numbers[day.messages.at(place)]) for place in (0.4, 0.7))
    number = pl.col(NUMBER)
    value = (
        pl.when(number >= second)
        .then(number - second + 1_000)
        .when(number >= first)
        .then(number - first + 1_000)
        .otherwise(number)
    )
    for table in ("deltas", "snapshots"):
        day = day.with_columns(table, value.alias(NUMBER))
    return day


@fault("deltas")
def numbers_of_deltas_restart(day: RawDay) -> RawDay:
    """The numbers of the deltas begin again in the middle, those of the snapshots do not."""
    return _restarted(day, ("deltas",))


@fault("snapshots")
def numbers_of_snapshots_restart(day: RawDay) -> RawDay:
    """The numbers of the snapshots begin again in the middle, those of the deltas do not."""
    return _restarted(day, ("snapshots",))


@fault("deltas", "snapshots", harmless=True)
def numbers_jump_ahead(day: RawDay) -> RawDay:
    """The numbers of deltas and snapshots jump far ahead in the middle; no message is lost."""
    chosen = _from_number(day, 0.5)
    for table in ("deltas", "snapshots"):
        day = day.where(table, chosen, **{NUMBER: pl.col(NUMBER) + 10**12})
    return day


@fault("deltas")
def numbers_of_deltas_jump_ahead(day: RawDay) -> RawDay:
    """The numbers of the deltas jump far ahead in the middle, those of the snapshots do not."""
    return day.where("deltas", _from_number(day, 0.5), **{NUMBER: pl.col(NUMBER) + 10**12})


@fault("deltas", "snapshots")
def numbers_wrapped_to_32_bits(day: RawDay) -> RawDay:
    """All numbers are kept in 32 bits, and begin again in the middle of the day."""
    begin = int(day.messages.first(NUMBER)[day.messages.at(0.5)])
    for table in ("deltas", "snapshots"):
        day = day.with_columns(table, ((pl.col(NUMBER) - begin) % 2**32).alias(NUMBER))
    return day


@fault("deltas", cases=("zero", "counted", "descending", "negative"))
def numbers_of_another_kind(day: RawDay, how: str) -> RawDay:
    """All numbers of the deltas are something else than the exchange's."""
    numbers = day.deltas[NUMBER]
    value = {
        "zero": pl.lit(0, pl.Int64),
        "counted": pl.col("message") + 1,
        "descending": int(numbers.max()) - pl.col(NUMBER),  # type: ignore[arg-type]
        "negative": -pl.col(NUMBER),
    }[how]
    return day.with_columns("deltas", value.alias(NUMBER))


@fault("deltas", "snapshots")
def numbers_through_float32(day: RawDay) -> RawDay:
    """All numbers went through 32-bit floats, so that neighbouring messages share theirs."""
    rounded = pl.col(NUMBER).cast(pl.Float32).cast(pl.Float64).cast(pl.Int64)
    return day.with_columns("deltas", rounded).with_columns("snapshots", rounded)


@fault("deltas")
def numbers_off_by_one(day: RawDay) -> RawDay:
    """From the middle on all numbers of the deltas are one higher."""
    return day.where("deltas", _from_number(day, 0.5), **{NUMBER: pl.col(NUMBER) + 1})


@fault("deltas")
def numbers_one_message_late(day: RawDay) -> RawDay:
    """From the middle on every message has the number of the one before it."""
    messages = day.messages
    numbers = messages.first(NUMBER)
    at = messages.at(0.5)
    moved = np.concatenate([numbers[: at + 1], numbers[at:-1]])
    lengths = messages.ends - messages.starts
    return day.put("deltas", day.deltas.with_columns(pl.Series(NUMBER, np.repeat(moved, lengths))))


@fault("deltas")
def numbers_of_two_messages_exchanged(day: RawDay) -> RawDay:
    """Two neighbouring messages have each other's number; they stand in order."""
    messages = day.messages
    at = messages.at(day.place)
    first, second = (int(each) for each in messages.first(NUMBER)[[at, at + 1]])
    day = day.where("deltas", messages.mask([at]), **{NUMBER: pl.lit(second)})
    return day.where("deltas", day.messages.mask([at + 1]), **{NUMBER: pl.lit(first)})


@fault("deltas", cases=(1, 20))
def number_of_an_earlier_message(day: RawDay, by: int) -> RawDay:
    """One message has the number of an earlier one."""
    messages = day.messages
    at = messages.at(day.place)
    number = int(messages.first(NUMBER)[at - by])
    return day.where("deltas", messages.mask([at]), **{NUMBER: pl.lit(number)})


@fault("deltas", cases=(20,))
def number_of_a_later_message(day: RawDay, by: int) -> RawDay:
    """One message has a number above that of a later one, so that those between look old."""
    messages = day.messages
    at = messages.at(day.place)
    number = int(messages.first(NUMBER)[at + by]) + 1
    return day.where("deltas", messages.mask([at]), **{NUMBER: pl.lit(number)})
