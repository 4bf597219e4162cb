"""The options that verbs share: days, instruments, and JSON in place of tables."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

import typer

__all__ = ["DAY_FORMATS", "AsJson", "EndDate", "InstrumentIds", "StartDate", "in_order"]

DAY_FORMATS = ["%Y-%m-%d"]
"""How a day is given on the command line."""
StartDate = Annotated[datetime, typer.Option(formats=DAY_FORMATS, help="First UTC day.")]
EndDate = Annotated[
    datetime | None,
    typer.Option(formats=DAY_FORMATS, help="Last UTC day, inclusive; by default the first."),
]
InstrumentIds = Annotated[
    list[str] | None,
    typer.Option("--instrument", metavar="VENUE:SYMBOL", help="Only this one; may be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]


def in_order(start_date: datetime, end_date: datetime | None) -> tuple[date, date]:
    """The first and the last day of a range; without an end it is one day.

    Raises:
        typer.BadParameter: The last one is before the first.
    """
    start, end = start_date.date(), (end_date or start_date).date()
    if end < start:
        raise typer.BadParameter(f"{end} is before {start}", param_hint="--end-date")
    return start, end
