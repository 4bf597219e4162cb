"""`market-pipeline verdict`: which days may be used, and why not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from market_pipeline import connect
from market_pipeline.cli.options import DAY_FORMATS, InstrumentIds
from market_pipeline.cli.output import console, exit_code, print_verdicts

if TYPE_CHECKING:
    from market_pipeline.config.settings import Settings
    from market_pipeline.quality.row import ReportRow

__all__ = ["read_verdicts", "verdict"]

_DAYS_AT_ONCE = 100
_REPORT = "quality.validation_report"
_CHOSEN = (
    "dt >= coalesce($1, dt) AND dt <= coalesce($2, dt) "
    "AND (len($3::VARCHAR[]) = 0 OR list_contains($3, exchange || ':' || symbol))"
)
_IN_ORDER = "ORDER BY dt, exchange, symbol"

_SHOWN = (
    *("exchange", "symbol", "dt", "condition", "reasons", "warnings", "outcome", "messages"),
    *("valid_seconds", "gap_seconds", "crossed_seconds", "skew_p50_ms"),
)
"""The columns that the table of verdicts is made of."""


def read_verdicts(
    settings: Settings,
    start: date | None = None,
    end: date | None = None,
    instruments: list[str] | None = None,
    columns: Sequence[str] = _SHOWN,
) -> list[ReportRow]:
    """The published verdict rows of the days from `start` to `end`, by day and instrument.

    Args:
        settings: Whose data folder.
        start, end: The first and the last UTC day, both included; None leaves that end open.
        instruments: Only these ids; empty or None for all.
        columns: Which are read, `*` for all; the others are None.
    """
    from market_pipeline.quality.row import ReportRow

    with connect(settings.data_dir) as connection:
        frame = connection.execute(
            f"SELECT {', '.join(columns)} FROM {_REPORT} WHERE {_CHOSEN} {_IN_ORDER}",
            [start, end, instruments or []],
        ).pl()
    return ReportRow.read(frame)


def _print_json(
    settings: Settings, start: date | None, end: date | None, instruments: list[str]
) -> bool:
    """Print an array of whole rows, some days at a time; whether all are available."""
    conditions = set()
    with connect(settings.data_dir) as connection:
        chosen = [start, end, instruments]
        query = f"SELECT DISTINCT dt FROM {_REPORT} WHERE {_CHOSEN} ORDER BY dt"
        days = [day for (day,) in connection.execute(query, chosen).fetchall()]
        before = "[\n"
        for first in range(0, len(days), _DAYS_AT_ONCE):
            some = days[first : first + _DAYS_AT_ONCE]
            rows = connection.execute(
                f"SELECT condition, CAST(to_json(row) AS VARCHAR) FROM {_REPORT} AS row "
                f"WHERE {_CHOSEN} {_IN_ORDER}",
                [some[0], some[-1], instruments],
            ).fetchall()
            for condition, record in rows:
                typer.echo(f"{before}{record}", nl=False)
                conditions.add(condition)
                before = ",\n"
    typer.echo("\n]" if days else "[]")
    return conditions == {"available"}


def verdict(
    start_date: Annotated[
        datetime | None, typer.Option(formats=DAY_FORMATS, help="First UTC day; default all.")
    ] = None,
    end_date: Annotated[
        datetime | None, typer.Option(formats=DAY_FORMATS, help="Last UTC day, inclusive.")
    ] = None,
    instrument: InstrumentIds = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print rows as JSON instead.")] = False,
) -> None:
    """Show the verdict of every published instrument and day.

    Exit code 0: all are available. 1: something is degraded, pending or missing, or there is
    nothing yet. 2: it could not be read.
    """
    from market_pipeline.config.settings import load_settings

    settings, chosen = load_settings(), instrument or []
    start = start_date.date() if start_date else None
    end = end_date.date() if end_date else None
    if as_json:
        raise typer.Exit(0 if _print_json(settings, start, end, chosen) else 1)
    rows = read_verdicts(settings, start, end, chosen)
    if rows:
        print_verdicts(console(), rows)
    else:
        console().print("No published day matches; `market-pipeline run` validates days.")
    raise typer.Exit(exit_code(rows))
