"""A real Alertmanager with the routes of `ops/`: what it takes of the pipeline's own alerts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from market_pipeline.alerts.targets import Target, send
from market_pipeline_tests.alerts.factory import LINKS, an_alert
from market_pipeline_tests.alerts.receiver import Receiver
from market_pipeline_tests.ops.services import alertmanager, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Its desk is a receiver that takes all."""
    desk = Receiver().open()
    with alertmanager(tmp_path_factory.mktemp("services") / "alertmanager", desk.url()) as client:
        yield client
    desk.close()


def in_force(service: httpx.Client, **filters: str) -> set[str]:
    """The names of the alerts that are in force."""
    return {
        each["labels"]["alertname"] for each in service.get("/api/v2/alerts", params=filters).json()
    }


def test_it_takes_an_alert_and_its_end(service: httpx.Client):
    """It is in force with its labels until its end is sent; what has none is there, too."""
    target = Target("alertmanager", f"{service.base_url}/")
    missing = an_alert(kind="frames_missing", check=None, day=None, host="here")
    ended = replace(missing, ended_ns=time.time_ns())

    for alert in (missing, an_alert()):
        send(target, alert, LINKS, timeout_seconds=60)
    assert {"PipelineFramesMissing", "PipelineCheckFailed"} == in_force(service)
    (taken,) = service.get("/api/v2/alerts", params={"filter": 'check="gap"'}).json()
    assert ("warning", "BINANCE:BTC-USDT", "2024-08-09T02:00:00.123Z") == (
        taken["labels"]["severity"],
        taken["labels"]["instrument"],
        taken["startsAt"],
    )

    send(target, ended, LINKS, timeout_seconds=60)
    until(lambda: in_force(service) == {"PipelineCheckFailed"})
    assert {"PipelineCheckFailed"} == in_force(service)


def test_a_cause_inhibits_what_follows_from_it(service: httpx.Client):
    """Of a stream without a connection only that is sent; of another stream, its silence."""
    names = {"A": ("StreamDown", "StreamQuiet", "StreamSlow"), "B": ("StreamSilent", "StreamSlow")}
    posted = [
        {"labels": {"alertname": f"MarketPipeline{name}", "venue": "X", "stream": stream}}
        for stream, each in names.items()
        for name in each
    ]
    service.post("/api/v2/alerts", json=posted).raise_for_status()

    def sent() -> list[set[str]]:
        return [in_force(service, filter=f'stream="{each}"', inhibited="false") for each in names]

    causes = [{"MarketPipelineStreamDown"}, {"MarketPipelineStreamSilent"}]
    until(lambda: sent() == causes)
    assert causes == sent()
    assert 3 == len(in_force(service, filter='stream="A"'))

    bridge = {"labels": {"alertname": "MarketPipelineBridgeDown"}}
    service.post("/api/v2/alerts", json=[bridge]).raise_for_status()
    ours = {"filter": 'alertname=~"MarketPipeline.+"', "inhibited": "false"}
    until(lambda: in_force(service, **ours) == {"MarketPipelineBridgeDown"})
    assert {"MarketPipelineBridgeDown"} == in_force(service, **ours)
