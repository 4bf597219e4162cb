"""Stretches without data: of all streams, of some, at the ends of the day, and in pieces."""

from __future__ import annotations

import numpy as np
import polars as pl

from market_pipeline_tests.detection.faults.day import RECEIPT, SECOND, TABLES, RawDay
from market_pipeline_tests.detection.faults.registry import fault

__all__: list[str] = []


def _silent(day: RawDay, tables: tuple[str, ...], begin_ns: int, end_ns: int) -> RawDay:
    for table in tables:
        day = day.without(table, (pl.col(RECEIPT) >= begin_ns) & (pl.col(RECEIPT) < end_ns))
    return day


def _pause(day: RawDay, *tables: str) -> RawDay:
    begin = day.middle_ns
    return _silent(day, tables, begin, begin + day.pause_ns)


def _ends(day: RawDay) -> tuple[int, int]:
    return int(day.deltas[RECEIPT].min()), int(day.deltas[RECEIPT].max())  # type: ignore[arg-type]


@fault(*TABLES)
def silence_of_all_streams(day: RawDay) -> RawDay:
    """Nothing is there for a pause."""
    return _pause(day, *TABLES)


@fault(*TABLES)
def short_silence_of_all_streams(day: RawDay) -> RawDay:
    """Nothing is there for a quarter of a pause."""
    begin = day.middle_ns
    return _silent(day, TABLES, begin, begin + day.pause_ns // 4)


@fault("deltas")
def silence_of_deltas(day: RawDay) -> RawDay:
    """No delta is there for a pause; snapshots and trades go on."""
    return _pause(day, "deltas")


@fault("deltas")
def short_silence_of_deltas(day: RawDay) -> RawDay:
    """No delta is there for a fortieth of a pause; snapshots and trades go on."""
    begin = day.middle_ns
    return _silent(day, ("deltas",), begin, begin + day.pause_ns // 40)


@fault("deltas", "trades")
def silence_of_deltas_and_trades(day: RawDay) -> RawDay:
    """No delta and no trade is there for a pause; snapshots go on."""
    return _pause(day, "deltas", "trades")


@fault("deltas", "snapshots")
def silence_of_deltas_and_snapshots(day: RawDay) -> RawDay:
    """No delta and no snapshot is there for a pause; trades go on."""
    return _pause(day, "deltas", "snapshots")


@fault("deltas", "snapshots")
def short_silence_of_deltas_and_snapshots(day: RawDay) -> RawDay:
    """No delta and no snapshot is there for a quarter of a pause; trades go on."""
    begin = day.middle_ns
    return _silent(day, ("deltas", "snapshots"), begin, begin + day.pause_ns // 4)


@fault("snapshots", harmless=True)
def silence_of_snapshots(day: RawDay) -> RawDay:
    """No snapshot is there for a pause; deltas and trades go on."""
    return _pause(day, "snapshots")


@fault("trades", harmless=True)
def silence_of_trades(day: RawDay) -> RawDay:
    """No trade is there for a pause; deltas and snapshots go on."""
    return _pause(day, "trades")


@fault("deltas", "trades", "snapshots")
def silence_with_snapshots_frozen(day: RawDay) -> RawDay:
    """No delta and no trade is there for a pause, and snapshots repeat the last one meanwhile."""
    begin = day.middle_ns
    quiet = _pause(day, "deltas", "trades")
    rows = quiet.snapshots
    times = rows[RECEIPT].to_numpy()
    inside = (times >= begin) & (times < begin + day.pause_ns)
    last = max(int(np.flatnonzero(inside)[0]) - 1, 0)
    order = np.where(inside, last, np.arange(rows.height))
    stamps = pl.Series(RECEIPT, times)
    return quiet.put("snapshots", rows[order].with_columns(stamps))


@fault(*TABLES)
def two_silences(day: RawDay) -> RawDay:
    """Nothing is there for two half pauses with one message between."""
    begin, half = day.middle_ns, day.pause_ns // 2
    times = day.messages.first(RECEIPT)
    between = int(times[np.searchsorted(times, begin + half)])
    day = _silent(day, TABLES, begin, between)
    return _silent(day, TABLES, between + 1, between + half)


@fault("deltas")
def stutter(day: RawDay) -> RawDay:
    """For a pause only one message in forty is there, so that no silence is long."""
    messages = day.messages
    times = messages.first(RECEIPT)
    begin = day.middle_ns
    inside = (times >= begin) & (times < begin + day.pause_ns)
    gone = inside & (np.arange(times.size) % 40 != 0)
    return day.without("deltas", messages.mask_of(gone))


@fault(*TABLES)
def silences_all_day(day: RawDay) -> RawDay:
    """Nothing is there in every tenth part of the day, ten times."""
    begin, end = _ends(day)
    part = (end - begin) // 20
    for each in range(1, 20, 2):
        day = _silent(day, TABLES, begin + each * part, begin + each * part + part // 5)
    return day


@fault(*TABLES, cases=("pause", "half"))
def head_missing(day: RawDay, how_long: str) -> RawDay:
    """Nothing is there from the beginning of the day on, for a pause or for half of the day."""
    begin, end = _ends(day)
    length = day.pause_ns if how_long == "pause" else (end - begin) // 2
    return _silent(day, TABLES, begin, begin + length)


@fault(*TABLES, cases=("pause", "half"))
def tail_missing(day: RawDay, how_long: str) -> RawDay:
    """Nothing is there to the end of the day, for a pause or for half of the day."""
    begin, end = _ends(day)
    length = day.pause_ns if how_long == "pause" else (end - begin) // 2
    return _silent(day, TABLES, end - length, end + 1)


@fault("deltas", cases=("head", "tail"))
def half_of_the_deltas_missing(day: RawDay, which: str) -> RawDay:
    """The deltas of half of the day are missing; snapshots and trades are there."""
    begin, end = _ends(day)
    middle = (begin + end) // 2
    spans = {"head": (begin, middle), "tail": (middle, end + 1)}
    return _silent(day, ("deltas",), *spans[which])


@fault(*TABLES)
def only_five_minutes(day: RawDay) -> RawDay:
    """Only five minutes of the day are there, or a third of a day that is shorter than an hour."""
    begin, end = _ends(day)
    length = 300 * SECOND if end - begin > 3_600 * SECOND else (end - begin) // 3
    at = day.middle_ns
    return _silent(_silent(day, TABLES, begin, at), TABLES, at + length, end + 1)


@fault(*TABLES, cases=("last second", "both ends"))
def only_five_minutes_and_far_stamps(day: RawDay, where: str) -> RawDay:
    """Only five minutes of the day are there, and single messages at the ends of the day."""
    short: RawDay = only_five_minutes(day)
    messages = short.messages
    begin, end = 5 * SECOND, 86_399 * SECOND
    midnight = day.middle_ns // (86_400 * SECOND) * 86_400 * SECOND
    last = messages.mask([len(messages) - 1])
    short = short.where("deltas", last, **{RECEIPT: pl.lit(midnight + end)})
    if where == "both ends":
        first = short.messages.mask([0])
        short = short.where("deltas", first, **{RECEIPT: pl.lit(midnight + begin)})
    return short
