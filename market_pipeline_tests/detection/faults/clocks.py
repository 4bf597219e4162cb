"""Receipt and exchange clocks of the deltas, or of all tables: single stamps, runs and drifts."""

from __future__ import annotations

import numpy as np
import polars as pl

from market_pipeline_tests.detection.faults.day import (
    DAY_NS,
    MS,
    ORIGIN,
    RECEIPT,
    SECOND,
    TABLES,
    BoolArray,
    RawDay,
    midnight_ns,
)
from market_pipeline_tests.detection.faults.registry import fault
from market_pipeline_tests.detection.faults.rows import within_pause

__all__: list[str] = []

SEED = 19
HOUR = 3_600 * SECOND
RUN = 50
FAR_STAMPS = (
    "hour ahead",
    "hour back",
    "day ahead",
    "day back",
    "last second",
    "midnight",
    "zero",
    "one",
    "negative",
    "int64 max",
    "int64 min",
    "us",
    "ms",
    "s",
    "400 ms ahead",
    "400 ms back",
)


def _stamp(day: RawDay, column: str, how: str) -> pl.Expr:
    """A stamp that is not the time, from the one that is."""
    last_second = midnight_ns(day.day) + DAY_NS - SECOND
    return {
        "hour ahead": pl.col(column) + HOUR,
        "hour back": pl.col(column) - HOUR,
        "day ahead": pl.col(column) + DAY_NS,
        "day back": pl.col(column) - DAY_NS,
        "last second": pl.lit(last_second),
        "midnight": pl.lit(midnight_ns(day.day)),
        "zero": pl.lit(0),
        "one": pl.lit(1),
        "negative": -pl.col(column),
        "int64 max": pl.lit(2**63 - 1),
        "int64 min": pl.lit(-(2**63)),
        "us": pl.col(column) // 1_000,
        "ms": pl.col(column) // 1_000_000,
        "s": pl.col(column) // SECOND,
        "400 ms ahead": pl.col(column) + 400 * MS,
        "400 ms back": pl.col(column) - 400 * MS,
    }[how]


def _run(day: RawDay, count: int, place: float | None = None) -> BoolArray:
    """True in the rows of some messages in a row."""
    messages = day.messages
    begin = messages.at(day.place if place is None else place)
    return messages.mask(range(begin, min(begin + count, len(messages))))


def _later(day: RawDay, table: str) -> pl.Expr:
    return pl.col(RECEIPT) >= day.middle_ns


def _all_tables(day: RawDay, column: str, value: pl.Expr) -> RawDay:
    for table in TABLES:
        day = day.with_columns(table, value.alias(column))
    return day


@fault("deltas", cases=FAR_STAMPS)
def receipt_stamp_wrong(day: RawDay, how: str) -> RawDay:
    """One message has a receipt stamp that is not the time."""
    return day.where("deltas", _run(day, 1), **{RECEIPT: _stamp(day, RECEIPT, how)})


@fault("deltas", cases=("hour back", "day back", "zero", "hour ahead", "int64 min"))
def first_receipt_stamp_wrong(day: RawDay, how: str) -> RawDay:
    """The first message has a receipt stamp that is not the time."""
    return day.where("deltas", _run(day, 1, 0.0), **{RECEIPT: _stamp(day, RECEIPT, how)})


@fault("deltas", cases=("hour ahead", "last second", "day ahead", "zero", "int64 max"))
def last_receipt_stamp_wrong(day: RawDay, how: str) -> RawDay:
    """The last message has a receipt stamp that is not the time."""
    return day.where("deltas", _run(day, 1, 1.0), **{RECEIPT: _stamp(day, RECEIPT, how)})


@fault("deltas", cases=("hour ahead", "hour back", "zero", "last second", "us", "400 ms back"))
def run_of_receipt_stamps_wrong(day: RawDay, how: str) -> RawDay:
    """Fifty messages in a row have receipt stamps that are not the time."""
    return day.where("deltas", _run(day, RUN), **{RECEIPT: _stamp(day, RECEIPT, how)})


@fault("deltas", cases=("hour ahead", "zero", "day back"))
def many_receipt_stamps_wrong(day: RawDay, how: str) -> RawDay:
    """One message in a hundred has a receipt stamp that is not the time."""
    messages = day.messages
    drawn = np.random.default_rng(SEED).random(len(messages)) < 0.01
    mask = messages.mask_of(drawn)
    return day.where("deltas", mask, **{RECEIPT: _stamp(day, RECEIPT, how)})


@fault("deltas")
def receipt_stamps_of_two_messages_exchanged(day: RawDay) -> RawDay:
    """Two neighbouring messages have each other's receipt stamp."""
    messages = day.messages
    at = messages.at(day.place)
    first, second = (int(each) for each in messages.first(RECEIPT)[[at, at + 1]])
    day = day.where("deltas", messages.mask([at]), **{RECEIPT: pl.lit(second)})
    return day.where("deltas", day.messages.mask([at + 1]), **{RECEIPT: pl.lit(first)})


@fault(*TABLES, cases=(300, -300, 3_600_000, -3_600_000))
def receipt_clock_step(day: RawDay, by_ms: int) -> RawDay:
    """The receipt clock of all tables is set forward or back in the middle of the day."""
    at = day.middle_ns
    moved = pl.col(RECEIPT) + pl.when(pl.col(RECEIPT) >= at).then(by_ms * MS).otherwise(0)
    return _all_tables(day, RECEIPT, moved)


@fault(*TABLES, cases=(200, 20_000))
def receipt_clock_drift(day: RawDay, ppm: int) -> RawDay:
    """The receipt clock of all tables gains some millionths."""
    begin = int(day.deltas[RECEIPT][0])
    return _all_tables(day, RECEIPT, pl.col(RECEIPT) + (pl.col(RECEIPT) - begin) * ppm // 1_000_000)


@fault("deltas", cases=("pause", "for good"))
def receipt_clock_stuck(day: RawDay, how_long: str) -> RawDay:
    """The receipt clock of the deltas stands still, for a pause or to the end of the day."""
    begin = day.middle_ns
    stuck = within_pause(day) if how_long == "pause" else (day.deltas[RECEIPT] >= begin).to_numpy()
    return day.where("deltas", stuck, **{RECEIPT: pl.lit(begin)})


@fault(*TABLES)
def receipt_clock_stuck_in_all_tables(day: RawDay) -> RawDay:
    """The receipt clock of all tables stands still for a pause."""
    begin, pause = day.middle_ns, day.pause_ns
    inside = (pl.col(RECEIPT) >= begin) & (pl.col(RECEIPT) < begin + pause)
    return _all_tables(
        day, RECEIPT, pl.when(inside).then(begin).otherwise(pl.col(RECEIPT)).cast(pl.Int64)
    )


@fault("deltas")
def receipt_clock_jitters(day: RawDay) -> RawDay:
    """The receipt stamps are off by some usual intervals, so that they are in no order."""
    messages = day.messages
    usual = float(np.median(np.diff(messages.first(RECEIPT))))
    noise = np.random.default_rng(SEED).normal(0, 3 * usual, len(messages)).astype(np.int64)
    moved = np.repeat(messages.first(RECEIPT) + noise, messages.ends - messages.starts)
    return day.put("deltas", day.deltas.with_columns(pl.Series(RECEIPT, moved)))


@fault(*TABLES, cases=(8, -8))
def receipt_clock_in_local_time(day: RawDay, hours: int) -> RawDay:
    """The receipt stamps of all tables are in another time zone."""
    return _all_tables(day, RECEIPT, pl.col(RECEIPT) + hours * HOUR)


@fault(*TABLES, cases=("zero", "us", "ms", "day back", "day ahead"))
def all_receipt_stamps_wrong(day: RawDay, how: str) -> RawDay:
    """The receipt stamps of all tables are not the time."""
    return _all_tables(day, RECEIPT, _stamp(day, RECEIPT, how))


@fault("deltas", cases=("us", "day ahead", "zero"))
def all_delta_receipt_stamps_wrong(day: RawDay, how: str) -> RawDay:
    """The receipt stamps of the deltas are not the time; those of the other tables are."""
    return day.with_columns("deltas", _stamp(day, RECEIPT, how).alias(RECEIPT))


@fault("deltas", cases=(2_000, -2_000))
def clock_of_the_deltas_off(day: RawDay, by_ms: int) -> RawDay:
    """The deltas are received some seconds before or after what the other tables say."""
    return day.with_columns("deltas", pl.col(RECEIPT) + by_ms * MS)


@fault("deltas")
def receipts_buffered(day: RawDay) -> RawDay:
    """The messages of a pause are all received at its end, none is lost."""
    begin, pause = day.middle_ns, day.pause_ns
    messages = day.messages
    times = messages.first(RECEIPT).copy()
    held = (times >= begin) & (times < begin + pause)
    times[held] = begin + pause + 256 * np.arange(held.sum())
    moved = np.maximum.accumulate(np.where(times >= begin, times, 0))
    times = np.where(moved > times, moved, times)
    lengths = messages.ends - messages.starts
    return day.put("deltas", day.deltas.with_columns(pl.Series(RECEIPT, np.repeat(times, lengths))))


@fault("deltas", cases=FAR_STAMPS)
def origin_stamp_wrong(day: RawDay, how: str) -> RawDay:
    """One message has an exchange stamp that is not the time."""
    return day.where("deltas", _run(day, 1), **{ORIGIN: _stamp(day, ORIGIN, how)})


@fault("deltas", cases=("hour ahead", "zero", "us"))
def run_of_origin_stamps_wrong(day: RawDay, how: str) -> RawDay:
    """Fifty messages in a row have exchange stamps that are not the time."""
    return day.where("deltas", _run(day, RUN), **{ORIGIN: _stamp(day, ORIGIN, how)})


@fault("deltas", cases=("hour ahead", "zero", "us", "int64 max", "int64 min", "day back"))
def all_origin_stamps_wrong(day: RawDay, how: str) -> RawDay:
    """All messages have exchange stamps that are not the time."""
    return day.with_columns("deltas", _stamp(day, ORIGIN, how).alias(ORIGIN))


@fault("deltas", cases=("pause", "for good"))
def origin_clock_stuck(day: RawDay, how_long: str) -> RawDay:
    """The exchange clock stands still, for a pause or to the end of the day."""
    begin = day.middle_ns
    stuck = within_pause(day) if how_long == "pause" else (day.deltas[RECEIPT] >= begin).to_numpy()
    value = int(day.messages.first(ORIGIN)[day.messages.at(day.place)])
    return day.where("deltas", stuck, **{ORIGIN: pl.lit(value)})


@fault("deltas")
def origin_clock_step(day: RawDay) -> RawDay:
    """The exchange clock is set forward by five hours in the middle of the day."""
    return day.where("deltas", _later(day, "deltas"), **{ORIGIN: pl.col(ORIGIN) + 5 * HOUR})


@fault("deltas")
def origin_stamps_differ_within_a_message(day: RawDay) -> RawDay:
    """Every row has an exchange stamp of its own, a few milliseconds around its message's."""
    noise = np.random.default_rng(SEED).integers(-5, 6, day.deltas.height) * MS
    return day.with_columns("deltas", pl.col(ORIGIN) + pl.lit(pl.Series(noise)))


@fault("deltas")
def stamps_in_each_other_s_column(day: RawDay) -> RawDay:
    """The exchange stamps stand in the place of the receipt stamps, and those in theirs."""
    return day.with_columns("deltas", pl.col(ORIGIN).alias(RECEIPT), pl.col(RECEIPT).alias(ORIGIN))
