"""The push to a collector, by what a server of OTLP over HTTP receives."""

from __future__ import annotations

import ssl
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from market_pipeline.config.settings import load_settings
from market_pipeline.errors import SettingsError
from market_pipeline.scrub.scrubber import scrubbed
from market_pipeline.telemetry.bridge import _trace_push
from market_pipeline.telemetry.bridge._trace_push import TracePush
from market_pipeline.telemetry.bridge.otlp_push import OtlpPush
from market_pipeline.telemetry.bridge.pushgateway import push_last_run
from market_pipeline.telemetry.bridge.sums import Bridge
from market_pipeline.telemetry.metrics import table
from market_pipeline.telemetry.metrics.recording import flush, record
from market_pipeline.telemetry.traces.work import begin_run, end_run, working
from market_pipeline_tests.store.certificates import make_certificates
from market_pipeline_tests.tls_servers import serving_tls


class Collector(HTTPServer):
    """Takes what is pushed; answers `code`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.code = 200
        self.taken: list[tuple[str, dict[str, str], ExportMetricsServiceRequest]] = []
        self.traces: list[ExportTraceServiceRequest] = []

    @property
    def spans(self) -> list[list[Span]]:
        """Those of each request."""
        return [
            [span for of in each.resource_spans for scope in of.scope_spans for span in scope.spans]
            for each in self.traces
        ]


class _Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/v1/traces"):
            self.server.traces.append(ExportTraceServiceRequest.FromString(body))
        else:
            request = ExportMetricsServiceRequest.FromString(body)
            self.server.taken.append((self.path, dict(self.headers), request))
        self.send_response(self.server.code)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def test_sums_are_cumulative(folder: Path, collector: Collector):
    """Sums since the bridge began, a resource for each role and nothing of the process, by the
    login and headers of the settings.
    """
    settings = load_settings(
        data_dir=folder.parent,
        otlp_url=f"http://me:pass%40word@127.0.0.1:{collector.server_port}/base",
        otlp_headers="api-key=k3y, x-scope = a",
    )
    bridge = Bridge(folder)
    push = OtlpPush(bridge, lambda: settings)
    for rows in (2, 3):
        record(table.PUBLISHED_ROWS, rows, table="books.bbo", venue="SIMULATED")
        record(table.CATALOGUE_DURATION, 0.2)
        record(table.BACKLOG, rows, venue="SIMULATED")
        flush()
        bridge.update()
        assert push.push()

    (path, headers, first), (_, _, second) = collector.taken
    assert ("/base/v1/metrics", "Basic bWU6cGFzc0B3b3Jk", "k3y", "a") == (
        path,
        *(headers[name] for name in ("Authorization", "api-key", "x-scope")),
    )
    (resource,) = second.resource_metrics
    about = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert {"service.name": "market-pipeline", "service.instance.id": "run"} == about
    ((before,), (after,)) = (
        [m.sum for m in each.resource_metrics[0].scope_metrics[0].metrics if m.HasField("sum")]
        for each in (first, second)
    )
    assert (2, True) == (after.aggregation_temporality, after.is_monotonic)
    (old,), (new,) = before.data_points, after.data_points
    assert (2, 5, old.start_time_unix_nano) == (
        *(old.as_double, new.as_double, new.start_time_unix_nano),
    )
    metrics = {each.name: each for each in resource.scope_metrics[0].metrics}
    (histogram,) = metrics["market_pipeline.catalogue.duration"].histogram.data_points
    assert (2, 0.4, False) == (histogram.count, histogram.sum, histogram.HasField("min"))
    assert 3 == metrics["market_pipeline.due.backlog"].gauge.data_points[0].as_double


def test_a_collector_that_refuses(
    folder: Path, collector: Collector, caplog: pytest.LogCaptureFixture
):
    """It is one warning that shows nothing of the address, and the next push may succeed."""
    settings = load_settings(
        data_dir=folder.parent, otlp_url=f"http://s3cret@127.0.0.1:{collector.server_port}"
    )
    record(table.CATALOGUE_DURATION, 0.2)
    flush()
    bridge = Bridge(folder)
    bridge.update()
    push = OtlpPush(bridge, lambda: settings)
    collector.code = 400
    assert [False, False] == [push.push(), push.push()]
    collector.code = 200
    assert push.push()
    assert ["a collector of PIPELINE_OTLP_URL does not take the figures"] == caplog.messages


def traced(data_dir: Path, run: str, *steps: str) -> None:
    """Writes the spans of a run whose last step fails."""
    begin_run(load_settings(data_dir=data_dir), run, "2024-08-08", "daily_books")
    for step in steps[:-1]:
        with working(step, step=step):
            pass
    with pytest.raises(ValueError), working(steps[-1], step=steps[-1]):
        raise ValueError("bad data")
    end_run()


def test_spans_are_pushed(tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch):
    """Each once, as the files have it, also by a bridge that begins anew; half a line waits, and
    what is no span is passed over.
    """
    monkeypatch.setattr(_trace_push, "_MOST_SPANS", 2)
    settings = load_settings(
        data_dir=tmp_path, otlp_url=f"http://127.0.0.1:{collector.server_port}", traces=False
    )
    TracePush(settings).push()
    assert not (tmp_path / "traces").exists()
    run = str(uuid4())
    traced(tmp_path, run, "rebuild", "validate")
    TracePush(settings).push()
    (file,) = (tmp_path / "traces").glob("*.jsonl")
    lines = file.read_bytes()
    with file.open("ab") as more:
        more.write(b'{"resourceSpans": [{}]}\n' + lines[:100])
    TracePush(settings).push()
    with file.open("ab") as more:
        more.write(lines[100:].splitlines(keepends=True)[0])
    bridge = OtlpPush(Bridge(tmp_path / "metrics"), lambda: settings)
    bridge.start()
    bridge.stop()

    sent = collector.spans
    assert [["rebuild", "validate"], ["daily_books"], ["rebuild"]] == [
        [each.name for each in spans] for spans in sent
    ]
    (rebuild, validate), (root,), (again,) = sent
    assert rebuild == again
    assert {run.replace("-", "")} == {each.trace_id.hex() for each in (rebuild, validate, root)}
    assert (root.span_id, b"") == (validate.parent_span_id, root.parent_span_id)
    assert root.start_time_unix_nano <= rebuild.start_time_unix_nano <= root.end_time_unix_nano
    error = Status(code=Status.STATUS_CODE_ERROR, message="ValueError: bad data")
    assert (Status(), error, error) == (rebuild.status, validate.status, root.status)
    about = {each.key: each.value.string_value for each in root.attributes}
    assert (run, "2024-08-08") == (about["dagster.run_id"], about["market_pipeline.day"])
    (resource,) = {str(of.resource) for each in collector.traces for of in each.resource_spans}
    assert "market-pipeline" in resource
    together = [[len(of.scope_spans) for of in each.resource_spans] for each in collector.traces]
    assert [[1], [1], [1]] == together
    assert 0o600 == stat.S_IMODE((tmp_path / "traces" / "pushed.json").stat().st_mode)


def test_a_collector_of_traces_that_was_away(
    tmp_path: Path, collector: Collector, caplog: pytest.LogCaptureFixture
):
    """It is sent what it missed, also while it refused our credential; what it says is no trace of
    its is left out; with a warning for each time.
    """
    address = f"http://s3cret@127.0.0.1:{collector.server_port}"
    push = TracePush(load_settings(data_dir=tmp_path, otlp_url=address))
    turns = ((503, "a"), (200, "b"), (404, "c"), (404, "d"), (200, "e"), (401, "f"), (403, "g"))
    for code, step in (*turns, (200, "h")):
        traced(tmp_path, str(uuid4()), step)
        collector.code = code
        push.push()

    assert ["a", "ab", "c", "d", "e", "f", "fg", "fgh"] == [
        "".join(each.name for each in spans if each.name != "daily_books")
        for spans in collector.spans
    ]
    told = "a collector of PIPELINE_OTLP_URL does not take traces (it answered"
    assert [
        f"{told} 503): they are pushed again later",
        f"{told} 404): they are not pushed again",
        f"{told} 401): they are pushed again later",
    ] == caplog.messages


def test_a_collector_that_does_not_answer(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
):
    """One that uses its time up leaves those after it theirs."""
    hands = count(0, 6)  # a clock that goes on by six seconds each time it is looked at
    monkeypatch.setattr(_trace_push, "time", SimpleNamespace(monotonic=lambda: next(hands)))
    traced(tmp_path, str(uuid4()), "bars")
    addresses = f"http://127.0.0.1:1,http://127.0.0.1:{collector.server_port}"
    TracePush(load_settings(data_dir=tmp_path, otlp_url=addresses)).push()
    assert [["bars", "daily_books"]] == [[each.name for each in of] for of in collector.spans]


@pytest.mark.parametrize("headers", ["api-key: k3y", "k3y", "a=1,", "a=ü", "a=k3y\nb=1", "a b=1"])
def test_headers_that_are_none(headers: str):
    """What would not be sent, or be another header, is refused and not shown."""
    with pytest.raises(SettingsError, match="otlp_headers: expected header") as caught:
        load_settings(otlp_headers=headers)
    assert "k3y" not in str(caught.value)


def test_a_header_is_a_secret(folder: Path):
    """Each value is, by itself and without what stands before it."""
    value = "dXNlcjpwYXNzd29yZA1"
    settings = load_settings(
        data_dir=folder.parent,
        otlp_url="https://127.0.0.1:1",
        otlp_headers=f"x-scope=a, authorization=Basic {value}",
    )
    OtlpPush(Bridge(folder), lambda: settings)
    assert "sent [secret] there" == scrubbed(f"sent {value} there", guess=False)


def test_a_credential_that_is_replaced(folder: Path, collector: Collector):
    """From then on it is pushed with the new one."""
    address = f"http://127.0.0.1:{collector.server_port}"
    settings = [
        load_settings(data_dir=folder.parent, otlp_url=address, otlp_headers=f"api-key={key}")
        for key in ("the-new-one", "the-old-one")
    ]
    bridge = Bridge(folder)
    record(table.CATALOGUE_DURATION, 0.2)
    flush()
    bridge.update()
    push = OtlpPush(bridge, lambda: settings[-1])
    push.push()
    settings.pop()
    push.push()
    keys = [headers["api-key"] for _, headers, _ in collector.taken]
    assert ["the-old-one", "the-new-one"] == keys


def test_an_authority_of_the_settings(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each push trusts it and nothing else, whatever the environment names for other programs."""
    (tmp_path / "other").mkdir()
    made, other = make_certificates(tmp_path), make_certificates(tmp_path / "other")
    record(table.CATALOGUE_DURATION, 0.2)
    flush()
    bridge = Bridge(folder)
    bridge.update()
    for trusted, named in ((made, other), (other, made)):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(named.authority))
        with serving_tls(made, ssl.TLSVersion.TLSv1_3) as (address, asked):
            settings = load_settings(
                data_dir=folder.parent,
                otlp_url=address,
                pushgateway_url=address,
                telemetry_ca_bundle=trusted.authority,
            )
            assert OtlpPush(bridge, lambda now=settings: now).push() is (trusted is made)
            traced(folder.parent, str(uuid4()), "bars")
            TracePush(settings).push()
            push_last_run(settings, "bars", {table.STEP_EXIT: 0})
        group = "/metrics/job/market-pipeline/asset/bars"
        paths = ["/v1/metrics", "/v1/traces", group]
        assert (paths if trusted is made else []) == asked
