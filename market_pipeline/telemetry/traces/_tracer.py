"""The spans of one run, as OpenTelemetry has them, written as lines of its protocol when they end.

Its SDK would make them with the same fields for ten times the processor time, of which a day of
many small instruments has too little for two hundred spans.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import msgspec

from market_pipeline import __version__
from market_pipeline.errors import MarketPipelineError
from market_pipeline.scrub.scrubber import scrubbed_lines
from market_pipeline.telemetry.files import TOGETHER_S, append_line
from market_pipeline.telemetry.otlp import (
    SPAN_ERROR,
    SPAN_INTERNAL,
    Attribute,
    Resource,
    ResourceSpans,
    Scope,
    ScopeSpans,
    Span,
    SpanStatus,
    Text,
    TracesData,
)

__all__ = ["RunSpan", "root_span"]

_LOG = logging.getLogger(__name__)

_TRACE_BYTES, _SPAN_BYTES = 16, 8
_encoder = msgspec.json.Encoder()


class RunSpan:
    """A span of a run, or of a part of one; see `work.Span`."""

    def __init__(
        self,
        lines: _Lines,
        trace_id: str,
        name: str,
        attributes: Mapping[str, str],
        parent_id: str = "",
    ) -> None:
        self.trace_id, self.span_id = trace_id, os.urandom(_SPAN_BYTES).hex()
        self._lines, self._name, self._attributes = lines, name, attributes
        self._parent_id = parent_id
        self._status = SpanStatus()
        self._began_ns = time.time_ns()

    def child(self, name: str, attributes: Mapping[str, str]) -> RunSpan:
        """A span of a part, which begins now."""
        return RunSpan(self._lines, self.trace_id, name, attributes, self.span_id)

    def fail(self, reason: str) -> None:
        """Has it be one that failed."""
        self._status = SpanStatus(SPAN_ERROR, reason)

    def end(self) -> None:
        """Ends it, and writes it."""
        span = Span(
            self.trace_id,
            self.span_id,
            self._name,
            str(self._began_ns),
            str(time.time_ns()),
            _attributes(self._attributes),
            self._parent_id,
            SPAN_INTERNAL,
            self._status,
        )
        self._lines.take(span)


def root_span(folder: Path, run: str, name: str, attributes: Mapping[str, str]) -> RunSpan:
    """The span of a whole run, which begins now.

    Args:
        folder: Where its spans are written.
        run: The id of the run, which without its hyphens is the id of the trace.
        name: Of the job.
        attributes: What it is about.
    """
    try:
        trace_id = UUID(run).hex
    except ValueError:  # of a run that Dagster does not keep
        trace_id = os.urandom(_TRACE_BYTES).hex()
    return RunSpan(_Lines(folder), trace_id, name, attributes)


class _Lines:
    """Writes spans that have ended as lines of the protocol; what cannot be written is lost.

    To open and lock the file is most of what a span costs, so those that end within five seconds
    are written together; that of a run at once, with what waits.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._failed = False
        self._lock = threading.Lock()
        self._waiting: list[Span] = []
        self._next_s = 0.0

    def take(self, span: Span) -> None:
        now_s = time.monotonic()
        with self._lock:
            self._waiting.append(span)
            if span.parent_span_id and now_s < self._next_s:
                return
            spans, self._waiting = self._waiting, []
            self._next_s = now_s + TOGETHER_S
        text = scrubbed_lines(_encoder.encode_lines([*map(_line, spans)]).decode())
        try:
            append_line(self._folder, text.encode(), kind="traces")
            self._failed = False
        except (OSError, MarketPipelineError) as error:
            if not self._failed:
                _LOG.warning("traces cannot be written to %s now: %s", self._folder, error)
            self._failed = True


def _attributes(given: Mapping[str, str]) -> list[Attribute]:
    return [Attribute(name, Text(value)) for name, value in given.items()]


# A number of the process among them would make each run one of its own.
_RESOURCE = Resource(_attributes({"service.name": "market-pipeline", "service.instance.id": "run"}))
_SCOPE = Scope("market_pipeline", __version__)


def _line(span: Span) -> TracesData:
    return TracesData([ResourceSpans(_RESOURCE, [ScopeSpans(_SCOPE, [span])])])
