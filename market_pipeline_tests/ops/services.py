"""Prometheus and Alertmanager of Debian's packages with the files of `ops/`, each on loopback."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import httpx
import pytest

from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.ports import free_port

_PAUSE_SECONDS = 0.1
_PATIENCE_SECONDS = 120
_PACKAGES = {
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
}


def binary(*names: str) -> str:
    """The program of one of these names, or the test is skipped."""
    for name in names:
        if (found := shutil.which(name)) is not None:
            return found
    return pytest.skip(f"{names[0]} (of Debian's package {_PACKAGES[names[0]]}) is not installed")


def until(happened: Callable[[], bool]) -> None:
    """Waits until something is so; the test says what is not, if it never is."""
    end = monotonic() + _PATIENCE_SECONDS
    while not happened() and monotonic() < end:
        sleep(_PAUSE_SECONDS)


@contextmanager
def running(folder: Path, port: int, *command: str) -> Iterator[httpx.Client]:
    """A service that is ready, until the block has ended; its output is in the folder."""
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            while not _is_ready(client):
                assert process.poll() is None, log.read_text()
                sleep(_PAUSE_SECONDS)
            yield client
    finally:
        process.terminate()
        process.wait()


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").is_success
    except httpx.TransportError:
        return False


@contextmanager
def alertmanager(folder: Path, webhook: str) -> Iterator[httpx.Client]:
    """An Alertmanager with the routes of `ops/`, but for its waits, that posts to an address."""
    program, port = binary("prometheus-alertmanager", "alertmanager"), free_port()
    folder.mkdir()
    routes = (REPOSITORY / "ops" / "alertmanager" / "alertmanager.yml").read_text()
    hurried = re.sub(r"(group_wait|group_interval): \w+", r"\1: 1s", routes)
    (folder / "alertmanager.yml").write_text(hurried)
    (folder / "slack_url").write_text(webhook)
    with running(
        *(folder, port, program, "--config.file=alertmanager.yml", "--storage.path=data"),
        *("--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{port}"),
    ) as client:
        yield client


@contextmanager
def prometheus(folder: Path, bridge: str, alerts_to: httpx.Client) -> Iterator[httpx.Client]:
    """A Prometheus with the rules of `ops/`, evaluated each second, that scrapes a bridge."""
    program, port = binary("prometheus"), free_port()
    alerts_at = f"{alerts_to.base_url.host}:{alerts_to.base_url.port}"
    folder.mkdir()
    for name in ("prometheus.yml", "rules.yml"):
        text = (REPOSITORY / "ops" / "prometheus" / name).read_text()
        text = re.sub(r"interval: \w+", "interval: 1s", text)
        text = text.replace("127.0.0.1:9464", bridge).replace("127.0.0.1:9093", alerts_at)
        (folder / name).write_text(text)
    with running(
        *(folder, port, program, "--config.file=prometheus.yml", "--storage.tsdb.path=data"),
        f"--web.listen-address=127.0.0.1:{port}",
    ) as client:
        yield client
