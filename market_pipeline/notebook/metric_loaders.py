"""`load_bars`, `load_metrics` and so on: what is published of the metrics of some days, lazily."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import polars as pl

from market_pipeline.books.tables import CHECKPOINTS
from market_pipeline.config.information_bars import BarKind
from market_pipeline.errors import DomainError
from market_pipeline.metrics.checkpoint_depth import CHECKPOINT_DEPTH
from market_pipeline.metrics.tables import BARS, BOOK_METRICS, DAILY_METRICS, INFORMATION_BARS
from market_pipeline.notebook.published import (
    Missing,
    PublishedDays,
    Times,
    chosen,
    loaded,
    published_days,
    refuse_other,
    refuse_unknown,
)
from market_pipeline.warehouse.tables import Table

__all__ = [
    "load_bars",
    "load_checkpoint_depth",
    "load_daily",
    "load_information_bars",
    "load_metrics",
]


def load_bars(
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None = None,
    *,
    width_seconds: int | None = None,
    times: Times = "ns",
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
        times: `bar_start` is a datetime in either case, without a zone and UTC; "datetime" makes
            one with a zone of it, to the nanosecond, which joins with those of other tables.
        columns: Only these columns; by default all, see `metrics.bars` in docs/sql.md. Prices are
            null without a trade, mid and spread without valid time, volumes without a trades file.

    Raises:
        MissingDataError, SchemaError, DomainError, SettingsError: As `load_bbo`. `DomainError` also
            if no day has bars of that width.
    """
    rows = loaded(BARS, instruments, start, end, columns, data_dir, missing)
    rows = _of_width(rows, BARS, "width_seconds", width_seconds)
    return chosen(rows, columns, times)


def load_metrics(
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None = None,
    *,
    interval_seconds: int | None = None,
    times: Times = "ns",
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
        times: As for `load_bars`, of `interval_start`.
        columns: Only these columns; by default all, see `metrics.book_metrics` in docs/sql.md,
            which says of each why it may be null, and docs/metrics.md, which has the formulas.

    Raises:
        MissingDataError, SchemaError, DomainError, SettingsError: As `load_bbo`. `DomainError` also
            if no day has intervals of that width.
    """
    rows = loaded(BOOK_METRICS, instruments, start, end, columns, data_dir, missing)
    rows = _of_width(rows, BOOK_METRICS, "interval_seconds", interval_seconds)
    return chosen(rows, columns, times)


def load_information_bars(
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None = None,
    *,
    kind: BarKind | None = None,
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
        kind: Only bars of this kind; by default of all kinds that the instruments ask for.
        step: Only bars of this step, as configured; by default of all steps.
        times: As for `load_bbo`: "datetime" makes `first`, `last` and `known` of `first_ns`,
            `last_ns` and `known_ns`.
        columns: Only these columns; by default all, see `metrics.information_bars` in docs/sql.md.

    Raises:
        MissingDataError, SchemaError, DomainError, SettingsError: As `load_bbo`. `DomainError` also
            if there are bars in those days, but none of that kind and step.
    """
    rows = loaded(INFORMATION_BARS, instruments, start, end, columns, data_dir, missing)
    if kind is not None:
        refuse_other("kind", kind, BarKind)
    asked = {name: value for name, value in (("kind", kind), ("step", step)) if value is not None}
    return chosen(_of_kind(rows, asked), columns, times)


def load_daily(
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None = None,
    *,
    columns: Sequence[str] | None = None,
    data_dir: Path | str | None = None,
    missing: Missing = "error",
) -> pl.LazyFrame:
    """The figures of each day, and their course by hour, as published in `metrics.daily`.

    Rows come by instrument as they are given, and by day. They are few, and read at once.

    Args:
        instruments, start, end, data_dir, missing: As for `load_bbo`.
        columns: Only these columns; by default all, see `metrics.daily` in docs/sql.md.

    Raises:
        MissingDataError, SchemaError, DomainError, SettingsError: As `load_bbo`.
        WarehouseBusyError, PublishError: As `connect`.
    """
    refuse_unknown(DAILY_METRICS, columns)
    found = published_days(DAILY_METRICS, instruments, start, end, data_dir, missing)
    return chosen(_queried("load_daily", found), columns, "ns")


def load_checkpoint_depth(
    instruments: str | Sequence[str],
    start: date | str,
    end: date | str | None = None,
    *,
    times: Times = "ns",
    columns: Sequence[str] | None = None,
    data_dir: Path | str | None = None,
    missing: Missing = "error",
) -> pl.LazyFrame:
    """Depth of the whole book by distance from the mid, from `metrics.checkpoint_depth`.

    Rows come by instrument as they are given, by day, and in a day by time: one for each checkpoint
    whose book is valid and has both sides. They are few, and made at once of the checkpoints, which
    takes about as long as to read these.

    Args:
        instruments, start, end, times, data_dir, missing: As for `load_bbo`.
        columns: Only these columns; by default all, see `metrics.checkpoint_depth` in docs/sql.md.
            A depth that no snapshot confirmed so far out is null.

    Raises:
        MissingDataError, SchemaError, DomainError, SettingsError: As `load_bbo`.
        WarehouseBusyError, PublishError: As `connect`.
    """
    refuse_unknown(CHECKPOINT_DEPTH, columns)
    found = published_days(CHECKPOINTS, instruments, start, end, data_dir, missing)
    return chosen(_queried("load_checkpoint_depth", found), columns, times)


def _queried(macro: str, found: PublishedDays) -> pl.LazyFrame:
    """The rows that a macro of the catalogue has of the days that were found."""
    # Here, because its macros know flags by name, for which numba would be imported.
    from market_pipeline.tables import open_catalogue  # noqa: PLC0415

    asked = [list(found.instruments), found.days[0], found.days[-1]]
    with open_catalogue(found.warehouse.data_dir) as catalogue:
        rows = catalogue.execute(f"FROM {macro}(?, ?, last_day := ?)", asked).pl()
    given = pl.DataFrame({"of": found.instruments}).with_row_index("place")
    return (
        rows.with_columns(of=pl.concat_str("exchange", "symbol", separator=":"))
        .join(given, on="of", how="left", maintain_order="left")
        .sort("place", "dt", maintain_order=True)
        .drop("of", "place")
        .lazy()
    )


def _of_kind(rows: pl.LazyFrame, asked: Mapping[str, str | float]) -> pl.LazyFrame:
    """The bars of a kind, a step or both; what none of the bars is of is refused, as a width is."""
    of_kind = rows.filter(**asked)
    if asked and of_kind.select("kind").head(1).collect().is_empty():
        known = rows.select("kind", "step").unique().sort("kind", "step").collect().rows()
        if known:
            raise DomainError(
                f"{INFORMATION_BARS.sql_name} has no bars of this kind and step in those days",
                next_step="Give a kind and a step that are there, or add yours to the instrument "
                "(bars) and run the days again.",
                column=" and ".join(asked),
                expected=" or ".join(f"{kind} {step:g}" for kind, step in known),
                found=" ".join(map(str, asked.values())),
            )
    return of_kind


def _of_width(rows: pl.LazyFrame, table: Table, column: str, seconds: int | None) -> pl.LazyFrame:
    """The rows of one width; one that no day has is refused, as nothing at all would pass for it.

    To find the first row of a width takes a row group.
    """
    if seconds is None:
        return rows
    of_width = rows.filter(pl.col(column) == seconds)
    if of_width.select(column).head(1).collect().is_empty():
        widths = rows.select(pl.col(column).unique().sort()).collect().to_series()
        raise DomainError(
            f"{table.sql_name} has no rows of this width in those days",
            next_step="Give one of its widths, or add yours to the settings (PIPELINE_BAR_SECONDS, "
            "PIPELINE_METRICS_SECONDS) and run the days again.",
            column=column,
            expected=" or ".join(map(str, widths)),
            found=str(seconds),
        )
    return of_width
