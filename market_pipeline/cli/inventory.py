"""`market-pipeline inventory`: which raw days there are, which are local, and which are missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from market_pipeline.cli.options import DAY_FORMATS, AsJson, InstrumentIds
from market_pipeline.cli.output import bytes_text, console, ranges_text

if TYPE_CHECKING:
    from market_pipeline.stages.raw.inventory import TableInventory

__all__ = ["inventory"]


def inventory(
    start_date: Annotated[
        datetime | None,
        typer.Option(formats=DAY_FORMATS, help="First UTC day; default the first found."),
    ] = None,
    end_date: Annotated[
        datetime | None,
        typer.Option(formats=DAY_FORMATS, help="Last UTC day; default the last found."),
    ] = None,
    instrument: InstrumentIds = None,
    as_json: AsJson = False,
) -> None:
    """Show what the lake has of each instrument, table and day, what is local and what is missing.

    Nothing is downloaded. Exit code 0: every table has every day of the range on which its
    instrument is listed. 1: a day is missing, or there is none. 2: the lake could not be looked at.
    """
    from market_pipeline.config.instruments import load_instruments, select_instruments
    from market_pipeline.config.settings import load_settings
    from market_pipeline.stages.raw.convert import CONVERTED_FOLDER
    from market_pipeline.stages.raw.inventory import take_inventory

    start, end = (each and each.date() for each in (start_date, end_date))
    if start and end and end < start:
        raise typer.BadParameter(f"{end} is before {start}", param_hint="--end-date")
    settings = load_settings()
    chosen = select_instruments(load_instruments(settings.instruments_file), instrument or [])
    store = None
    if settings.store_address is not None:
        from market_pipeline.store.client import open_store
        from market_pipeline.telemetry.metrics.recording import begin

        begin(settings, "command")
        store = open_store(settings)
    with store or nullcontext():
        tables = take_inventory(
            settings.lake_path,
            store,
            chosen,
            start,
            end,
            converted=settings.data_dir / CONVERTED_FOLDER,
            parallel=settings.lake_parallel_downloads,
        )
    if as_json:
        typer.echo(json.dumps([each.as_json() for each in tables], indent=2))
    else:
        console().print(_table(settings.lake_uri, tables, with_local=store is not None))
    whole = bool(tables) and all(each.days and not each.missing for each in tables)
    raise typer.Exit(0 if whole else 1)


def _table(lake: str, tables: Sequence[TableInventory], *, with_local: bool) -> Table:
    shown = Table(title=f"Raw days of {lake}", title_justify="left")
    for column in ("instrument", "table"):
        shown.add_column(column, no_wrap=True)
    with_only_local = any(each.only_local_days for each in tables)
    local = ("local",) if with_local else ()
    only_local = ("only local",) if with_only_local else ()
    with_not_listed = any(each.not_listed for each in tables)
    not_listed = ("not listed",) if with_not_listed else ()
    for column in ("days", "missing", *not_listed, *local, *only_local):
        shown.add_column(column, overflow="fold")
    for column in ("objects", "size", *(("local size",) if with_local else ())):
        shown.add_column(column, justify="right", no_wrap=True)
    for each in tables:
        shown.add_row(
            each.instrument,
            each.raw_table,
            ranges_text(each.listed_days),
            ranges_text(each.missing),
            *([ranges_text(each.not_listed)] if with_not_listed else []),
            *([ranges_text(each.local_days)] if with_local else []),
            *([ranges_text(each.only_local_days)] if with_only_local else []),
            f"{each.objects:,}",
            bytes_text(each.bytes),
            *([bytes_text(each.local_bytes)] if with_local else []),
        )
    return shown
