"""`plot_day`: the plot of an instrument's day as it is published, or of a part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl

from market_pipeline.errors import DomainError, MissingDataError
from market_pipeline.notebook.published import published_days
from market_pipeline.notebook.times import nanoseconds_of, utc_day
from market_pipeline.plots.day import day_plot
from market_pipeline.plots.plot import Plot
from market_pipeline.plots.samples import sampled_depth, sampled_quotes, shown_intervals
from market_pipeline.plots.window import Window
from market_pipeline.quality.row import VALIDATION_REPORT, ReportRow
from market_pipeline.quality.words import measured
from market_pipeline.tables import TABLES, open_catalogue
from market_pipeline.warehouse.file_views import shown_files

__all__ = ["plot_day", "plot_files"]

_DRAWN = ("book_bbo", "book_depth", "book_intervals")


def plot_day(
    instrument: str,
    day: date | str,
    *,
    start: datetime | str | int | None = None,
    end: datetime | str | int | None = None,
    data_dir: Path | str | None = None,
) -> Plot:
    """Mid, invalid spans, spread and depth of a published day: the plot of the report page.

    Mid, spread and depth are those of valid books; nothing is drawn across what is not known. The
    day is read in bounded memory.

    Args:
        instrument: An id, such as BINANCE_FUTURES:BTC-USDT-PERP.
        day: The UTC day: a date, or text as 2024-08-08.
        start, end: Show only this part of it, by receipt time: a datetime with a zone, text as
            2024-08-08T12:00:00Z, or int ns since the epoch, UTC.
        data_dir: The data folder; by default the one of the settings in force.

    Raises:
        MissingDataError: That day is not published of that instrument.
        DomainError: A day or a time cannot be read, or the end is not after the start.
        SettingsError: No folder is given and the settings are not usable.
    """
    venue, _, symbol = instrument.partition(":")
    day = utc_day("day", day)
    of = published_days(TABLES["book_bbo"], instrument, day, None, data_dir, "error")
    with open_catalogue(of.warehouse.data_dir) as connection:
        found = connection.execute(
            f"FROM {VALIDATION_REPORT.sql_name} WHERE exchange = ? AND symbol = ? AND dt = ?",
            [venue, symbol, day],
        ).pl()
        files = {
            asset: shown_files(connection, of.warehouse, TABLES[asset], day, instrument)
            for asset in _DRAWN
        }
    for row in ReportRow.read(found):
        if plot := plot_files(row, files, start=start, end=end):
            return plot
    raise MissingDataError(
        f"There is no verdict on the book of {instrument} on {day}",
        next_step="Run the pipeline for that day: its ticks and times are known from the report.",
        file=of.warehouse.data_dir,
    )


def plot_files(
    row: ReportRow,
    files: Mapping[str, Sequence[Path]],
    *,
    start: datetime | str | int | None = None,
    end: datetime | str | int | None = None,
) -> Plot | None:
    """The plot of the files of a day; None if it was not rebuilt.

    Args:
        row: The day's verdict.
        files: Of book_bbo, book_depth and book_intervals, the parts of each in order.
        start, end: As for `plot_day`.
    """
    if row.outcome != "rebuilt" or not all(files.get(asset) for asset in _DRAWN):
        return None
    window = _window(row, start, end)
    bbo, depth, intervals = (files[asset] for asset in _DRAWN)
    in_window = pl.col("start_ns").is_between(window.start_ns, window.end_ns, closed="left")
    return day_plot(
        window,
        sampled_quotes(bbo, window.every_ns).filter(in_window),
        shown_intervals(intervals, window.every_ns).filter(
            pl.col("end_ns") > window.start_ns, pl.col("start_ns") < window.end_ns
        ),
        sampled_depth(depth, window.every_ns),
        tick=Decimal(measured(row.tick)),
        lot=Decimal(measured(row.lot)),
        title=f"Mid, intervals, spread and depth of {row.instrument_id} on {row.dt}",
    )


def _window(
    row: ReportRow, start: datetime | str | int | None, end: datetime | str | int | None
) -> Window:
    """What is shown: by default where the day's messages are."""
    first_ns, last_ns = measured(row.first_message_ns), measured(row.last_message_ns)
    window = Window.of_day(row.dt, first_ns, last_ns)
    if start is None and end is None:
        return window
    start_ns = window.start_ns if start is None else nanoseconds_of(start)
    end_ns = window.end_ns if end is None else nanoseconds_of(end)
    if end_ns <= start_ns:
        raise DomainError(
            "The end is not after the start",
            next_step="Give two times of the receipt clock within the day.",
            column="end",
            expected=f"more than {start_ns}",
            found=str(end_ns),
        )
    return Window.of_span(start_ns, end_ns)
