"""The errors of instruments and days that are not published: why, and what to do about it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import date
from typing import Final

from market_pipeline.errors import MarketPipelineError, MissingDataError
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.tables import Table, View

__all__ = ["absent_days", "nothing_of"]

_NAMED_AT_MOST = 5
_NEXT_STEP: Final = {
    "quarantined": "`failure` in books.rebuilds says which raw file could not be used, and why: "
    "put a good one in its place and run that day again",
    "no_data": "There were no raw rows: fetch that day into the lake and run it",
    "rebuilt": "Its book is there: look whether the lake has the raw file that this table is of, "
    "and what `market-pipeline verdict` says of that day",
    None: "Run the pipeline for it",
}
"""What to do about a day that a table does not have, by `outcome` in `books.rebuilds`."""


def nothing_of(
    warehouse: Warehouse, table: Table | View, instrument: str, known: Collection[str]
) -> MissingDataError:
    """The error of an instrument of which a table has no day; `known` are those of which it has."""
    if outcomes := _outcomes(warehouse, instrument):
        return absent_days(warehouse, table, instrument, (), sorted(outcomes))
    return MissingDataError(
        f"{table.sql_name} has nothing of {instrument}",
        next_step="Write the instrument as VENUE:SYMBOL, check the data folder, or run the "
        "pipeline for it.",
        file=warehouse.data_dir,
        expected=f"one of {_some(sorted(known))}" if known else "at least one published day",
        found=instrument if known else "nothing is published",
    )


def absent_days(
    warehouse: Warehouse,
    table: Table | View,
    instrument: str,
    published: Collection[date],
    absent: Sequence[date],
    *,
    may_skip: bool = False,
) -> MissingDataError:
    """The error of days that a table does not have of an instrument; the first one says what to do.

    Args:
        warehouse, table, instrument: What was asked for.
        published: The days it has.
        absent: Those it was asked for and does not have; one at least.
        may_skip: Whether the other days can be had without them.
    """
    outcomes = _outcomes(warehouse, instrument)
    named = [
        f"{day} ({outcomes[day].replace('_', ' ')})" if day in outcomes else str(day)
        for day in absent
    ]
    others = "; missing='skip' takes the other days" if may_skip else ""
    return MissingDataError(
        f"{table.sql_name} does not have every day of {instrument} that was asked for"
        if published
        else f"{table.sql_name} has no day of {instrument}",
        next_step=f"{_NEXT_STEP[outcomes.get(absent[0])]}{others}.",
        file=warehouse.data_dir,
        expected=f"days between {min(published)} and {max(published)}"
        if published
        else "at least one published day",
        found=f"no {_some(named)}",
    )


def _outcomes(warehouse: Warehouse, instrument: str) -> dict[date, str]:
    """What became of each day of an instrument that was run; nothing if that cannot be read."""
    if not warehouse.catalogue.exists():
        return {}  # to open one would make it, and the folder
    # Here, because its macros know flags by name, for which numba would be imported.
    from market_pipeline.tables import open_catalogue  # noqa: PLC0415

    with suppress(MarketPipelineError), open_catalogue(warehouse.data_dir) as catalogue:
        outcomes = "SELECT dt, outcome FROM books.rebuilds WHERE exchange || ':' || symbol = ?"
        return dict(catalogue.execute(outcomes, [instrument]).fetchall())
    return {}


def _some(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
