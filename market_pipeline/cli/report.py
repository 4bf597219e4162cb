"""`market-pipeline report`: all that is known of a day as one HTML file."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from market_pipeline import connect
from market_pipeline.cli.options import DAY_FORMATS, InstrumentIds
from market_pipeline.cli.output import console
from market_pipeline.cli.verdict import read_verdicts

__all__ = ["report"]


def report(
    day: Annotated[datetime, typer.Option(formats=DAY_FORMATS, help="The UTC day.")],
    instrument: InstrumentIds = None,
    output: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            readable=False,
            help="The file to write; default `report-DAY.html` in this folder.",
        ),
    ] = None,
) -> None:
    """Write a day's verdicts, checks, places, plots and raw files into one HTML file.

    It opens without a network and without scripts; its path is printed.

    Exit code 0: it was written. 1: nothing was validated on that day, and nothing is written. 2: it
    could not be read or written.
    """
    from market_pipeline.audit.record import record
    from market_pipeline.config.instruments import load_instruments, select_instruments
    from market_pipeline.config.settings import load_settings
    from market_pipeline.pages.reading import read_instrument_day
    from market_pipeline.pages.report import write_report_page
    from market_pipeline.warehouse.layout import Warehouse

    settings = load_settings()
    configured = {each.id: each for each in load_instruments(settings.instruments_file)}
    rows = read_verdicts(settings, day.date(), day.date(), instrument, ("*",))
    validated = {row.instrument_id for row in rows}
    unvalidated = [name for name in instrument or configured if name not in validated]
    if unvalidated:
        select_instruments(tuple(configured.values()), unvalidated)  # refuses what nobody knows
    if not rows:
        console().print(
            f"Nothing was validated on {day.date()}; `market-pipeline run` validates days.",
            highlight=False,
        )
        raise typer.Exit(1)
    file = (output or Path(f"report-{day.date()}.html")).absolute()
    warehouse = Warehouse(settings.data_dir)
    days, ids = [f"{day.date()}"] * 2, [row.instrument_id for row in rows]
    what = {"table": "every table", "by": "report", "instruments": ids, "days": days}
    record(settings.data_dir, "read", what | {"file": str(file)})
    with connect(settings.data_dir) as connection:
        shown = (
            read_instrument_day(connection, warehouse, row, configured.get(row.instrument_id))
            for row in rows
        )
        write_report_page(file, day.date(), rows, unvalidated, shown)
    typer.echo(file)
