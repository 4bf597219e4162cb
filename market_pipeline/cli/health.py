"""`market-pipeline health`: is what was expected there, and does what should run still run."""

from __future__ import annotations

import json
import logging
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from market_pipeline.cli.days import run_days
from market_pipeline.cli.options import AsJson
from market_pipeline.cli.output import console, errors_console, findings_table
from market_pipeline.cli.run import print_failed

if TYPE_CHECKING:
    from market_pipeline.health.memory import Memory
    from market_pipeline.health.report import Health
    from market_pipeline.warehouse.layout import Warehouse

__all__ = ["health"]


def health(
    alert: Annotated[
        bool, typer.Option("--alert", help="Report what is new or over to the receivers of alerts.")
    ] = False,
    enforce: Annotated[
        bool, typer.Option("--enforce", help="Run the days that are missing, three times at most.")
    ] = False,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Record what `--enforce` would run now; nothing is run."),
    ] = False,
    days: Annotated[int, typer.Option(min=1, max=366, help="Look at so many days.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Look whether the days that are due are there, and whether everything runs that should.

    It needs neither the daemon nor the code location, and works where settings are broken: run it
    from a timer of the system, with `--alert`.

    Exit code 0: healthy. 1: degraded, something warns. 2: failed; all of the look alone.
    """
    if audit and enforce:
        raise typer.BadParameter("--audit runs nothing, so it does not go with --enforce")
    from market_pipeline.config.settings import usable_settings
    from market_pipeline.health.days import days_to_run
    from market_pipeline.health.disk import with_sample
    from market_pipeline.health.figures import record_health
    from market_pipeline.health.look import look
    from market_pipeline.health.memory import Memory
    from market_pipeline.health.telling import reassure, tell
    from market_pipeline.telemetry.metrics.recording import begin
    from market_pipeline.warehouse.layout import Warehouse

    settings, problems = usable_settings()
    begin(settings, "command")
    warehouse, now_s = Warehouse(settings.data_dir), time.time()
    memory = Memory.of(warehouse)
    found = look(settings, problems, memory.disks, now_s, days)
    memory.disks = with_sample(memory.disks, found.disks)
    record_health(found)
    if alert:
        tell(found, settings, memory)
        reassure(found, settings)
    with ExitStack() as stack:
        may_run = enforce and not problems and _is_alone(warehouse, stack)
        missing = days_to_run(found.expected, memory.tries)
        wanted = missing if may_run else []
        memory.count_tries(wanted, {each.day for each in found.expected})
        to_run = [day.isoformat() for day in missing]
        memory.audited = to_run if audit else memory.audited
        is_remembered = _is_remembered(memory, warehouse)
        if as_json:
            typer.echo(json.dumps({**found.as_json(), "to_run": to_run}, indent=2))
        else:
            _print(found, to_run if audit else None)
        if wanted and is_remembered:  # or nobody would know that they were tried
            ids = sorted({each.instrument for each in found.expected})
            print_failed(run_days(wanted, ids, errors_console()))
    raise typer.Exit(found.exit_code)


def _print(found: Health, audited: list[str] | None) -> None:
    console().print(findings_table(found.findings))
    console().print(found.word)
    if audited is not None:
        text = ", ".join(audited) or "no day"
        console().print(f"--enforce would run {text}", soft_wrap=True)


def _is_remembered(memory: Memory, warehouse: Warehouse) -> bool:
    try:
        memory.keep(warehouse)
    except OSError as error:  # a full disk is a finding already
        logging.getLogger(__name__).warning("Nothing is remembered of this look: %s", error)
        return False
    return True


def _is_alone(warehouse: Warehouse, stack: ExitStack) -> bool:
    """Whether no look before still runs days, as where a timer is faster than they are; until the
    stack ends none after it does.
    """
    from market_pipeline.errors import WarehouseBusyError
    from market_pipeline.warehouse.locks import holding

    try:
        stack.enter_context(holding(replace(warehouse, wait_seconds=0.0), "health"))
    except (WarehouseBusyError, OSError):
        return False
    return True
