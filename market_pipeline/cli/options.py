"""The options that verbs share: days, instruments, and JSON in place of tables."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

import typer

__all__ = ["AsJson", "EndDate", "InstrumentIds", "StartDate", "in_order"]

_DAY = ["%Y-%m-%d"]
StartDate = Annotated[datetime, typer.Option(formats=_DAY, help="First UTC day.")]
EndDate = Annotated[datetime, typer.Option(formats=_DAY, help="Last UTC day, inclusive.")]
InstrumentIds = Annotated[
    list[str] | None,
    typer.Option("--instrument", metavar="VENUE:SYMBOL", help="Only this one; may be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]


def in_order(start_date: datetime, end_date: datetime) -> tuple[date, date]:
    """The first and the last day of a range.

    Raises:
        typer.BadParameter: The last one is before the first.
    """
    start, end = start_date.date(), end_date.date()
    if end < start:
        raise typer.BadParameter(f"{end} is before {start}", param_hint="--end-date")
    return start, end
