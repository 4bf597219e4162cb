"""`load_bbo`, `load_trades`, `load_metrics` and so on: what is published of some days, lazily."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Literal

import polars as pl

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.books.tables import BBO, BOOK_TRADES, DEPTH
from market_pipeline.errors import DomainError
from market_pipeline.metrics.contract_states import BOOK_FUNDING, BOOK_OPEN_INTEREST
from market_pipeline.metrics.tables import BARS, BOOK_METRICS, INFORMATION_BARS
from market_pipeline.notebook.published import (
    Missing,
    Times,
    published_days,
    refuse_other,
    refuse_unknown,
    with_times,
)
from market_pipeline.warehouse.tables import Table

__all__ = [
    "load_bars",
    "load_bbo",
    "load_depth",
    "load_funding",
    "load_information_bars",
    "load_metrics",
    "load_open_interest",
    "load_trades",
]

Kind = Literal["tick", "volume", "value"]


def load_bbo(
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None = None,
    *,
    valid_only: bool = True,
    times: Times = "ns",
    columns: Sequence[str] | None = None,
    data_dir: Path | str | None = None,
    missing: Missing = "error",
) -> pl.LazyFrame:
    """The best bid and ask after every message, as published in `books.bbo`.

    Rows come by instrument as they are given, by day, and in feed order inside a day. Nothing is
    read before `collect`.

    Args:
        instruments: An id, such as BINANCE_FUTURES:BTC-USDT-PERP, or several; one that is named
            twice is there once.
        start, end: The first and the last UTC day, both included; without an end only the first.
            A date, or text as 2024-08-08.
        valid_only: Leave out the rows whose flags say that the book is not valid, as is the
            default; False gives every message.
        times: "ns" leaves times as integers; "datetime" makes `ts_origin` and `ts_receipt` of
            `ts_origin_ns` and `ts_receipt_ns`: datetimes in UTC, to the nanosecond.
        columns: Only these columns, by the names of the table; by default all: `exchange`, `symbol`
            (text), `dt` (date), `ts_origin_ns`, `ts_receipt_ns` (int64, ns UTC), `sequence_number`
            (int64), prices and sizes in `…_ticks` and `…_lots` (int64) and as `bid_price`,
            `bid_size`, `ask_price`, `ask_size` (float64), `flags` (uint16), `verified` (bool). A
            side without a level is null.
        data_dir: The data folder; by default the one of the settings in force.
        missing: What to do about days of the range that are not published of an instrument:
            "error" names them, "skip" passes over them.

    Raises:
        MissingDataError: An instrument, or a day of it, is not published.
        SchemaError: A column is asked for that the table does not have.
        DomainError: A day cannot be read as one, the end is before the start, or an argument is
            none of its values.
        SettingsError: No folder is given and the settings are not usable.
    """
    rows = _load(BBO, instruments, start, end, columns, data_dir, missing)
    return _chosen(_valid(rows, valid_only), columns, times)


def load_depth(
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None = None,
    *,
    valid_only: bool = True,
    confirmed_only: bool = False,
    times: Times = "ns",
    columns: Sequence[str] | None = None,
    data_dir: Path | str | None = None,
    missing: Missing = "error",
) -> pl.LazyFrame:
    """The top 20 levels a side after the last message of each interval, from `books.depth`.

    Args:
        instruments, start, end, valid_only, times, data_dir, missing: As for `load_bbo`.
        confirmed_only: Null the levels that no snapshot confirmed, see `bid_levels_confirmed`.
        columns: Only these columns; by default all: those of `load_bbo` up to `sequence_number`,
            `bid_0_price`, `bid_0_size` … `ask_19_size` (float64, 0 is the best; null where there is
            no level), `flags` (uint16), `verified` (bool), and how many of the best levels a side
            are known to be all there are, `bid_levels_confirmed` and `ask_levels_confirmed` (int8;
            null on days published before they were counted).

    Raises:
        MissingDataError, SchemaError, DomainError, SettingsError: As `load_bbo`.
    """
    rows = _valid(_load(DEPTH, instruments, start, end, columns, data_dir, missing), valid_only)
    if confirmed_only:
        rows = rows.with_columns(
            pl.when(pl.col(f"{side}_levels_confirmed") > level)
            .then(pl.col(f"{side}_{level}_{part}"))
            .alias(f"{side}_{level}_{part}")
            for side in ("bid", "ask")
            for level in range(DEPTH_LEVELS)
            for part in ("price", "size", "price_ticks", "size_lots")
        )
    return _chosen(rows, columns, times)


def load_trades(
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None = None,
    *,
    valid_only: bool = True,
    times: Times = "ns",
    columns: Sequence[str] | None = None,
    data_dir: Path | str | None = None,
    missing: Missing = "error",
) -> pl.LazyFrame:
    """Each trade with the book as it was just before it, as published in `books.trades`.

    Rows come by instrument as they are given, by day, and in file order inside a day.

    Args:
        instruments, start, end, times, data_dir, missing: As for `load_bbo`.
        valid_only: Leave out the trades whose book is not valid, or not there, as is the default;
            False gives every trade, which a sum of volumes needs.
        columns: Only these columns; by default all, see `books.trades` in docs/sql.md. What there
            is no book or side for is null.

    Raises:
        MissingDataError, SchemaError, DomainError, SettingsError: As `load_bbo`.
    """
    rows = _load(BOOK_TRADES, instruments, start, end, columns, data_dir, missing)
    return _chosen(_valid(rows, valid_only), columns, times)


def load_bars(
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None = None,
    *,
    width_seconds: int | None = None,
    columns: Sequence[str] | None = None,
    data_dir: Path | str | None = None,
    missing: Missing = "error",
) -> pl.LazyFrame:
    """The bars of every interval, with or without a trade, as published in `metrics.bars`.

    Rows come by instrument as they are given, by day, in a day by width, and of a width by time.
    Each says in `valid_share` how much of it the book was valid; mid and spread are of that time.

    Args:
        instruments, start, end, data_dir, missing: As for `load_bbo`.
        width_seconds: Only bars of this width; by default of all widths (`PIPELINE_BAR_SECONDS`).
        columns: Only these columns; by default all, see `metrics.bars` in docs/sql.md. Prices are
            null without a trade, mid and spread without valid time, volumes without a trades file.

    Raises:
        MissingDataError, SchemaError, DomainError, SettingsError: As `load_bbo`. `DomainError` also
            if no day has bars of that width.
    """
    rows = _load(BARS, instruments, start, end, columns, data_dir, missing)
    rows = _of_width(rows, BARS, "width_seconds", width_seconds)
    return _chosen(rows, columns, "ns")


def load_metrics(
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None = None,
    *,
    interval_seconds: int | None = None,
    columns: Sequence[str] | None = None,
    data_dir: Path | str | None = None,
    missing: Missing = "error",
) -> pl.LazyFrame:
    """The figures of every interval, as published in `metrics.book_metrics`.

    Rows come by instrument as they are given, by day, in a day by width, and of a width by time.
    All are of valid time only, and each says in `valid_seconds` how much of that there was.

    Args:
        instruments, start, end, data_dir, missing: As for `load_bbo`.
        interval_seconds: Only intervals of this width; by default of all widths
            (`PIPELINE_METRICS_SECONDS`).
        columns: Only these columns; by default all, see `metrics.book_metrics` in docs/sql.md,
            which says of each why it may be null, and docs/metrics.md, which has the formulas.

    Raises:
        MissingDataError, SchemaError, DomainError, SettingsError: As `load_bbo`. `DomainError` also
            if no day has intervals of that width.
    """
    rows = _load(BOOK_METRICS, instruments, start, end, columns, data_dir, missing)
    rows = _of_width(rows, BOOK_METRICS, "interval_seconds", interval_seconds)
    return _chosen(rows, columns, "ns")


def load_information_bars(
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None = None,
    *,
    kind: Kind | None = None,
    step: float | None = None,
    times: Times = "ns",
    columns: Sequence[str] | None = None,
    data_dir: Path | str | None = None,
    missing: Missing = "error",
) -> pl.LazyFrame:
    """The bars of equal activity, as published in `metrics.information_bars`.

    Rows come by instrument as they are given, by day, in a day by kind and step, and of these in
    order. Whether the book was valid has no part in them.

    Args:
        instruments, start, end, data_dir, missing: As for `load_bbo`.
        kind: Only bars that count this; by default of all kinds that the instruments ask for.
        step: Only bars with so much of it, as configured; by default of all steps.
        times: As for `load_bbo`: "datetime" makes `first`, `last` and `known` of `first_ns`,
            `last_ns` and `known_ns`.
        columns: Only these columns; by default all, see `metrics.information_bars` in docs/sql.md.

    Raises:
        MissingDataError, SchemaError, DomainError, SettingsError: As `load_bbo`.
    """
    rows = _load(INFORMATION_BARS, instruments, start, end, columns, data_dir, missing)
    if kind is not None:
        refuse_other("kind", kind, Kind)
        rows = rows.filter(pl.col("kind") == kind)
    if step is not None:
        rows = rows.filter(pl.col("step") == step)
    return _chosen(rows, columns, times)


def load_funding(
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None = None,
    *,
    times: Times = "ns",
    columns: Sequence[str] | None = None,
    data_dir: Path | str | None = None,
    missing: Missing = "error",
) -> pl.LazyFrame:
    """What the venue reported of a contract's funding, as published in `books.funding`.

    Rows come by instrument as they are given, by day, and by receipt. One is in force from its
    receipt until that of the next.

    Args:
        instruments, start, end, data_dir, missing: As for `load_bbo`. A day without a report
            of the instrument, as all days of spot are, is missing.
        times: As for `load_bbo`, also of `next_funding_ns`.
        columns: Only these columns; by default all, see `books.funding` in docs/sql.md.

    Raises:
        MissingDataError, SchemaError, DomainError, SettingsError: As `load_bbo`.
    """
    rows = _load(BOOK_FUNDING, instruments, start, end, columns, data_dir, missing)
    return _chosen(rows, columns, times)


def load_open_interest(
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None = None,
    *,
    times: Times = "ns",
    columns: Sequence[str] | None = None,
    data_dir: Path | str | None = None,
    missing: Missing = "error",
) -> pl.LazyFrame:
    """What the venue reported of a contract's open interest, as published in `books.open_interest`.

    Args:
        instruments, start, end, times, data_dir, missing: As for `load_funding`.
        columns: Only these columns; by default all, see `books.open_interest` in docs/sql.md.

    Raises:
        MissingDataError, SchemaError, DomainError, SettingsError: As `load_bbo`.
    """
    rows = _load(BOOK_OPEN_INTEREST, instruments, start, end, columns, data_dir, missing)
    return _chosen(rows, columns, times)


def _load(
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


def _of_width(rows: pl.LazyFrame, table: Table, column: str, seconds: int | None) -> pl.LazyFrame:
    """The rows of one width; one that no day has is refused, as nothing at all would pass for it.

    To find the first row of a width takes a row group.
    """
    if seconds is None:
        return rows
    chosen = rows.filter(pl.col(column) == seconds)
    if chosen.select(column).head(1).collect().is_empty():
        widths = rows.select(pl.col(column).unique().sort()).collect().to_series()
        raise DomainError(
            f"{table.sql_name} has no rows of this width in those days",
            next_step="Give one of its widths, or add yours to the settings (PIPELINE_BAR_SECONDS, "
            "PIPELINE_METRICS_SECONDS) and run the days again.",
            column=column,
            expected=" or ".join(map(str, widths)),
            found=str(seconds),
        )
    return chosen


def _valid(rows: pl.LazyFrame, valid_only: bool) -> pl.LazyFrame:
    return rows.filter(pl.col("flags") & int(INVALIDATING) == 0) if valid_only else rows


def _chosen(rows: pl.LazyFrame, columns: Sequence[str] | None, times: Times) -> pl.LazyFrame:
    return with_times(rows if columns is None else rows.select(columns), times)
