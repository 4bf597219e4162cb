from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from market_pipeline.telemetry.bridge import server as bridge_server
from market_pipeline.telemetry.bridge.server import BridgeServer
from market_pipeline.telemetry.bridge.sums import Bridge
from market_pipeline.telemetry.metrics import table
from market_pipeline.telemetry.metrics.recording import flush, record
from market_pipeline_tests.telemetry.figures import families_of, parsed, scraped_name


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """The address of a server that reads the folder ten times a second."""
    stop = threading.Event()
    looks = iter([(False, b'{"health":"healthy"}'), (True, b'{"health":"failed"}')])
    server = BridgeServer(Bridge(folder), 0, lambda: next(looks))
    thread = threading.Thread(target=server.run, args=(stop, 0.1))
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    stop.set()
    thread.join()


def test_a_scrape(folder: Path, server: str):
    """Every metric of the table is there by Prometheus's name, in both forms of the text."""
    for metric in table.METRICS.values():
        record(metric, 2.0, **{name: f'a "{name}"\n' for name in metric.attributes})
    flush()
    bridge = Bridge(folder)
    bridge.update()
    headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
    expected = {scraped_name(name) for name in table.METRICS}
    while not expected <= families_of(text := httpx.get(f"{server}/metrics").text):
        pass
    assert expected == {name for name in families_of(text) if "_telemetry_" not in name}
    assert "# EOF" in httpx.get(f"{server}/metrics", headers=headers).text

    found = parsed(text)
    of = frozenset({("role", "run"), ("table", 'a "table"\n'), ("venue", 'a "venue"\n')})
    assert 2.0 == found["market_pipeline_publish_rows_total", of]
    run = ("role", "run")
    name = "market_pipeline_catalogue_duration_seconds"
    assert (0.0, 1.0, 1.0, 2.0) == (
        found[f"{name}_bucket", frozenset({run, ("le", "1.0")})],
        found[f"{name}_bucket", frozenset({run, ("le", "2.0")})],
        found[f"{name}_count", frozenset({run})],
        found[f"{name}_sum", frozenset({run})],
    )


def test_whether_it_lives_and_is_ready(folder: Path, server: str):
    """It is ready once it has read all, and not while the files cannot be read."""

    def status(path: str) -> int:
        return httpx.get(f"{server}{path}").status_code

    while status("/readyz") != 200:
        pass
    assert (200, 404) == (status("/livez"), status("/other"))
    folder.mkdir()
    (folder / "metrics-2026-03-01.jsonl").mkdir()
    while status("/readyz") != 503:
        pass
    assert "cannot be read" in httpx.get(f"{server}/readyz").text
    assert 200 == status("/livez")


def test_what_cannot_be_answered(server: str):
    """A header that a library fails at has an answer, too, and the next one is served."""
    headers = {"Accept": "application/openmetrics-text; version=abc"}
    assert 500 == httpx.get(f"{server}/metrics", headers=headers).status_code
    assert 200 == httpx.get(f"{server}/metrics").status_code


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("127.0.0.1:9464", 200), ("localhost", 200), ("[::1]:1", 200)),
        *(("rebound.example:9464", 421), ("127.0.0.1.example", 421), ("[", 421), ("", 421)),
    ],
)
def test_by_which_name_it_is_asked(server: str, host: str, status: int):
    """A page whose name leads to this machine reads nothing: its name is not one of ours."""
    assert status == httpx.get(f"{server}/livez", headers={"Host": host}).status_code


def test_slow_clients(server: str):
    """However many open a connection and send nothing, the next is answered at once."""
    where = httpx.URL(server)
    slow = [socket.create_connection((where.host, where.port)) for _ in range(80)]
    assert [200] * 3 == [httpx.get(f"{server}/livez").status_code for _ in range(3)]
    assert b"" == slow[0].recv(1)  # cut off
    for each in slow:
        each.close()


def test_a_client_that_drips(server: str, monkeypatch: pytest.MonkeyPatch):
    """It is cut off in time, though it always sends something."""
    monkeypatch.setattr(bridge_server, "_REQUEST_S", 0.1)
    where = httpx.URL(server)
    with socket.create_connection((where.host, where.port)) as client, pytest.raises(OSError):
        while True:
            client.sendall(b"G")


def test_a_port_that_is_taken(folder: Path):
    """It says so before anything is served."""
    first = BridgeServer(Bridge(folder), 0, lambda: (False, b""))
    with pytest.raises(OSError, match="in use"):
        BridgeServer(Bridge(folder), first.port, lambda: (False, b""))
    first.close()


def test_the_health(server: str):
    """What was found is answered as JSON, with 503 where the pipeline failed."""
    healthy, failed = (httpx.get(f"{server}/health") for _ in range(2))

    assert (200, {"health": "healthy"}) == (healthy.status_code, healthy.json())
    assert (503, {"health": "failed"}) == (failed.status_code, failed.json())


def test_with_a_token(folder: Path):
    """Who does not show it is refused at every path, and learns nothing; who does is answered, also
    by one that took its place meanwhile.
    """
    stop, tokens = threading.Event(), ["a-token-of-letters"]
    server = BridgeServer(Bridge(folder), 0, lambda: (False, b"{}"), token=lambda: tokens[-1])
    thread = threading.Thread(target=server.run, args=(stop, 0.1))
    thread.start()

    def status(path: str, **headers: str | bytes) -> int:
        return httpx.get(f"http://127.0.0.1:{server.port}{path}", headers=headers).status_code

    try:
        for given in ({}, {"Authorization": "Bearer another"}, {"Authorization": b"Bearer \xfc"}):
            assert {401} == {status(path, **given) for path in ("/metrics", "/livez", "/other")}
        shown = {"Authorization": "Bearer a-token-of-letters"}
        assert [200, 200, 404] == [
            status(path, **shown) for path in ("/metrics", "/livez", "/other")
        ]
        tokens.append("its-successor")
        assert 401 == status("/livez", **shown)
        assert 200 == status("/livez", Authorization="Bearer its-successor")
    finally:
        stop.set()
        thread.join()
