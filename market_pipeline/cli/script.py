"""Runs a verb of the console script, and says in our words what ended it, with its exit code.

The verbs and their libraries are imported inside, because also that may fail for want of memory.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from io import BufferedWriter, RawIOBase, TextIOWrapper
from typing import Any

from market_pipeline.errors import MarketPipelineError
from market_pipeline.machine import as_machine_error, panic_without_backtrace, require_memory
from market_pipeline.scrub.exits import ScrubbedStream, scrub_exits
from market_pipeline.shown import shown_lines

__all__ = ["run_script"]

_PRINTING = {"rich", "click", "typer"}


def _loaded_app() -> Callable[[], object]:
    from market_pipeline.cli.app import app
    from market_pipeline.warehouse.layout import PRIVATE_UMASK

    os.umask(PRIVATE_UMASK)
    return app


def run_script(on_sigint: Any, load: Callable[[], Callable[[], object]] = _loaded_app) -> None:
    """Ends the process with a verb's exit code; an error of ours is a message and 2, no traceback.

    Args:
        on_sigint: What handles SIGINT from when the verb is loaded.
        load: Imports what to run; the console script by default.
    """
    code: int | str | None = 2
    try:
        _write_whole()
        scrub_exits()
        panic_without_backtrace()
        require_memory()
        verb = load()
        signal.signal(signal.SIGINT, on_sigint)
        verb()
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BaseException as error:  # a panic of a library in Rust is no Exception
        _print_error(error)
    sys.exit(_with_output(code))


def _write_whole() -> None:
    """Puts a buffer before streams that have none (`PYTHONUNBUFFERED`).

    Of a text that the system takes only a part of, they lose the rest without an error.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(raw := getattr(stream, "buffer", None), RawIOBase):
            whole = TextIOWrapper(
                BufferedWriter(raw),
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=True,
            )
            setattr(sys, name, whole)


def _print_error(error: BaseException) -> None:
    ours = as_machine_error(error, "standard output" if _is_of_output(error) else None) or error
    text = f"error: {ours}\n"
    if not isinstance(ours, MarketPipelineError):
        # Not ours: the traceback is what a report needs, and 1 would mean a degraded day.
        text = "".join(traceback.format_exception(error))
    with suppress(OSError):
        sys.stderr.write(shown_lines(text))


def _is_of_output(error: BaseException) -> bool:
    """Whether an error was raised where something was printed."""
    *_, (last, _) = traceback.walk_tb(error.__traceback__)
    module = str(last.f_globals.get("__name__"))
    return module.partition(".")[0] in _PRINTING or module == ScrubbedStream.__module__


def _with_output(code: int | str | None) -> int | str | None:
    """The exit code, once everything is written: 2 if standard output does not take it.

    A stream that takes nothing is replaced: the interpreter would fail at flushing it, too.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed before the start
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is sys.stdout and code != 2:
                _print_error(as_machine_error(error, "standard output") or error)
            code = 2
    return code
