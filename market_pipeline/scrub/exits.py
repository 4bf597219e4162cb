"""What leaves a process by its own hand: standard output and error, and the records of logging."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any, TextIO

from market_pipeline.scrub.scrubber import scrubbed

__all__ = ["ScrubbedStream", "scrub_exits"]


class ScrubbedStream:
    """A stream of text to which no secret is written; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes the text without secrets; gives its length as it came."""
        self._stream.write(scrubbed(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """As `write`, of each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def scrub_exits() -> None:
    """Has this process print and log no secret, whoever prints and logs.

    A secret that is written in two pieces is not found, and one that a library in another language
    writes itself neither; in a step of a run `defs.compute_logs` finds both.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, ScrubbedStream):
            setattr(sys, name, ScrubbedStream(stream))
    _scrub_records()


@cache  # once a process
def _scrub_records() -> None:
    made = logging.getLogRecordFactory()
    formatter = logging.Formatter()

    def record(*places: Any, **named: Any) -> logging.LogRecord:
        found = made(*places, **named)
        try:
            message = found.getMessage()
        except Exception:  # whoever handles the record reports it
            return found
        if (clean := scrubbed(message)) != message:
            found.msg, found.args = clean, None
        if found.exc_info:
            text = formatter.formatException(found.exc_info)
            if (clean := scrubbed(text)) != text:
                # Without the error itself, of which a handler would make the text once more.
                found.exc_text, found.exc_info = clean, None
        return found

    logging.setLogRecordFactory(record)
