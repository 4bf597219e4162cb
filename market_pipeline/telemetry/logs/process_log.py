"""The log of a process: what is logged through the standard logger, as lines of JSON.

Everything of this package from `PIPELINE_LOG_LEVEL` on, and warnings of libraries. A line is made
where it is logged, without a queue, so that the last one of a process that was killed is there. No
line has a secret, neither in its text nor in the names of what it is about.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from market_pipeline.config.settings import Settings
from market_pipeline.errors import SettingsError
from market_pipeline.scrub.scrubber import scrubbed_json
from market_pipeline.telemetry.logs._journal import Journal
from market_pipeline.telemetry.logs.files import LogFile
from market_pipeline.telemetry.traces.work import Work, current

__all__ = ["DAGSTER", "LEVELS", "Line", "begin", "decode", "log_folder", "note"]

DAGSTER = "dagster"
"""What a process of Dagster's is: a run, the code location, the daemon or the web server."""

LEVELS = {
    logging.getLevelName(level).lower(): level
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
}
"""The levels by their names, as settings and lines have them."""

_FOLDER = "logs"
_OURS = "market_pipeline"
_FORMATTER = logging.Formatter()


class Line(msgspec.Struct, omit_defaults=True):
    """One line.

    Attributes:
        time: When it was logged, UTC, ISO 8601 with microseconds.
        level: One of `LEVELS`.
        process, host, pid: Which process it was, and what it is: a verb, or `dagster`.
        logger: Who logged it.
        message: The text.
        run, day, step, instrument: What it is about, as far as there is one.
        error: The traceback.
        trace_id, span_id: Of the span that it was logged in, where traces are kept.
    """

    time: str
    level: str
    process: str
    host: str
    pid: int
    logger: str
    message: str
    run: str = ""
    day: str = ""
    step: str = ""
    instrument: str = ""
    error: str = ""
    trace_id: str = ""
    span_id: str = ""


_encoder = msgspec.json.Encoder()
decode = msgspec.json.Decoder(Line).decode
"""Reads one line; raises `msgspec.MsgspecError`, a `ValueError`, if it is none."""


def log_folder(settings: Settings) -> Path:
    """Where the files of the log are."""
    return settings.log_dir or settings.data_dir / _FOLDER


class _Handler(logging.Handler):
    """Writes lines; it hangs at the root logger, where records of libraries come to as well."""

    def __init__(self, settings: Settings, process: str) -> None:
        super().__init__()
        self.place = settings.log_to, log_folder(settings), settings.log_level
        self._process, self._host = process, socket.gethostname()
        self._least = LEVELS[settings.log_level]
        # A verb that finds no data folder makes none only to log that.
        self._parent = settings.data_dir if settings.log_dir is None else None
        self._sink: LogFile | Journal | None = None
        self._failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record, and shows it as Python does where nobody else handles it."""
        is_ours = record.name.partition(".")[0] == _OURS
        if record.levelno >= (self._least if is_ours else max(self._least, logging.WARNING)):
            try:
                error = record.exc_text or ""
                if record.exc_info and not error:
                    error = _FORMATTER.formatException(record.exc_info)
                message = record.getMessage()
                self.write(record.created, record.levelno, record.name, message, error, current())
            except Exception:  # as of a text that its values do not fit
                self.handleError(record)
        if record.levelno >= logging.WARNING and self._is_alone(record.name):
            assert logging.lastResort is not None
            logging.lastResort.handle(record)

    def write(
        self, at_s: float, level: int, logger: str, message: str, error: str, about: Work
    ) -> None:
        """Writes a line; what cannot be written is lost, with one warning until it can be again."""
        texts = logger, message, about.run, about.day, about.step, about.instrument, error
        line = Line(
            f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            logging.getLevelName(level).lower(),
            self._process,
            self._host,
            os.getpid(),
            *map(_encodable, texts),
        )
        if about.span is not None:
            line.trace_id, line.span_id = about.span.trace_id, about.span.span_id
        text = scrubbed_json(_encoder.encode(line).decode())
        with self.lock or nullcontext():
            try:
                self._write(text.encode() + b"\n", is_error=level >= logging.ERROR)
                self._failed = False
            except (OSError, SettingsError) as problem:
                if not self._failed:
                    # There may be none, or nobody who reads it any more.
                    with suppress(AttributeError, OSError, ValueError):
                        text = f"the log cannot be written to {self.place[1]}: {problem}\n"
                        sys.stderr.write(text)
                self._failed = True

    def _write(self, line: bytes, *, is_error: bool) -> None:
        if self._sink is None:
            if self._parent is not None and not self._parent.is_dir():
                return
            to, folder, _ = self.place
            self._sink = Journal() if to == "journald" else LogFile(folder, self._process)
        self._sink.write(line, is_error=is_error)

    def forget(self) -> None:
        """Leaves the file to the process that this one was forked from."""
        self._sink = None

    def close(self) -> None:
        """Closes the file."""
        if self._sink is not None:
            self._sink.close()
        super().close()

    def _is_alone(self, name: str) -> bool:
        """Whether no other handler has the records of a logger."""
        logger: logging.Logger | None = logging.getLogger(name)
        while logger is not None:
            if any(each is not self for each in logger.handlers):
                return False
            logger = logger.parent if logger.propagate else None
        return True


class _Begun:
    """The handler of this process, once it has one."""

    handler: _Handler | None = None


def begin(settings: Settings, process: str) -> None:
    """Has this process write its log, from now on, where the settings say; again is nothing.

    Args:
        settings: Where to, and from which level on.
        process: What the process is, as its lines and the name of its file have it.
    """
    handler = None if settings.log_to == "none" else _Handler(settings, process)
    before = _Begun.handler
    if handler is not None and before is not None and handler.place == before.place:
        return
    if before is not None:
        logging.getLogger().removeHandler(before)
        before.close()
    logging.getLogger(_OURS).setLevel(
        logging.NOTSET if handler is None else LEVELS[settings.log_level]
    )
    if handler is not None:
        logging.getLogger().addHandler(handler)
    _Begun.handler = handler


def note(
    level: int, logger: str, message: str, *, error: str = "", run: str = "", step: str = ""
) -> None:
    """Writes a line that was shown or kept elsewhere already, so that no other handler gets it.

    Args:
        level: As of `logging`.
        logger: Who says it.
        message: The text.
        error: The traceback.
        run, step: What it is about, if that is not what this thread works on.
    """
    handler = _Begun.handler
    if handler is None or level < LEVELS[handler.place[2]]:
        return
    about = current()
    if run and run != about.run:
        about = Work(run=run)
    handler.write(
        time.time(), level, logger, message, error, replace(about, step=step or about.step)
    )


def _encodable(text: str) -> str:
    """The text, with the halves of surrogate pairs in it written out."""
    return text.encode(errors="backslashreplace").decode()


def _forget() -> None:
    if _Begun.handler is not None:
        _Begun.handler.forget()


os.register_at_fork(after_in_child=_forget)
