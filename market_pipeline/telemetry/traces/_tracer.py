"""The spans of one run, made by the SDK of OpenTelemetry and written as lines when they end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span as SdkSpan
from opentelemetry.trace import Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.span import format_span_id, format_trace_id

from market_pipeline import __version__
from market_pipeline.errors import WarehouseBusyError
from market_pipeline.scrub.scrubber import scrubbed_json
from market_pipeline.telemetry.files import append_line
from market_pipeline.telemetry.otlp import (
    SPAN_ERROR,
    SPAN_INTERNAL,
    Attribute,
    ResourceSpans,
    Scope,
    ScopeSpans,
    Span,
    SpanStatus,
    Text,
    TracesData,
)
from market_pipeline.telemetry.otlp import Resource as LineResource

__all__ = ["RunSpan", "root_span"]

_LOG = logging.getLogger(__name__)

_STEP = "market_pipeline.step"
_TOGETHER_S = 2.0


class RunSpan:
    """A span of a run, or of a part of one; see `work.Span`."""

    def __init__(self, tracer: Tracer, span: SdkSpan) -> None:
        self._tracer, self._span = tracer, span
        context = span.get_span_context()
        self.trace_id = format_trace_id(context.trace_id)
        self.span_id = format_span_id(context.span_id)

    def child(self, name: str, attributes: Mapping[str, str]) -> RunSpan:
        """A span of a part, which begins now."""
        within = set_span_in_context(self._span)
        return RunSpan(
            self._tracer, self._tracer.start_span(name, context=within, attributes=attributes)
        )

    def fail(self, reason: str) -> None:
        """Has it be one that failed."""
        self._span.set_status(Status(StatusCode.ERROR, reason))

    def end(self) -> None:
        """Ends it, and writes it."""
        self._span.end()


def root_span(folder: Path, run: str, name: str, attributes: Mapping[str, str]) -> RunSpan:
    """The span of a whole run, which begins now.

    Args:
        folder: Where its spans are written.
        run: The id of the run, which without its hyphens is the id of the trace.
        name: Of the job.
        attributes: What it is about.
    """
    provider = TracerProvider(
        sampler=ALWAYS_ON,
        # Made whole: what the SDK would add is different in each process.
        resource=Resource({"service.name": "market-pipeline", "service.instance.id": "run"}),
        id_generator=_Ids(run),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(SimpleSpanProcessor(_Lines(folder)))
    tracer = provider.get_tracer("market_pipeline", __version__)
    return RunSpan(tracer, tracer.start_span(name, attributes=attributes))


class _Ids(RandomIdGenerator):
    """Ids of the spans of a run: its trace is found by the run's id, and the other way round."""

    def __init__(self, run: str) -> None:
        try:
            self._trace_id = UUID(run).int
        except ValueError:  # of a run that Dagster does not keep
            self._trace_id = super().generate_trace_id()

    def generate_trace_id(self) -> int:
        return self._trace_id


class _Lines(SpanExporter):
    """Writes spans as lines of the protocol; what cannot be written is lost.

    To open and lock the file is half of what a span costs, so those of instruments and of what is
    published, which end shortly after each other, are written together; that of a run or of a step
    at once, with what waits.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._failed = False
        self._lock = threading.Lock()
        self._waiting: list[bytes] = []
        self._next_s = 0.0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        texts = [scrubbed_json(msgspec.json.encode(_line(span)).decode()) for span in spans]
        may_wait = all(map(_is_part_of_step, spans))
        now_s = time.monotonic()
        with self._lock:
            self._waiting += [text.encode() + b"\n" for text in texts]
            if may_wait and now_s < self._next_s:
                return SpanExportResult.SUCCESS
            lines, self._waiting = b"".join(self._waiting), []
            self._next_s = now_s + _TOGETHER_S
        try:
            append_line(self._folder, lines, kind="traces")
            self._failed = False
        except (OSError, WarehouseBusyError) as error:
            if not self._failed:
                _LOG.warning("traces cannot be written to %s now: %s", self._folder, error)
            self._failed = True
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS


def _is_part_of_step(span: ReadableSpan) -> bool:
    return span.parent is not None and span.name != (span.attributes or {}).get(_STEP)


def _line(span: ReadableSpan) -> TracesData:
    context, parent = span.get_span_context(), span.parent
    assert context is not None
    failed = span.status.status_code is StatusCode.ERROR
    made = Span(
        format_trace_id(context.trace_id),
        format_span_id(context.span_id),
        span.name,
        str(span.start_time),
        str(span.end_time),
        _attributes(span.attributes),
        "" if parent is None else format_span_id(parent.span_id),
        SPAN_INTERNAL,
        SpanStatus(SPAN_ERROR, span.status.description or "") if failed else SpanStatus(),
    )
    scope = Scope("market_pipeline", __version__)
    resource = LineResource(_attributes(span.resource.attributes))
    return TracesData([ResourceSpans(resource, [ScopeSpans(scope, [made])])])


def _attributes(given: Mapping[str, object] | None) -> list[Attribute]:
    return [Attribute(name, Text(str(value))) for name, value in (given or {}).items()]
