"""Prometheus and Alertmanager as Debian packages them, each a process of the test's own."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import httpx
import pytest

_PAUSE_SECONDS = 0.1
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


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


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
def alertmanager(folder: Path, configuration: str) -> Iterator[httpx.Client]:
    """An Alertmanager alone, on loopback only."""
    program, port = binary("prometheus-alertmanager", "alertmanager"), free_port()
    folder.mkdir()
    (folder / "alertmanager.yml").write_text(configuration)
    with running(
        *(folder, port, program, "--config.file=alertmanager.yml", "--storage.path=data"),
        *("--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{port}"),
    ) as client:
        yield client
