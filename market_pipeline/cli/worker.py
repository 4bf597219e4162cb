"""A process that runs the days which `cli.workers` hands over, until there are no more."""

from __future__ import annotations

import os
import signal
import sys
from datetime import date
from functools import partial
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread

import typer

from market_pipeline.cli.days import daily_runs
from market_pipeline.cli.script import run_script
from market_pipeline.cli.signals import stoppable
from market_pipeline.cli.workers import Ended, Ready, Step
from market_pipeline.config.settings import usable_settings
from market_pipeline.telemetry.logs import process_log

__all__ = ["start"]


def start() -> None:
    """Runs such a process to its end, as the console script runs a verb."""
    run_script(signal.getsignal(signal.SIGINT), lambda: _run_until_stopped)


def _run_until_stopped() -> None:
    try:
        _serve(Connection(int(sys.argv[1])))
    except typer.Exit as stopped:
        raise SystemExit(stopped.exit_code) from None


def _serve(connection: Connection) -> None:
    """Runs the days that the verb hands over, until it has no more."""
    asked = connection.recv()
    process_log.begin(usable_settings()[0], "run")
    days: SimpleQueue[date | None] = SimpleQueue()
    Thread(target=_hear, args=(connection, days), daemon=True, name="verb").start()
    with daily_runs(asked.ids, force=asked.force) as runs:
        connection.send(Ready(runs.steps))
        while (day := days.get()) is not None:
            with stoppable(f"{day}", announced=False):
                reason = runs.run(day, partial(_report, connection, day))
            connection.send(Ended(day, reason, runs.times))


def _report(connection: Connection, day: date, text: str | None) -> None:
    connection.send(Step(day, text))


def _hear(connection: Connection, days: SimpleQueue[date | None]) -> None:
    """Takes the days, and stops this process when the verb is gone."""
    try:
        while (day := connection.recv()) is not None:
            days.put(day)
        days.put(None)
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)
