"""`market-pipeline coverage`: which days there are of which instrument, as a grid."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from market_pipeline import connect
from market_pipeline.cli.options import DAY_FORMATS, InstrumentIds
from market_pipeline.cli.output import console
from market_pipeline.plots.colours import LETTERS

if TYPE_CHECKING:
    import polars as pl

__all__ = ["coverage", "day_blocks"]

_STYLES = {
    "available": "black on green",
    "degraded": "black on yellow",
    "pending": "black on bright_blue",
    "missing": "white on red",
}
_NOTHING, _NOT_LISTED = ".", " "
_MAX_NAME = 44
_WEEK = 7


def coverage(
    start_date: Annotated[
        datetime | None, typer.Option(formats=DAY_FORMATS, help="First UTC day; default all.")
    ] = None,
    end_date: Annotated[
        datetime | None, typer.Option(formats=DAY_FORMATS, help="Last UTC day, inclusive.")
    ] = None,
    instrument: InstrumentIds = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print rows as JSON instead.")] = False,
) -> None:
    """Show the condition of every instrument and day as a grid, holes included.

    Exit code 0: every day shown is available, those aside on which an instrument is not listed. 1:
    something is degraded, pending, missing or was not validated, or there is nothing yet. 2: it
    could not be read.
    """
    from market_pipeline.config.settings import load_settings
    from market_pipeline.quality.coverage import not_listed, read_coverage

    with connect(load_settings().data_dir) as connection:
        cells = read_coverage(
            connection,
            start_date.date() if start_date else None,
            end_date.date() if end_date else None,
            instrument or (),
        )
    if as_json:
        typer.echo(json.dumps(cells.to_dicts(), default=str, indent=2))
    elif cells.height:
        _print(console(), cells)
    else:
        console().print("No published day matches; `market-pipeline run` validates days.")
    expected = cells.filter(~not_listed())
    is_available = expected["condition"].eq_missing("available")
    raise typer.Exit(0 if expected.height and is_available.all() else 1)


def _print(out: Console, cells: pl.DataFrame) -> None:
    import polars as pl

    from market_pipeline.quality.coverage import not_listed

    without = pl.when(not_listed()).then(pl.lit(_NOT_LISTED)).otherwise(pl.lit(_NOTHING))
    days = cells["dt"].unique().sort().to_list()
    first = days[0]
    conditions = {
        name: conditions
        for name, conditions in cells.group_by(
            pl.format("{}:{}", "exchange", "symbol").alias("instrument"), maintain_order=True
        )
        .agg(pl.col("condition").fill_null(without))
        .iter_rows()
    }
    width = min(max(map(len, conditions)), _MAX_NAME)
    for block in day_blocks(days, out.width - width - 1):
        for heading in _headings(block):
            out.print(Text(" " * (width + 1) + heading.rstrip()), no_wrap=True, crop=True)
        for name, found in conditions.items():
            line = Text(f"{_cropped(name, width):{width}}")
            for month in block:
                line.append(" ")
                begin = (month[0] - first).days
                for condition, run in groupby(found[begin : begin + len(month)]):
                    letter = LETTERS.get(condition, condition)
                    line.append(letter * len(list(run)), _STYLES.get(condition, "dim"))
            out.print(line, no_wrap=True, crop=True)
        out.print()
    legend = Text()
    for condition, letter in LETTERS.items():
        legend.append(letter, _STYLES[condition])
        legend.append(f" {condition}   ")
    legend.append(f"{_NOTHING} not validated")
    out.print(legend)
    out.print()
    out.print(_totals(cells, len(days)))


def day_blocks(days: Sequence[date], width: int) -> Iterator[list[list[date]]]:
    """The days as blocks that fit the width, a column a day and one between two months.

    A block holds whole months, or where a month does not fit whole weeks from the 1st, 8th, 15th,
    22nd and 29th; at least one week, however narrow.
    """
    months = [list(month) for _, month in groupby(days, key=lambda day: (day.year, day.month))]
    if max(map(len, months)) > width:
        months = [
            list(week)
            for month in months
            for _, week in groupby(month, key=lambda day: (day.day - 1) // _WEEK)
        ]
    block: list[list[date]] = []
    used = 0
    for part in months:
        follows = bool(block) and block[-1][-1].month == part[0].month
        needed = len(part) + (0 if follows or not block else 1)
        if block and used + needed > width:
            yield block
            block, used, follows, needed = [], 0, False, len(part)
        if follows:
            block[-1] = [*block[-1], *part]
        else:
            block.append(part)
        used += needed
    yield block


def _headings(block: Sequence[Sequence[date]]) -> list[str]:
    """The months, and the days' tens and units below one another."""
    return [
        "".join(_month_name(month, month is block[-1]) for month in block),
        " ".join("".join(str(day.day // 10) for day in month) for month in block),
        " ".join("".join(str(day.day % 10) for day in month) for month in block),
    ]


def _month_name(days: Sequence[date], is_last: bool) -> str:
    """The month above its days, shorter where the next one's name would begin too soon."""
    first = days[0]
    fits = (name for name in (f"{first:%Y-%m}", f"{first:%b}") if is_last or len(name) <= len(days))
    return next(fits, "").ljust(len(days) + 1)


def _cropped(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width - 1]}…"


def _totals(cells: pl.DataFrame, days: int) -> Table:
    """How many days of each condition an instrument has, and how much of all of them is valid."""
    import polars as pl

    from market_pipeline.quality.coverage import not_listed

    # Nothing that is known in one line may be cut: the letters stand for the conditions.
    table = Table(f"{days} days", box=None, pad_edge=False)
    for column in (*LETTERS.values(), _NOTHING, "valid time"):
        table.add_column(column, justify="right", no_wrap=True)
    totals = cells.group_by("exchange", "symbol", maintain_order=True).agg(
        *((pl.col("condition") == condition).sum().alias(condition) for condition in LETTERS),
        (pl.col("condition").is_null() & ~not_listed()).sum().alias("nothing"),
        (pl.col("valid_share").fill_null(0.0) * pl.col("expected_seconds")).sum()
        / pl.col("expected_seconds").sum().replace(0, None),
    )
    for exchange, symbol, *counts, share in totals.iter_rows():
        valid = "-" if share is None else f"{share:.3%}"
        table.add_row(f"{exchange}:{symbol}", *(f"{count:,}" for count in counts), valid)
    return table
