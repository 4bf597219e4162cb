"""Pushes the spans in `traces/` to collectors, by OTLP over HTTP, as they are written.

How far each collector has taken them is kept beside the files: one that was away is sent what it
missed, also by a bridge that was restarted. A process that dies between an answer and the note of
it leaves spans to be pushed again, with the same ids.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from pathlib import Path

import msgspec
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1 import common_pb2 as common
from opentelemetry.proto.resource.v1 import resource_pb2 as resource
from opentelemetry.proto.trace.v1 import trace_pb2 as trace

from market_pipeline.config.addresses import addresses_of
from market_pipeline.config.settings import Settings
from market_pipeline.telemetry.bridge.push_session import (
    collector_headers,
    push_session,
    without_login,
)
from market_pipeline.telemetry.files import line_files, lines_from
from market_pipeline.telemetry.otlp import Attribute, ScopeSpans, Span, decode_spans
from market_pipeline.telemetry.traces.work import TRACES
from market_pipeline.warehouse.layout import written_whole

__all__ = ["TracePush"]

_LOG = logging.getLogger(__name__)

_STATE = "pushed.json"
_MOST_SPANS = 512
"""In one request."""
_TURN_S = 10.0
"""No request to a collector is begun after it: a long backlog does not hold up the figures, and one
that does not answer not the others.
"""
_WAIT_S = 10.0

_AGAIN = {
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
}
"""Besides 5xx, what says nothing of the spans: a credential can be put right, a queue empties."""

_Read = dict[str, int]
"""By file, how many of its bytes were taken."""
_decoder = msgspec.json.Decoder(dict[str, _Read])


@dataclass(slots=True)
class _Collector:
    """One that is pushed to, how far it has the files, and whether the last attempt failed."""

    url: str
    session: requests.Session
    read: _Read
    failed: bool = field(default=False)

    def takes(self, spans: list[trace.ResourceSpans]) -> bool:
        """Whether it has done with some spans; not so if they are to be pushed again."""
        why = ""
        try:
            answer = self.session.post(
                self.url,
                data=ExportTraceServiceRequest(resource_spans=spans).SerializeToString(),
                headers={"Content-Type": "application/x-protobuf"},
                timeout=_WAIT_S,
                stream=True,  # what it says beyond its status is not waited for
            )
            answer.close()
        except OSError as error:  # whose text has the address
            why, again = type(error).__name__, True
        else:
            code = answer.status_code
            again = code in _AGAIN or code >= HTTPStatus.INTERNAL_SERVER_ERROR
            if code >= HTTPStatus.MULTIPLE_CHOICES:
                why = f"it answered {code}"
        if why and not self.failed:
            until = "pushed again later" if again else "not pushed again"
            _LOG.warning(
                "a collector of PIPELINE_OTLP_URL does not take traces (%s): they are %s",
                why,
                until,
            )
        self.failed = bool(why)
        return not (why and again)


class TracePush:
    """Pushes to every collector that the settings name; without any it does nothing.

    Args:
        settings: With the addresses, and where spans are written.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.data_dir / TRACES
        self._collectors: dict[str, _Collector] = {}
        kept = _kept(self._folder / _STATE)
        for address in addresses_of(settings.otlp_url):
            url = f"{without_login(address)}/v1/traces"
            session = push_session(settings, address)
            session.headers.update(collector_headers(settings))
            name = hashlib.sha256(url.encode()).hexdigest()[:8]
            self._collectors[name] = _Collector(url, session, kept.get(name, {}))

    def push(self) -> None:
        """Pushes what each collector has not taken yet; what it refuses for good is left out."""
        try:
            for collector in self._collectors.values():
                self._push(collector, time.monotonic() + _TURN_S)
        except OSError as error:  # a full disk, a folder that is forbidden: the next may do
            _LOG.warning("traces cannot be read to be pushed: %s", error)

    def _push(self, collector: _Collector, until_s: float) -> None:
        files = line_files(self._folder)
        for gone in collector.read.keys() - {path.name for path in files}:
            del collector.read[gone]
        for path in files:
            lines = lines_from(path, collector.read.get(path.name, 0))
            while batch := [*islice(lines, _MOST_SPANS)]:
                spans = _grouped(line for line, _ in batch)
                if time.monotonic() > until_s or (spans and not collector.takes(spans)):
                    return
                collector.read[path.name] = batch[-1][1]
                self._keep()

    def _keep(self) -> None:
        read = {name: each.read for name, each in self._collectors.items()}
        with written_whole(self._folder / _STATE) as file:
            file.write(msgspec.json.encode(read))


def _kept(path: Path) -> dict[str, _Read]:
    try:
        return _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _LOG.warning("%s cannot be read (%s): traces that are there are pushed again", path, error)
        return {}


def _grouped(lines: Iterable[bytes]) -> list[trace.ResourceSpans]:
    """What is in lines, as the protocol has it in binary, once for each resource and each scope.

    A line that is none is left out, with a warning.
    """
    resources: dict[bytes, trace.ResourceSpans] = {}
    scopes: dict[tuple[bytes, bytes], trace.ScopeSpans] = {}
    for line in filter(None, lines):
        try:
            found = [
                (resource.Resource(attributes=_attributes(of.resource.attributes)), scope, spans)
                for of in decode_spans(line).resource_spans
                for scope, spans in map(_of_scope, of.scope_spans)
            ]
        except (ValueError, RecursionError) as error:
            _LOG.warning("a line of traces is left out of what is pushed: %s", error)
            continue
        for about, scope, spans in found:
            name = about.SerializeToString(), scope.SerializeToString()
            if name not in scopes:
                of_resource = resources.setdefault(name[0], trace.ResourceSpans(resource=about))
                scopes[name] = of_resource.scope_spans.add(scope=scope)
            scopes[name].spans.extend(spans)
    return [*resources.values()]


def _of_scope(of: ScopeSpans) -> tuple[common.InstrumentationScope, list[trace.Span]]:
    scope = common.InstrumentationScope(name=of.scope.name, version=of.scope.version)
    return scope, [*map(_span, of.spans)]


def _span(span: Span) -> trace.Span:
    return trace.Span(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_span_id),
        name=span.name,
        kind=trace.Span.SpanKind.ValueType(span.kind),
        start_time_unix_nano=int(span.start_time_unix_nano),
        end_time_unix_nano=int(span.end_time_unix_nano),
        attributes=_attributes(span.attributes),
        status=trace.Status(
            code=trace.Status.StatusCode.ValueType(span.status.code), message=span.status.message
        ),
    )


def _attributes(given: Iterable[Attribute]) -> list[common.KeyValue]:
    return [
        common.KeyValue(key=each.key, value=common.AnyValue(string_value=each.value.string_value))
        for each in given
    ]
