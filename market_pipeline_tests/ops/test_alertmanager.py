"""A real Alertmanager: what it takes of the pipeline's own alerts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from market_pipeline.alerts.targets import Target, send
from market_pipeline_tests.alerts.factory import LINKS, an_alert
from market_pipeline_tests.ops.services import alertmanager

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """It routes everything to nobody."""
    folder = tmp_path_factory.mktemp("services") / "alertmanager"
    with alertmanager(folder, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n") as client:
        yield client


def test_it_takes_an_alert_and_its_end(service: httpx.Client):
    """It is in force with its labels until its end is sent; what has none is there, too."""
    target = Target("alertmanager", f"{service.base_url}")
    missing = an_alert(kind="frames_missing", check=None, day=None, host="here")
    ended = replace(missing, ended_ns=time.time_ns())

    def in_force() -> set[str]:
        return {each["labels"]["alertname"] for each in service.get("/api/v2/alerts").json()}

    for alert in (missing, an_alert()):
        send(target, alert, LINKS, timeout_seconds=60)
    assert {"PipelineFramesMissing", "PipelineCheckFailed"} == in_force()
    (taken,) = service.get("/api/v2/alerts", params={"filter": 'check="gap"'}).json()
    assert ("warning", "BINANCE:BTC-USDT", "active", "2024-08-09T02:00:00.123Z") == (
        taken["labels"]["severity"],
        taken["labels"]["instrument"],
        taken["status"]["state"],
        taken["startsAt"],
    )

    send(target, ended, LINKS, timeout_seconds=60)
    while in_force() != {"PipelineCheckFailed"}:
        pass
