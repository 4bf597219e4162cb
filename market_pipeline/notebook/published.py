"""Finds the published days that are asked for, and refuses what is not there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import polars as pl
import polars.selectors as cs

from market_pipeline.audit.record import record
from market_pipeline.config.settings import load_settings
from market_pipeline.config.yaml_files import nearest_known
from market_pipeline.errors import DomainError, SchemaError
from market_pipeline.notebook._absent import absent_days, nothing_of
from market_pipeline.notebook.times import utc_day
from market_pipeline.warehouse.delta import delta_table, published_files
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan
from market_pipeline.warehouse.tables import Table, View

__all__ = [
    "Missing",
    "PublishedDays",
    "Times",
    "chosen",
    "instrument_ids",
    "loaded",
    "no_step",
    "published_days",
    "refuse_no_depth",
    "refuse_other",
    "refuse_unknown",
    "whole_step",
    "with_times",
]

# Other columns that end so are durations.
_POINTS_IN_TIME = "^(ts_.*|next_funding|first|last|known|start|end)_ns$"

Missing = Literal["error", "skip"]
Times = Literal["ns", "datetime"]


@dataclass(frozen=True, slots=True)
class PublishedDays:
    """Days of instruments of which a table was found to have what is asked for.

    `version` is the table's, so that all reads of it are of one state.
    """

    warehouse: Warehouse
    table: Table
    instruments: tuple[str, ...]
    days: tuple[date, ...]
    version: int | None

    def rows(self, instrument: str, day: date | None = None) -> pl.LazyFrame:
        """The rows of an instrument, all columns: of one day, or of all days of the table."""
        return scan(self.warehouse, self.table, day, {instrument}, version=self.version)


def loaded(
    table: Table,
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None,
    columns: Sequence[str] | None,
    data_dir: Path | str | None,
    missing: Missing,
) -> pl.LazyFrame:
    """All columns of the rows; what is asked for and not there is refused."""
    refuse_unknown(table, columns)
    found = published_days(table, instruments, start, end, data_dir, missing)
    # With a day named only its file is opened; a range opens the footers of the instrument's files.
    day = found.days[0] if len(found.days) == 1 else None
    rows = pl.concat(found.rows(each, day) for each in found.instruments)
    # Behind a filter, who takes a part of the rows would read all before it.
    return rows if day else rows.filter(pl.col("dt").is_between(found.days[0], found.days[-1]))


def chosen(rows: pl.LazyFrame, columns: Sequence[str] | None, times: Times) -> pl.LazyFrame:
    """The columns that are asked for, with times as they are asked for."""
    return with_times(rows if columns is None else rows.select(_names(columns)), times)


def published_days(
    table: Table,
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None,
    data_dir: Path | str | None,
    missing: Missing,
) -> PublishedDays:
    """What is asked for, if it is there. Arguments and errors as of `load_bbo`."""
    days = _days(start, end)
    refuse_other("missing", missing, Missing)
    ids = instrument_ids(instruments)
    warehouse = Warehouse(Path(data_dir) if data_dir is not None else load_settings().data_dir)
    published, version = _published(warehouse, table)
    for instrument in ids:
        _refuse_missing(warehouse, table, instrument, published, days, missing)
    what = {"table": table.sql_name, "instruments": ids, "days": [f"{days[0]}", f"{days[-1]}"]}
    record(warehouse.data_dir, "read", what | {"version": version})
    return PublishedDays(warehouse, table, ids, tuple(days), version)


def instrument_ids(instruments: str | Sequence[str]) -> tuple[str, ...]:
    """The ids that are asked for, in order.

    One that is named twice is there once, as in the macros: a sum would count it twice.

    Raises:
        DomainError: There is none, or one is no text.
    """
    given = [instruments] if isinstance(instruments, str) else instruments
    ids = tuple(given) if isinstance(given, Iterable) else (given,)
    if not ids or not all(isinstance(each, str) for each in ids):
        raise DomainError(
            "No instrument is asked for",
            next_step="Give an id as VENUE:SYMBOL, or several.",
            column="instruments",
            expected="at least one id, each of them text",
            found=", ".join(map(repr, ids)) or "none",
        )
    return tuple(dict.fromkeys(map(str, ids)))


def with_times(rows: pl.LazyFrame, times: Times) -> pl.LazyFrame:
    """The rows with points in time as they are, or all of them as datetimes of one type.

    These are in UTC, to the nanosecond: `ts_receipt` of `ts_receipt_ns`, and `bar_start`, which has
    no zone by itself.
    """
    refuse_other("times", times, Times)
    if times == "ns":
        return rows
    return rows.with_columns(
        pl.from_epoch(cs.matches(_POINTS_IN_TIME), "ns").dt.replace_time_zone("UTC"),
        cs.datetime(time_zone=None).dt.cast_time_unit("ns").dt.replace_time_zone("UTC"),
    ).rename(lambda name: name.removesuffix("_ns") if re.match(_POINTS_IN_TIME, name) else name)


def refuse_other(name: str, value: str, choice: object) -> None:
    """Refuses an argument that is none of a `Literal`: a misspelt one would pass for another."""
    known = get_args(choice)
    if value not in known:
        raise DomainError(
            f"`{name}` is none of its values",
            next_step=f"Give one of them; {nearest_known(str(value), known)}",
            column=name,
            expected=" or ".join(map(repr, known)),
            found=repr(value),
        )


def refuse_no_depth(depth: int | None) -> None:
    """Refuses what is no number of levels: counted from the end, one below 0 would pass for one."""
    if depth is not None and not (isinstance(depth, int | np.integer) and depth >= 0):
        raise DomainError(
            "`depth` is no number of levels",
            next_step="Give how many levels a side are wanted, or None for all.",
            column="depth",
            expected="a whole number of 0 or more",
            found=repr(depth),
        )


def whole_step(name: str, step: float, given: float) -> int:
    """A step in whole units, of which it must be one at least; `given` is the argument.

    Raises:
        DomainError: It is none.
    """
    if not 1 <= step < 2**63:
        raise no_step(name, given)
    return round(step)


def no_step(name: str, given: float) -> DomainError:
    """The error of an argument that is no step."""
    return DomainError(
        f"`{name}` is no step",
        next_step="Give an interval of a nanosecond and a step of a whole tick at least.",
        column=name,
        expected="seconds above 0" if name == "every_seconds" else "a whole number above 0",
        found=str(given),
    )


def refuse_unknown(table: Table | View, columns: Sequence[str] | None) -> None:
    """Refuses columns that the table does not have."""
    known = [column.name for column in table.readable]
    unknown = [column for column in _names(columns or ()) if column not in known]
    if unknown:
        raise SchemaError(
            f"{table.sql_name} does not have this column",
            next_step=f"Name columns that it has; {nearest_known(unknown[0], known)}",
            column=unknown[0],
        )


def _names(columns: Sequence[str]) -> list[str]:
    """Columns by name, each once; a text is one name and not its letters."""
    return [columns] if isinstance(columns, str) else list(dict.fromkeys(columns))


def _published(warehouse: Warehouse, table: Table) -> tuple[dict[str, set[date]], int | None]:
    """By instrument the days that a table has, and the version of one of files."""
    found: dict[str, set[date]] = {}
    if table.storage == "delta":
        delta = delta_table(warehouse, table)
        for file in [] if delta is None else published_files(delta):
            found.setdefault(file.instrument, set()).add(file.day)
        return found, None if delta is None else delta.version()
    if not warehouse.catalogue.exists():
        return found, None  # to open one would make it, and the folder
    # Here, because its macros know flags by name, for which numba would be imported.
    from market_pipeline.tables import open_catalogue  # noqa: PLC0415

    with open_catalogue(warehouse.data_dir) as catalogue:
        days = f"SELECT DISTINCT exchange || ':' || symbol, dt FROM {table.sql_name}"
        for instrument, day in catalogue.execute(days).fetchall():
            found.setdefault(instrument, set()).add(day)
    return found, None


def _refuse_missing(
    warehouse: Warehouse,
    table: Table,
    instrument: str,
    published_of: Mapping[str, set[date]],
    days: Sequence[date],
    missing: Missing,
) -> None:
    published = published_of.get(instrument)
    if not published:
        raise nothing_of(warehouse, table, instrument, published_of)
    absent = [day for day in days if day not in published]
    has_others = len(absent) < len(days)
    if absent and (missing != "skip" or not has_others):
        raise absent_days(warehouse, table, instrument, published, absent, may_skip=has_others)


def _days(start: date | str, end: date | str | None) -> list[date]:
    """All days from start to end."""
    first = utc_day("start", start)
    last = first if end is None else utc_day("end", end)
    if last < first:
        raise DomainError(
            "The end is before the start",
            next_step="Give the first and the last day, both included.",
            column="end",
            expected=f"{first} or later",
            found=str(last),
        )
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
