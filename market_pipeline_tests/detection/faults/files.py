"""Files of a day: overlapping, repeated, out of order, of another day or instrument, damaged."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl

from market_pipeline_tests.detection.faults.day import (
    DAY_NS,
    FOREIGN,
    MS,
    NUMBER,
    ORIGIN,
    RECEIPT,
    TABLES,
    RawDay,
    shifted_days,
)
from market_pipeline_tests.detection.faults.registry import fault

__all__: list[str] = []


def _in_shards(rows: pl.DataFrame, *bounds: int) -> pl.DataFrame:
    """Rows in so many shards, cut at these rows."""
    shard = np.searchsorted(bounds, np.arange(rows.height), side="right") + 1
    return rows.with_columns(pl.Series("shard", shard.astype(np.int64)))


def _as_shard(rows: pl.DataFrame, shard: int) -> pl.DataFrame:
    return rows.with_columns(shard=pl.lit(shard, pl.Int64))


def _cut(day: RawDay, place: float) -> int:
    """The first row of a message."""
    return int(day.messages.starts[day.messages.at(place)])


def _foreign(rows: pl.DataFrame, shard: int) -> pl.DataFrame:
    return _as_shard(rows, shard).with_columns(message=pl.lit(FOREIGN, pl.Int64))


def _another_day(day: RawDay) -> RawDay:
    """Another day of the instrument; made of this one where there is none."""
    if day.other_day is not None:
        return day.other_day
    moved = replace(shifted_days(day, day.day.replace(day=1)), day=day.day)
    for table in ("deltas", "snapshots"):
        moved = moved.with_columns(table, pl.col(NUMBER) - 10**6)
    return moved


def _another_instrument(day: RawDay) -> RawDay:
    assert day.other_instrument is not None
    return day.other_instrument


@fault("deltas", cases=(1, 200, 2_000))
def shards_overlap(day: RawDay, messages: int) -> RawDay:
    """The second of two delta shards begins some messages before the end of the first."""
    cut = _cut(day, 0.5)
    back = int(day.messages.starts[day.messages.at(0.5, -messages)])
    rows = day.deltas
    return day.put("deltas", pl.concat([_as_shard(rows[:cut], 1), _as_shard(rows[back:], 2)]))


@fault(*TABLES)
def shards_overlap_in_all_tables(day: RawDay) -> RawDay:
    """In all tables the second of two shards begins before the end of the first."""
    middle, overlap = day.middle_ns, day.pause_ns
    for table in TABLES:
        rows = day.table(table)
        first = _as_shard(rows.filter(pl.col(RECEIPT) < middle), 1)
        second = _as_shard(rows.filter(pl.col(RECEIPT) >= middle - overlap), 2)
        day = day.put(table, pl.concat([first, second]))
    return day


@fault("deltas")
def file_twice(day: RawDay) -> RawDay:
    """The delta file stands twice, as two shards."""
    return day.put("deltas", pl.concat([day.deltas, _as_shard(day.deltas, 2)]))


@fault(*TABLES)
def all_files_twice(day: RawDay) -> RawDay:
    """The files of all tables stand twice, as two shards."""
    for table in TABLES:
        rows = day.table(table)
        day = day.put(table, pl.concat([rows, _as_shard(rows, 2)]))
    return day


@fault("deltas")
def day_twice_in_one_file(day: RawDay) -> RawDay:
    """All rows of the delta file come again in it."""
    return day.put("deltas", pl.concat([day.deltas, day.deltas]))


@fault("deltas")
def first_shard_again_at_the_end(day: RawDay) -> RawDay:
    """Of three delta shards the first stands again as the fourth."""
    rows = _in_shards(day.deltas, _cut(day, 1 / 3), _cut(day, 2 / 3))
    return day.put("deltas", pl.concat([rows, _as_shard(rows.filter(pl.col("shard") == 1), 4)]))


@fault("deltas")
def shards_in_wrong_order(day: RawDay) -> RawDay:
    """Of two delta shards the second half of the day is the first."""
    cut = _cut(day, 0.5)
    rows = day.deltas
    return day.put("deltas", pl.concat([_as_shard(rows[cut:], 1), _as_shard(rows[:cut], 2)]))


@fault(*TABLES)
def shards_of_all_tables_in_wrong_order(day: RawDay) -> RawDay:
    """In all tables the second half of the day is the first of two shards."""
    middle = day.middle_ns
    for table in TABLES:
        rows = day.table(table)
        late = _as_shard(rows.filter(pl.col(RECEIPT) >= middle), 1)
        early = _as_shard(rows.filter(pl.col(RECEIPT) < middle), 2)
        day = day.put(table, pl.concat([late, early]))
    return day


@fault("deltas", harmless=True)
def twelve_shards(day: RawDay) -> RawDay:
    """The deltas are in twelve shards, so that the tenth sorts before the second as text."""
    return day.put("deltas", _in_shards(day.deltas, *(_cut(day, k / 12) for k in range(1, 12))))


@fault("deltas", harmless=True)
def message_across_two_shards(day: RawDay) -> RawDay:
    """A delta shard ends in the middle of a message, which goes on in the next."""
    messages = day.messages
    lengths = messages.ends - messages.starts
    at = messages.at(0.5)
    at += int(np.flatnonzero(lengths[at:] >= 2)[0])
    return day.put("deltas", _in_shards(day.deltas, int(messages.starts[at]) + 1))


@fault("deltas")
def shard_missing(day: RawDay) -> RawDay:
    """The second of three delta shards is not there."""
    rows = _in_shards(day.deltas, _cut(day, 0.4), _cut(day, 0.6))
    return day.put("deltas", rows.filter(pl.col("shard") != 2))


@fault("deltas", harmless=True)
def shard_empty(day: RawDay) -> RawDay:
    """A further delta shard holds no row."""
    content = io.BytesIO()
    day.deltas[:0].drop("message", "shard").write_parquet(content, compression="snappy")
    more = ("deltas", "2.snappy.parquet", content.getvalue())
    return replace(day, more_files=(*day.more_files, more))


@fault("deltas")
def file_of_another_day(day: RawDay) -> RawDay:
    """In the place of the delta file stands that of another day."""
    return day.put("deltas", _foreign(_another_day(day).deltas, 1))


@fault(*TABLES)
def folder_of_another_day(day: RawDay) -> RawDay:
    """All files of the day are those of another day."""
    other = _another_day(day)
    for table in TABLES:
        day = day.put(table, _foreign(other.table(table), 1))
    return day


@fault(
    *TABLES,
    unshown="Its files agree with one another in everything; that they are another day's only the "
    "prices against the day before tell, as `day_boundary` does.",
)
def folder_of_another_day_with_new_times(day: RawDay) -> RawDay:
    """All files of the day are those of another day, their times moved into this day."""
    other = _another_day(day)
    at = int(day.deltas[RECEIPT][0]) - int(other.deltas[RECEIPT][0])
    for table in TABLES:
        rows = _foreign(other.table(table), 1)
        day = day.put(table, rows.with_columns(pl.col(RECEIPT) + at, pl.col(ORIGIN) + at))
    return day


@fault("deltas", cases=("before", "after"))
def file_of_another_day_beside(day: RawDay, where: str) -> RawDay:
    """The delta file of another day stands as the first or as the last shard."""
    other = _another_day(day).deltas
    parts = {
        "before": [_foreign(other, 1), _as_shard(day.deltas, 2)],
        "after": [_as_shard(day.deltas, 1), _foreign(other, 2)],
    }[where]
    return day.put("deltas", pl.concat(parts))


@fault(*TABLES, cases=("before", "after"))
def folder_of_another_day_beside(day: RawDay, where: str) -> RawDay:
    """The files of another day stand as the first or as the last shard of all tables."""
    other = _another_day(day)
    for table in TABLES:
        rows = day.table(table)
        parts = [_as_shard(rows, 1), _foreign(other.table(table), 2)]
        if where == "before":
            parts = [_foreign(other.table(table), 1), _as_shard(rows, 2)]
        day = day.put(table, pl.concat(parts))
    return day


@fault("deltas")
def half_of_another_day(day: RawDay) -> RawDay:
    """The first half of the delta file is that of another day."""
    other = _another_day(day)
    cut = int(other.messages.starts[other.messages.at(0.5)])
    rows = pl.concat([_foreign(other.deltas[:cut], 1), day.deltas[_cut(day, 0.5) :]])
    return day.put("deltas", rows)


@fault(*TABLES, cases=("before", "after"))
def rows_of_the_next_day(day: RawDay, which: str) -> RawDay:
    """Fifty messages of the day before stand at the head, or of the day after at the tail."""
    sign = -1 if which == "before" else 1
    begin, end = int(day.deltas[RECEIPT][0]), int(day.deltas[RECEIPT][-1])
    midnight = begin // DAY_NS * DAY_NS
    # To just before the day, or to just after it.
    messages = day.messages
    if which == "before":
        chosen = np.arange(len(messages) - 50, len(messages))
        moved_ns = midnight - end - MS
    else:
        chosen = np.arange(50)
        moved_ns = midnight + DAY_NS - begin + MS
    taken = messages.take(chosen)
    span = int(taken[RECEIPT].min()), int(taken[RECEIPT].max())  # type: ignore[arg-type]
    numbers = day.deltas[NUMBER]
    by = sign * (int(numbers.max()) - int(numbers.min()) + 1_000)  # type: ignore[arg-type]
    for table in TABLES:
        rows = day.table(table)
        near = taken if table == "deltas" else rows.filter(pl.col(RECEIPT).is_between(*span))
        near = near.with_columns(
            pl.col(RECEIPT) + moved_ns,
            pl.col(ORIGIN) + moved_ns,
            pl.lit(FOREIGN, pl.Int64).alias("message"),
        )
        if table != "trades":
            near = near.with_columns(pl.col(NUMBER) + by)
        day = day.put(table, pl.concat([near, rows] if which == "before" else [rows, near]))
    return day


@fault("deltas", cases=("known", "unknown"))
def file_of_another_instrument(day: RawDay, how: str) -> RawDay:
    """In the place of the delta file stands that of another instrument, or most rows of it."""
    rows = _another_instrument(day).deltas
    rows = rows if how == "known" else rows[: rows.height - 10]
    return day.put("deltas", _foreign(rows, 1))


@fault("deltas", cases=("before", "after"))
def file_of_another_instrument_beside(day: RawDay, where: str) -> RawDay:
    """The delta file of another instrument stands as the first or as the last shard."""
    other = _another_instrument(day).deltas
    parts = {
        "before": [_foreign(other, 1), _as_shard(day.deltas, 2)],
        "after": [_as_shard(day.deltas, 1), _foreign(other, 2)],
    }[where]
    return day.put("deltas", pl.concat(parts))


@fault(
    *TABLES,
    cases=("known", "unknown"),
    unshown="Its files agree with one another in everything; that they are another instrument's "
    "only the days around tell, as `day_boundary`, `precision` and `identity` do.",
)
def folder_of_another_instrument(day: RawDay, how: str) -> RawDay:
    """All files of the day are those of another instrument, or most rows of them."""
    other = _another_instrument(day)
    for table in TABLES:
        rows = other.table(table)
        rows = rows if how == "known" else rows[: max(rows.height - 10, 1)]
        day = day.put(table, _foreign(rows, 1))
    return day


@fault("snapshots", cases=("day", "instrument"))
def snapshots_of_another(day: RawDay, whose: str) -> RawDay:
    """In the place of the snapshots stand those of another day or instrument."""
    other = _another_day(day) if whose == "day" else _another_instrument(day)
    return day.put("snapshots", _foreign(other.snapshots, 1))


@fault("snapshots")
def snapshots_of_another_instrument_with_our_numbers(day: RawDay) -> RawDay:
    """The snapshots show another instrument's levels under numbers and times of this one."""
    other = _another_instrument(day).snapshots
    rows = day.snapshots
    shown = np.arange(rows.height) % other.height
    names = [name for name in rows.columns if name.startswith(("bid_", "ask_"))]
    return day.put("snapshots", rows.with_columns(other.select(names)[shown].get_columns()))


@fault("trades", cases=("day", "instrument"), harmless=True)
def trades_of_another(day: RawDay, whose: str) -> RawDay:
    """In the place of the trades stand those of another day or instrument."""
    other = _another_day(day) if whose == "day" else _another_instrument(day)
    return day.put("trades", _foreign(other.trades, 1))


@fault("deltas")
def two_recorders_in_one_file(day: RawDay) -> RawDay:
    """A second recorder's rows stand among the first's: the same numbers, received 3 ms later."""
    rows = day.deltas.with_columns(order=pl.col("message") * 2)
    again = rows.with_columns(pl.col(RECEIPT) + 3 * MS, pl.col("order") + 1)
    mixed = pl.concat([rows, again]).sort("order", maintain_order=True).drop("order")
    return day.put("deltas", mixed)


@fault("deltas")
def two_recorders_in_two_files(day: RawDay) -> RawDay:
    """A second recorder's file is a shard of its own: the same numbers, received 3 ms later."""
    again = _as_shard(day.deltas.with_columns(pl.col(RECEIPT) + 3 * MS), 2)
    return day.put("deltas", pl.concat([day.deltas, again]))


@fault("deltas", cases=("price", "size", "reversed"))
def rows_in_another_order(day: RawDay, by: str) -> RawDay:
    """The rows of the delta file are sorted by another column, or stand in reverse."""
    rows = day.deltas.reverse() if by == "reversed" else day.deltas.sort(by, maintain_order=True)
    return day.put("deltas", rows)


_WHOLE = ("deltas", "snapshots", "trades")


@fault(*TABLES, cases=_WHOLE)
def file_missing(day: RawDay, table: str) -> RawDay:
    """A table has no file."""
    return day.spoil_bytes(table, 1, lambda _: None)


@fault(*TABLES, cases=_WHOLE, keeps_schema=False)
def file_cut(day: RawDay, table: str) -> RawDay:
    """The file of a table is cut at 60 % of its bytes."""
    return day.spoil_bytes(table, 1, lambda content: content[: len(content) * 6 // 10])


@fault("deltas", keeps_schema=False)
def second_shard_cut(day: RawDay) -> RawDay:
    """The second of two delta shards is cut at 60 % of its bytes."""
    halves = day.put("deltas", _in_shards(day.deltas, _cut(day, 0.5)))
    return halves.spoil_bytes("deltas", 2, lambda content: content[: len(content) * 6 // 10])


@fault(*TABLES, cases=_WHOLE, keeps_schema=False)
def file_of_no_bytes(day: RawDay, table: str) -> RawDay:
    """The file of a table is empty."""
    return day.spoil_bytes(table, 1, lambda _: b"")


@fault(*TABLES, cases=_WHOLE, keeps_schema=False)
def row_group_damaged(day: RawDay, table: str) -> RawDay:
    """Bytes in the middle of a table's file are overwritten; its footer is whole."""

    def overwritten(content: bytes) -> bytes:
        middle, length = len(content) // 2, min(4_096, len(content) // 8)
        return content[:middle] + b"\xff" * length + content[middle + length :]

    return day.spoil_bytes(table, 1, overwritten)


@fault("deltas", keeps_schema=False)
def single_bits_flipped(day: RawDay) -> RawDay:
    """Ten bits of the delta file's data pages are flipped."""

    def flipped(content: bytes) -> bytes:
        spoilt = bytearray(content)
        for at in np.random.default_rng(29).integers(1_000, len(content) * 8 // 10, 10):
            spoilt[at] ^= 1
        return bytes(spoilt)

    return day.spoil_bytes("deltas", 1, flipped)


@fault(*TABLES, cases=_WHOLE, keeps_schema=False)
def no_row_in_the_file(day: RawDay, table: str) -> RawDay:
    """The file of a table has its columns and no row."""
    return day.put(table, day.table(table)[:0])


@fault("deltas", harmless=True)
def columns_in_the_client_s_spelling(day: RawDay) -> RawDay:
    """The columns have the names that the vendor's client gives them, in another order."""
    names = {ORIGIN: "origin_time", RECEIPT: "received_time"}
    return _rewritten(
        day, lambda rows: rows.rename(names).select(sorted(rows.rename(names).columns))
    )


@fault("deltas", cases=("missing", "more", "renamed", "twice as text"), keeps_schema=False)
def columns_changed(day: RawDay, how: str) -> RawDay:
    """A column of the deltas is missing, new, of another name or of another type."""
    changes: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
        "missing": lambda rows: rows.drop("size"),
        "more": lambda rows: rows.with_columns(extra=pl.lit(0)),
        "renamed": lambda rows: rows.rename({"size": "amount"}),
        "twice as text": lambda rows: rows.with_columns(pl.col("price", "size").cast(pl.String)),
    }
    return _rewritten(day, changes[how])


@fault("deltas", cases=("number", "size", "receipt"), keeps_schema=False)
def column_type_changed(day: RawDay, which: str) -> RawDay:
    """Numbers are floats, sizes are whole, or receipt stamps are typed as times."""
    change = {
        "number": pl.col(NUMBER).cast(pl.Float64),
        "size": pl.col("size").cast(pl.Int64),
        "receipt": pl.col(RECEIPT).cast(pl.Datetime("ns")),
    }[which]
    return _rewritten(day, lambda rows: rows.with_columns(change))


def _rewritten(day: RawDay, change: Callable[[pl.DataFrame], pl.DataFrame]) -> RawDay:
    """The delta file with other columns."""

    def rewritten(content: bytes) -> bytes:
        out = io.BytesIO()
        change(pl.read_parquet(io.BytesIO(content))).write_parquet(out, compression="snappy")
        return out.getvalue()

    return day.spoil_bytes("deltas", 1, rewritten)
