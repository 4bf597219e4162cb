"""The push to a collector, by what a server of OTLP over HTTP receives."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from market_pipeline.config.settings import load_settings
from market_pipeline.errors import SettingsError
from market_pipeline.scrub.scrubber import scrubbed
from market_pipeline.telemetry.bridge.otlp_push import OtlpPush
from market_pipeline.telemetry.bridge.pushgateway import push_last_run
from market_pipeline.telemetry.bridge.sums import Bridge
from market_pipeline.telemetry.metrics import table
from market_pipeline.telemetry.metrics.recording import flush, record
from market_pipeline_tests.store.certificates import make_certificates
from market_pipeline_tests.tls_servers import serving_tls


class Collector(HTTPServer):
    """Takes what is pushed; answers `code`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.code = 200
        self.taken: list[tuple[str, dict[str, str], ExportMetricsServiceRequest]] = []


class _Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        body = self.rfile.read(int(self.headers["Content-Length"]))
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
    push = OtlpPush(bridge, settings)
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
    push = OtlpPush(bridge, settings)
    collector.code = 400
    assert [False, False] == [push.push(), push.push()]
    collector.code = 200
    assert push.push()
    assert ["a collector of PIPELINE_OTLP_URL does not take the figures"] == caplog.messages


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
    OtlpPush(Bridge(folder), settings)
    assert "sent [secret] there" == scrubbed(f"sent {value} there", guess=False)


def test_an_authority_of_the_settings(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Both pushes trust it and nothing else, whatever the environment names for other programs."""
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
            assert OtlpPush(bridge, settings).push() is (trusted is made)
            push_last_run(settings, "bars", {table.STEP_EXIT: 0})
        group = "/metrics/job/market-pipeline/asset/bars"
        assert (["/v1/metrics", group] if trusted is made else []) == asked
