"""`market-pipeline logs`: the lines of all processes that belong together, in order of time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from market_pipeline.cli.options import DAY_FORMATS, InstrumentIds
from market_pipeline.cli.output import console, errors_console

if TYPE_CHECKING:
    from market_pipeline.telemetry.logs.process_log import Line

__all__ = ["logs"]

_STYLES = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "bold red"}

# JSON may hold them as they are, and terminals obey some of them.
_ESCAPED = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}


def logs(
    run: Annotated[
        str, typer.Option(metavar="ID", help="Of this run of Dagster; the first characters do.")
    ] = "",
    day: Annotated[
        datetime | None,
        typer.Option(
            formats=DAY_FORMATS,
            help="Of the runs of this UTC day, and what no run logged on that day.",
        ),
    ] = None,
    instrument: InstrumentIds = None,
    level: Annotated[str, typer.Option(help="From this level on: debug, info, warning, error.")] = (
        "debug"
    ),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the lines as they are kept instead.")
    ] = False,
) -> None:
    """Show what all processes logged of a run, or of a day, in the order of time.

    Exit code 0: there are such lines. 1: there are none. 2: wrong usage.
    """
    from market_pipeline.config.settings import usable_settings
    from market_pipeline.telemetry.logs.process_log import LEVELS, log_folder
    from market_pipeline.telemetry.logs.search import Search

    if level not in LEVELS:
        raise typer.BadParameter(f"expected one of {', '.join(LEVELS)}", param_hint="--level")
    if not run and day is None:
        raise typer.BadParameter("give a run, or a day", param_hint="--run, --day")
    settings, _ = usable_settings()
    if settings.log_to != "file":
        errors_console().print(
            f"PIPELINE_LOG_TO is {settings.log_to}: these are the lines of before. "
            "`journalctl -t market-pipeline` shows those of journald."
        )
    search = Search(
        run, "" if day is None else f"{day:%Y-%m-%d}", frozenset(instrument or ()), LEVELS[level]
    )
    found = search.lines(log_folder(settings))
    out = console()
    for text, line in found:
        if as_json:
            typer.echo(text.translate(_ESCAPED))
        else:
            for part in _shown(line):
                out.print(part, highlight=False, soft_wrap=True)
    raise typer.Exit(0 if found else 1)


def _shown(line: Line) -> Iterator[Text]:
    """The line for a person, its traceback below it."""
    where = " ".join(filter(None, (line.run[:8], line.step, line.instrument)))
    style = _STYLES.get(line.level, "")
    yield Text.assemble(
        (f"{line.time[:-4].replace('T', ' ')} ", "dim"),
        (f"{line.level:<8}", style),
        f"{line.process}[{line.pid}] ",
        (f"{where} " if where else "", "cyan"),
        (line.message, style),
    )
    if line.error:
        yield Text(line.error.rstrip(), style="dim")
