"""How verbs end: exit codes and times of those that timers run as figures, errors in the log."""

from __future__ import annotations

import logging
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from market_pipeline.errors import MarketPipelineError

__all__ = ["ending_recorded"]

_RECORDED = {
    *("backup", "capture", "fetch", "golden", "health"),
    *("inventory", "prune", "recording", "run"),
}
"""Those that somebody only looks at have no figures, and need not wait for their library."""

_EXITS = (typer.Exit, typer.Abort, typer.TyperException)
"""What typer ends a verb with: as it was asked to, or for wrong usage."""


@contextmanager
def ending_recorded(verb: str) -> Iterator[None]:
    """Records with which exit code the block ends, and how long it took; the log has an error.

    The code is what the console script makes of what is raised; `script` and click do that later.
    """
    began_s, code = time.perf_counter(), 0
    try:
        yield
    except BaseException as error:
        code = _exit_code(error)
        if isinstance(error, Exception) and not isinstance(error, _EXITS):
            _note(error)
        raise
    finally:
        if verb in _RECORDED:
            _record(verb, code, time.perf_counter() - began_s)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, typer.Abort):
        return 1
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    code: int = getattr(error, "exit_code", 2)  # of typer's exits, and of what it refuses
    return code


def _record(verb: str, code: int, took_s: float) -> None:
    from market_pipeline.config.settings import usable_settings
    from market_pipeline.telemetry.metrics.recording import begin, flush, record
    from market_pipeline.telemetry.metrics.table import COMMAND_DURATION, COMMAND_END, COMMAND_EXIT

    settings, _ = usable_settings()  # a verb that refused them has an exit code, too
    begin(settings, "command")  # also of what ran in this process: its series would be two
    record(COMMAND_DURATION, took_s, verb=verb)
    record(COMMAND_EXIT, code, verb=verb)
    record(COMMAND_END, time.time(), verb=verb)
    flush()


def _note(error: Exception) -> None:
    """Has the log say what ended a verb; whoever called it reads it on standard error."""
    from market_pipeline.telemetry.logs.process_log import note

    is_ours = isinstance(error, MarketPipelineError)
    trace = "" if is_ours else "".join(traceback.format_exception(error))
    note(logging.ERROR, __name__, str(error), error=trace)
