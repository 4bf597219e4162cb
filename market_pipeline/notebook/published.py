"""Finds the published days that are asked for, and refuses what is not there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Literal, get_args

import polars as pl
import polars.selectors as cs

from market_pipeline.audit.record import record
from market_pipeline.config.settings import load_settings
from market_pipeline.config.yaml_files import nearest_known
from market_pipeline.errors import DomainError, MissingDataError, SchemaError
from market_pipeline.notebook.times import utc_day
from market_pipeline.warehouse.delta import PublishedFile, delta_table, published_files
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan
from market_pipeline.warehouse.tables import Table

__all__ = [
    "Missing",
    "PublishedDays",
    "Times",
    "published_days",
    "refuse_other",
    "refuse_unknown",
    "with_times",
]

_NAMED_AT_MOST = 5
# Other columns that end so are durations.
_POINTS_IN_TIME = "^(ts_.*|next_funding|first|last|known)_ns$"

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
    # One that is named twice is there once, as in the macros: a sum would count it twice.
    ids = (instruments,) if isinstance(instruments, str) else tuple(dict.fromkeys(instruments))
    if not ids:
        raise DomainError(
            "No instrument is asked for",
            next_step="Give an id as VENUE:SYMBOL, or several.",
            column="instruments",
            expected="at least one id",
            found="none",
        )
    warehouse = Warehouse(Path(data_dir) if data_dir is not None else load_settings().data_dir)
    delta = delta_table(warehouse, table)
    files = [] if delta is None else published_files(delta)
    for instrument in ids:
        _refuse_missing(warehouse, table, instrument, files, days, missing)
    version = None if delta is None else delta.version()
    what = {"table": table.sql_name, "instruments": ids, "days": [f"{days[0]}", f"{days[-1]}"]}
    record(warehouse.data_dir, "read", what | {"version": version})
    return PublishedDays(warehouse, table, ids, tuple(days), version)


def with_times(rows: pl.LazyFrame, times: Times) -> pl.LazyFrame:
    """The rows with points in time as they are, `ts_receipt_ns`, or as datetimes `ts_receipt`."""
    refuse_other("times", times, Times)
    if times == "ns":
        return rows
    return rows.with_columns(
        pl.from_epoch(cs.matches(_POINTS_IN_TIME), "ns").dt.replace_time_zone("UTC")
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


def refuse_unknown(table: Table, columns: Sequence[str] | None) -> None:
    """Refuses columns that the table does not have."""
    known = [column.name for column in table.readable]
    unknown = [column for column in columns or () if column not in known]
    if unknown:
        raise SchemaError(
            f"{table.sql_name} does not have this column",
            next_step=f"Name columns that it has; {nearest_known(unknown[0], known)}",
            column=unknown[0],
        )


def _refuse_missing(
    warehouse: Warehouse,
    table: Table,
    instrument: str,
    files: Sequence[PublishedFile],
    days: Sequence[date],
    missing: Missing,
) -> None:
    published = {file.day for file in files if file.instrument == instrument}
    if not published:
        ids = sorted({file.instrument for file in files})
        raise MissingDataError(
            f"{table.sql_name} has nothing of {instrument}",
            next_step="Write the instrument as VENUE:SYMBOL, check the data folder, or run the "
            "pipeline for it.",
            file=warehouse.data_dir,
            expected=f"one of {_some(ids)}" if ids else "at least one published day",
            found="nothing is published" if not ids else instrument,
        )
    absent = [day.isoformat() for day in days if day not in published]
    if absent and (missing != "skip" or len(absent) == len(days)):
        raise MissingDataError(
            f"{table.sql_name} does not have every day of {instrument} that was asked for",
            next_step="`market-pipeline verdict` says why; missing='skip' takes the other days.",
            file=warehouse.data_dir,
            expected=f"days between {min(published)} and {max(published)}",
            found=f"no {_some(absent)}",
        )


def _some(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


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
