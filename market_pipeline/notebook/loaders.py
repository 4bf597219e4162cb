"""`load_bbo`, `load_trades` and so on: what is published of the books of some days, lazily."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import polars as pl

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.books.tables import BBO, BOOK_TRADES, DEPTH, INTERVALS
from market_pipeline.metrics.contract_states import BOOK_FUNDING, BOOK_OPEN_INTEREST
from market_pipeline.notebook.published import Missing, Times, chosen, loaded

__all__ = [
    "load_bbo",
    "load_depth",
    "load_funding",
    "load_intervals",
    "load_open_interest",
    "load_trades",
]


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
    rows = loaded(BBO, instruments, start, end, columns, data_dir, missing)
    return chosen(_valid(rows, valid_only), columns, times)


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
    rows = _valid(loaded(DEPTH, instruments, start, end, columns, data_dir, missing), valid_only)
    if confirmed_only:
        rows = rows.with_columns(
            pl.when(pl.col(f"{side}_levels_confirmed") > level)
            .then(pl.col(f"{side}_{level}_{part}"))
            .alias(f"{side}_{level}_{part}")
            for side in ("bid", "ask")
            for level in range(DEPTH_LEVELS)
            for part in ("price", "size", "price_ticks", "size_lots")
        )
    return chosen(rows, columns, times)


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
    rows = loaded(BOOK_TRADES, instruments, start, end, columns, data_dir, missing)
    return chosen(_valid(rows, valid_only), columns, times)


def load_intervals(
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None = None,
    *,
    times: Times = "ns",
    columns: Sequence[str] | None = None,
    data_dir: Path | str | None = None,
    missing: Missing = "error",
) -> pl.LazyFrame:
    """From when to when the book was not to be trusted, or was repaired, from `books.intervals`.

    Rows come by instrument as they are given, by day, and in a day by where they begin. A day with
    nothing to say of it has none.

    Args:
        instruments, start, end, data_dir, missing: As for `load_bbo`.
        times: As for `load_bbo`: "datetime" makes `start` and `end` of `start_ns` and `end_ns`.
        columns: Only these columns; by default all, see `books.intervals` in docs/sql.md, and
            docs/intervals.md, which says what each cause means.

    Raises:
        MissingDataError, SchemaError, DomainError, SettingsError: As `load_bbo`.
    """
    rows = loaded(INTERVALS, instruments, start, end, columns, data_dir, missing)
    return chosen(rows, columns, times)


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
    rows = loaded(BOOK_FUNDING, instruments, start, end, columns, data_dir, missing)
    return chosen(rows, columns, times)


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
    rows = loaded(BOOK_OPEN_INTEREST, instruments, start, end, columns, data_dir, missing)
    return chosen(rows, columns, times)


def _valid(rows: pl.LazyFrame, valid_only: bool) -> pl.LazyFrame:
    return rows.filter(pl.col("flags") & int(INVALIDATING) == 0) if valid_only else rows
