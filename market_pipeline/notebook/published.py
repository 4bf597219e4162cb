"""`load_bbo`, `load_depth`, `load_trades`, `load_bars`: what is published of some days, lazily."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal

import polars as pl

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.books.tables import BBO, BOOK_TRADES, DEPTH
from market_pipeline.config.settings import load_settings
from market_pipeline.config.yaml_files import nearest_known
from market_pipeline.errors import DomainError, MissingDataError, SchemaError
from market_pipeline.metrics.tables import BARS
from market_pipeline.warehouse.delta import delta_table, published_files
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan
from market_pipeline.warehouse.tables import Table

__all__ = ["load_bars", "load_bbo", "load_depth", "load_trades"]

_NAMED_AT_MOST = 5


def load_bbo(
    instrument: str,
    start: date | str,
    end: date | str | None = None,
    *,
    data_dir: Path | str | None = None,
    columns: Sequence[str] | None = None,
    valid_only: bool = False,
    missing: Literal["error", "skip"] = "error",
) -> pl.LazyFrame:
    """The best bid and ask after every message, as published in `books.bbo`.

    Rows come by day, and in feed order inside a day. Nothing is read before `collect`.

    Args:
        instrument: Its id, such as BINANCE_FUTURES:BTC-USDT-PERP.
        start, end: The first and the last UTC day, both included; without an end only the first.
            A date, or text as 2024-08-08.
        data_dir: The data folder; by default the one of the settings in force.
        columns: Only these columns; by default all: `exchange`, `symbol` (text), `dt` (date),
            `ts_origin_ns`, `ts_receipt_ns` (int64, ns UTC), `sequence_number` (int64), prices and
            sizes in `…_ticks` and `…_lots` (int64) and as `bid_price`, `bid_size`, `ask_price`,
            `ask_size` (float64), `flags` (uint16), `verified` (bool). A side without a level is
            null.
        valid_only: Leave out the rows whose flags say that the book is not valid.
        missing: What to do about days of the range that are not published: "error" names them,
            "skip" passes over them.

    Raises:
        MissingDataError: The instrument, or a day, is not published.
        SchemaError: A column is asked for that the table does not have.
        DomainError: A day cannot be read as one, or the end is before the start.
        SettingsError: No folder is given and the settings are not usable.
    """
    return _load(BBO, instrument, _days(start, end), data_dir, columns, valid_only, missing)


def load_depth(
    instrument: str,
    start: date | str,
    end: date | str | None = None,
    *,
    data_dir: Path | str | None = None,
    columns: Sequence[str] | None = None,
    valid_only: bool = False,
    confirmed_only: bool = False,
    missing: Literal["error", "skip"] = "error",
) -> pl.LazyFrame:
    """The top 20 levels a side after the last message of each interval, from `books.depth`.

    Args:
        instrument, start, end, data_dir, valid_only, missing: As for `load_bbo`.
        columns: Only these columns; by default all: those of `load_bbo` up to `sequence_number`,
            `bid_0_price`, `bid_0_size` … `ask_19_size` (float64, 0 is the best; null where there is
            no level), `flags` (uint16), `verified` (bool), and how many of the best levels a side
            are known to be all there are, `bid_levels_confirmed` and `ask_levels_confirmed` (int8;
            null on days published before they were counted).
        confirmed_only: Null the levels behind those.

    Raises:
        MissingDataError, SchemaError, DomainError, SettingsError: As `load_bbo`.
    """
    _refuse_unknown(DEPTH, columns)
    rows = _load(DEPTH, instrument, _days(start, end), data_dir, None, valid_only, missing)
    if confirmed_only:
        rows = rows.with_columns(
            pl.when(pl.col(f"{side}_levels_confirmed") > level)
            .then(pl.col(f"{side}_{level}_{part}"))
            .alias(f"{side}_{level}_{part}")
            for side in ("bid", "ask")
            for level in range(DEPTH_LEVELS)
            for part in ("price", "size", "price_ticks", "size_lots")
        )
    return rows if columns is None else rows.select(columns)


def load_trades(
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None = None,
    *,
    data_dir: Path | str | None = None,
    columns: Sequence[str] | None = None,
    valid_only: bool = False,
    missing: Literal["error", "skip"] = "error",
) -> pl.LazyFrame:
    """Every trade with the book as it was just before it, as published in `books.trades`.

    Rows come by instrument as they are given, by day, and in file order inside a day.

    Args:
        instruments: An id, such as BINANCE_FUTURES:BTC-USDT-PERP, or several.
        start, end, data_dir, missing: As for `load_bbo`; `missing` is about each instrument.
        columns: Only these columns; by default all: `exchange`, `symbol` (text), `dt` (date),
            `ts_origin_ns`, `ts_receipt_ns` (int64, ns UTC), `id`, `taker_order`, `price_ticks`,
            `size_lots` (int64), `price`, `size` (float64), `is_buy`, `is_market` (bool), the best
            bid and ask of the book in `…_ticks` and `…_lots` (int64), `flags` (uint16), `verified`
            (bool), `book_age_ns`, `mid_distance_half_ticks`, `effective_spread_ticks` (int64),
            `effective_spread_bps` (float64). What there is no book or side for is null.
        valid_only: Leave out the trades whose book is not valid, or not there.

    Raises:
        MissingDataError, SchemaError, DomainError, SettingsError: As `load_bbo`.
    """
    ids = [instruments] if isinstance(instruments, str) else instruments
    days = _days(start, end)
    return pl.concat(
        _load(BOOK_TRADES, each, days, data_dir, columns, valid_only, missing) for each in ids
    )


def load_bars(
    instrument: str,
    start: date | str,
    end: date | str | None = None,
    *,
    width_seconds: int | None = None,
    data_dir: Path | str | None = None,
    columns: Sequence[str] | None = None,
    missing: Literal["error", "skip"] = "error",
) -> pl.LazyFrame:
    """The bars of every interval, with or without a trade, as published in `metrics.bars`.

    Rows come by day, in a day by width, and of a width by time.

    Args:
        instrument, start, end, data_dir, missing: As for `load_bbo`.
        width_seconds: Only bars of this width; by default of all widths (`PIPELINE_BAR_SECONDS`).
        columns: Only these columns; by default all, see `metrics.bars` in docs/sql.md. Prices are
            null without a trade, mid and spread without valid time, volumes without a trades file.

    Raises:
        MissingDataError, SchemaError, DomainError, SettingsError: As `load_bbo`.
    """
    _refuse_unknown(BARS, columns)
    rows = _load(BARS, instrument, _days(start, end), data_dir, None, False, missing)
    if width_seconds is not None:
        rows = rows.filter(pl.col("width_seconds") == width_seconds)
    return rows if columns is None else rows.select(columns)


def _load(
    table: Table,
    instrument: str,
    days: Sequence[date],
    data_dir: Path | str | None,
    columns: Sequence[str] | None,
    valid_only: bool,
    missing: Literal["error", "skip"],
) -> pl.LazyFrame:
    _refuse_unknown(table, columns)
    warehouse = Warehouse(Path(data_dir) if data_dir is not None else load_settings().data_dir)
    version = _published_version(warehouse, table, instrument, days, missing)
    # With a day named only its file is opened; a range opens the footers of the instrument's files.
    day = days[0] if len(days) == 1 else None
    rows = scan(warehouse, table, day, {instrument}, version=version)
    rows = rows.filter(pl.col("dt").is_between(days[0], days[-1]))
    if valid_only:
        rows = rows.filter(pl.col("flags") & int(INVALIDATING) == 0)
    return rows if columns is None else rows.select(columns)


def _refuse_unknown(table: Table, columns: Sequence[str] | None) -> None:
    known = [column.name for column in table.readable]
    unknown = [column for column in columns or () if column not in known]
    if unknown:
        raise SchemaError(
            f"{table.sql_name} does not have this column",
            next_step=f"Name columns that it has; {nearest_known(unknown[0], known)}",
            column=unknown[0],
        )


def _published_version(
    warehouse: Warehouse,
    table: Table,
    instrument: str,
    days: Sequence[date],
    missing: Literal["error", "skip"],
) -> int | None:
    """The version that holds the days asked for, or the error that says which it does not hold."""
    delta = delta_table(warehouse, table)
    files = [] if delta is None else published_files(delta)
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
    return None if delta is None else delta.version()


def _some(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def _days(start: date | str, end: date | str | None) -> list[date]:
    """All days from start to end."""
    first = _day("start", start)
    last = first if end is None else _day("end", end)
    if last < first:
        raise DomainError(
            "The end is before the start",
            next_step="Give the first and the last day, both included.",
            column="end",
            expected=f"{first} or later",
            found=str(last),
        )
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _day(name: str, value: date | str) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise DomainError(
            f"`{name}` is no day",
            next_step="Give a UTC day, and filter the frame by ts_receipt_ns for less than that.",
            column=name,
            expected="a date, or text as 2024-08-08",
            found=repr(value),
        ) from None
