"""`market-pipeline verdict`: which days may be used, and why not."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Annotated

import typer

from market_pipeline import connect
from market_pipeline.cli.output import console, exit_code, verdict_table
from market_pipeline.config.settings import Settings, load_settings
from market_pipeline.quality.row import ReportRow
from market_pipeline.tables import TABLES

__all__ = ["InstrumentIds", "read_verdicts", "verdict"]

InstrumentIds = Annotated[
    list[str] | None,
    typer.Option("--instrument", metavar="VENUE:SYMBOL", help="Only this one; may be repeated."),
]
_DAY = ["%Y-%m-%d"]


def read_verdicts(
    settings: Settings,
    start: date | None = None,
    end: date | None = None,
    instruments: list[str] | None = None,
) -> list[ReportRow]:
    """The published verdict rows of the days from `start` to `end`, by day and instrument."""
    name = TABLES["validation_report"].sql_name
    with connect(settings.data_dir) as connection:
        frame = connection.execute(
            f"SELECT * FROM {name} WHERE dt >= coalesce($1, dt) AND dt <= coalesce($2, dt) "
            "AND (len($3::VARCHAR[]) = 0 OR list_contains($3, exchange || ':' || symbol)) "
            "ORDER BY dt, exchange, symbol",
            [start, end, instruments or []],
        ).pl()
    return [ReportRow.from_record(record) for record in frame.to_dicts()]


def verdict(
    start_date: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="First UTC day; default all.")
    ] = None,
    end_date: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="Last UTC day, inclusive.")
    ] = None,
    instrument: InstrumentIds = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print rows as JSON instead.")] = False,
) -> None:
    """Show the verdict of every published instrument and day.

    Exit code 0: all are available. 1: something is degraded, pending or missing, or there is
    nothing yet. 2: it could not be read.
    """
    rows = read_verdicts(
        load_settings(),
        start_date.date() if start_date else None,
        end_date.date() if end_date else None,
        instrument,
    )
    if as_json:
        typer.echo(json.dumps([row.as_record() for row in rows], default=str, indent=2))
    elif rows:
        console().print(verdict_table(rows))
    else:
        console().print("No published day matches; `market-pipeline run` judges days.")
    raise typer.Exit(exit_code(rows))
