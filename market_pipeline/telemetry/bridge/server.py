"""The HTTP server of the bridge: `/metrics`, `/health`, `/livez`, `/readyz`."""

from __future__ import annotations

import hmac
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from market_pipeline.telemetry.bridge.prometheus import scraped
from market_pipeline.telemetry.bridge.sums import Bridge

__all__ = ["BridgeServer"]

_LOG = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_READ_EVERY_S = 2.0
_STUCK_S = 60.0
_REQUEST_S = 10.0
_MOST_CLIENTS = 32
_OWN_NAMES = {_HOST, "localhost", "::1"}
_PLAIN = "text/plain; charset=utf-8"
_JSON = "application/json"


class BridgeServer:
    """Reads what is written to the files, and answers.

    Args:
        bridge: What to read with, and to serve.
        port: Where to listen; 0 is any that is free.
        health: Says whether the pipeline failed, and what was found, as JSON.
        after_read: Called each time the files were read.
        host: The address to listen at; the settings refuse one of others without a token.
        token: Says what whoever asks has to show now; None is nothing.

    Raises:
        OSError: The address is not of this machine, or the port is not free.
    """

    def __init__(
        self,
        bridge: Bridge,
        port: int,
        health: Callable[[], tuple[bool, bytes]],
        after_read: Callable[[], None] = lambda: None,
        host: str = _HOST,
        token: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._bridge, self._health, self._after_read = bridge, health, after_read
        self._why_not_ready = "the files were not read yet"
        self._read_s = time.monotonic()
        self._server = _Server((host, port), _Handler)
        self._server.answer, self._server.token = self._answer, token
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="telemetry", daemon=True
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def run(self, stop: threading.Event, every_s: float = _READ_EVERY_S) -> None:
        """Reads and answers until `stop` is set."""
        self._thread.start()
        try:
            while True:
                self._read()
                if stop.wait(every_s):
                    return
        finally:
            self._server.shutdown()
            self.close()

    def close(self) -> None:
        """Gives the port back."""
        self._server.server_close()

    def _read(self) -> None:
        try:
            self._bridge.update()
        except OSError as error:  # a full disk, a folder that is forbidden: the next may do
            if not self._why_not_ready:
                _LOG.warning("the files of metrics cannot be read: %s", error)
            self._why_not_ready = f"the files cannot be read: {error.strerror}"
        else:
            self._why_not_ready = ""
        self._read_s = time.monotonic()
        self._after_read()

    def _answer(self, path: str, accept: str) -> tuple[HTTPStatus, str, bytes]:
        if path == "/metrics":
            content_type, text = scraped(self._bridge, accept)
            return HTTPStatus.OK, content_type, text
        if path == "/health":
            has_failed, found = self._health()
            status = HTTPStatus.SERVICE_UNAVAILABLE if has_failed else HTTPStatus.OK
            return status, _JSON, found
        if path == "/livez":
            lives = time.monotonic() - self._read_s < _STUCK_S
            return _state("" if lives else f"nothing was read for {_STUCK_S:g} s")
        if path == "/readyz":
            return _state(self._why_not_ready)
        return HTTPStatus.NOT_FOUND, _PLAIN, b"/metrics, /health, /livez or /readyz\n"


def _state(why_not: str) -> tuple[HTTPStatus, str, bytes]:
    status = HTTPStatus.SERVICE_UNAVAILABLE if why_not else HTTPStatus.OK
    return status, _PLAIN, f"{why_not or 'ok'}\n".encode()


class _Server(ThreadingHTTPServer):
    """So many clients at once: a further one takes the place of the one that came first.

    A client that asks slowly is cut off in time, however steadily it drips; one that reads slowly
    by the time limit of the socket, which is one for the whole answer.
    """

    daemon_threads = True
    request_queue_size = _MOST_CLIENTS
    answer: object = None
    token: Callable[[], str | None]

    def __init__(self, *where: Any) -> None:
        self._since_s: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(*where)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._since_s) >= _MOST_CLIENTS:
                self._cut_off(next(iter(self._since_s)))
            self._since_s[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._since_s.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Twice a second."""
        with self._lock:
            until_s = time.monotonic() - _REQUEST_S
            for late in [each for each, since_s in self._since_s.items() if since_s < until_s]:
                self._cut_off(late)

    def has_asked(self, client: socket.socket) -> None:
        """From now on it waits for us, and for as long as the answer takes to be made."""
        with self._lock:
            if client in self._since_s:
                self._since_s[client] = float("inf")

    def _cut_off(self, client: socket.socket) -> None:
        del self._since_s[client]
        with suppress(OSError):  # it has gone by itself
            client.shutdown(socket.SHUT_RDWR)  # which ends its thread

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: the client has gone, or was cut off."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_S
    server_version = "market-pipeline"
    sys_version = ""

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server) and callable(self.server.answer)
        self.server.has_asked(self.connection)
        path, token = self.path.partition("?")[0], self.server.token()
        if token is not None and not self._shows(token):
            self.send_response(HTTPStatus.UNAUTHORIZED)
            self.send_header("WWW-Authenticate", "Bearer")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if token is None and not self._is_asked_by_own_name():
            self._send(HTTPStatus.MISDIRECTED_REQUEST, _PLAIN, b"ask for 127.0.0.1 or localhost\n")
            return
        try:
            status, content_type, text = self.server.answer(path, self.headers.get("Accept", ""))
        except Exception:  # also of libraries, at whatever a header holds
            _LOG.exception("%r could not be answered", path)
            status, content_type = HTTPStatus.INTERNAL_SERVER_ERROR, _PLAIN
            text = b"it failed; the output of this process says why\n"
        self._send(status, content_type, text)

    def _is_asked_by_own_name(self) -> bool:
        """Not so for a page whose name was made to lead here, to read what only this machine may.

        A browser sends the name, and cannot be made to send another.
        """
        own = _OWN_NAMES | {self.connection.getsockname()[0]}
        hosts = self.headers.get_all("Host", [])
        with suppress(ValueError):
            return [urlsplit(f"//{each}").hostname in own for each in hosts] == [True]
        return False

    def _send(self, status: HTTPStatus, content_type: str, text: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _shows(self, token: str) -> bool:
        given = self.headers.get("Authorization", "").encode("latin-1", "replace")
        return hmac.compare_digest(given, f"Bearer {token}".encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a scrape every few seconds is not worth a line."""
