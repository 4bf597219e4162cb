"""A small HTTP proxy before a store that errs as a test planned it."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

OBJECTS = r"^GET /[^/?]+/[^?]"
"""Matches requests for objects; those that list have `?list-type=2` after the bucket."""

LISTS = r"list-type=2"


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the requests that match.

    Attributes:
        match: A regular expression, searched in `METHOD /bucket/key?query`; empty for all.
        after: How many matching requests pass unharmed first.
        times: How many are harmed then; None for all.
        status, code: Answer this instead of asking the store, with S3's error code.
        wait_seconds: Wait before answering.
        cut_after: Reset the connection after so many bytes of the body.
        bytes_per_second: Send the body so slowly, 20 times a second.
        other_bytes: Change the body's first byte: then the ETag is a lie.
        etag: Say this ETag instead of the store's.
        page: Answer this page with status 200, as networks do that want a log-in first.
        do: Called before the store is asked, e.g. to replace the object there.
    """

    match: str = OBJECTS
    after: int = 0
    times: int | None = None
    status: int | None = None
    code: str = ""
    wait_seconds: float = 0.0
    cut_after: int | None = None
    bytes_per_second: float | None = None
    other_bytes: bool = False
    etag: str | None = None
    page: str | None = None
    do: Callable[[], None] | None = None


@dataclass(frozen=True)
class Request:
    """A request that came: its line, its range (`bytes=0-9`, or empty) and what was answered."""

    line: str
    range: str
    status: int
    sent_bytes: int


@dataclass
class _Planned:
    fault: Fault
    met: int = 0


@dataclass
class FaultyProxy:
    """Runs while its context lasts; `plan` may be called at any time.

    Attributes:
        upstream: The store behind it.
        requests: What was asked since the last plan, in the order of the answers' ends.
    """

    upstream: str
    requests: list[Request] = field(default_factory=list)
    _planned: list[_Planned] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _under_way: int = 0
    _plans: int = 0

    def __post_init__(self) -> None:
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = _Server(("127.0.0.1", 0), Handler)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint_url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def plan(self, *faults: Fault) -> None:
        """Err like this from now on (the first fault that applies), and forget what was asked."""
        with self._lock:
            self._planned = [_Planned(fault) for fault in faults]
            self._plans += 1
            self.requests.clear()

    def downloads(self) -> list[Request]:
        """The requests for objects among those that came, once none is under way."""
        self.settle()
        with self._lock:
            return [request for request in self.requests if re.search(OBJECTS, request.line)]

    def settle(self) -> None:
        """Wait until nothing is under way any more, at most 10 s."""
        until = time.monotonic() + 10.0
        while self._under_way and time.monotonic() < until:
            time.sleep(0.01)

    def fault_for(self, line: str) -> tuple[Fault, int]:
        """The fault that is due for a request, one without any harm if none is; and whose plan."""
        with self._lock:
            self._under_way += 1
            for planned in self._planned:
                fault = planned.fault
                if not re.search(fault.match, line):
                    continue
                planned.met += 1
                harmed = planned.met - fault.after
                if harmed > 0 and (fault.times is None or harmed <= fault.times):
                    return fault, self._plans
            return Fault(), self._plans

    def note(self, request: Request, plan: int) -> None:
        """Remember a request that is over, if it came since the last plan."""
        with self._lock:
            self._under_way -= 1
            if plan == self._plans:
                self.requests.append(request)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that give up are what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    owner: FaultyProxy
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for the headers

    def do_GET(self) -> None:
        line = f"{self.command} {self.path}"
        fault, plan = self.owner.fault_for(line)
        self._status, self._sent = 0, 0
        if fault.wait_seconds:
            time.sleep(fault.wait_seconds)
        if fault.do is not None:
            fault.do()
        with suppress(OSError):  # the client has gone
            if fault.status is not None:
                text = f"<Error><Code>{fault.code}</Code><Message>planned</Message></Error>"
                self._say(fault.status, "application/xml", text)
            elif fault.page is not None:
                self._say(200, "text/html", fault.page)
            else:
                self._forward(fault)
        request = Request(line, self.headers.get("Range", ""), self._status, self._sent)
        self.owner.note(request, plan)

    do_HEAD = do_GET
    do_PUT = do_GET
    do_DELETE = do_GET
    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass

    def _say(self, status: int, kind: str, text: str) -> None:
        self._status = status
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())
        self.wfile.flush()

    def _forward(self, fault: Fault) -> None:
        given = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        store = http.client.HTTPConnection(urlsplit(self.owner.upstream).netloc, timeout=60)
        try:
            # The client signed its Host line: it goes on as it came.
            store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "connection":
                    store.putheader(name, value)
            store.endheaders(given or None)
            self._answer(store.getresponse(), fault)
        finally:
            store.close()

    def _answer(self, answer: http.client.HTTPResponse, fault: Fault) -> None:
        self._status = answer.status
        self.send_response_only(answer.status)
        chunked = answer.chunked  # its length is known only once it is here
        body = answer.read() if chunked else None
        for name, value in answer.getheaders():
            if name.lower() in {"connection", "transfer-encoding"}:
                continue
            lies = name.lower() == "etag" and fault.etag is not None
            self.send_header(name, f'"{fault.etag}"' if lies else value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.flush()
        if body is not None:
            self._send(body, fault)
            return
        while piece := answer.read(self._piece_bytes(fault)):
            if not self._send(piece, fault):
                return

    @staticmethod
    def _piece_bytes(fault: Fault) -> int:
        return (
            64 << 10 if fault.bytes_per_second is None else max(1, int(fault.bytes_per_second / 20))
        )

    def _send(self, piece: bytes, fault: Fault) -> bool:
        """Send a piece of the body as the fault wants it; False if the connection is cut."""
        if fault.other_bytes and not self._sent:
            piece = bytes([piece[0] ^ 1]) + piece[1:]
        if fault.bytes_per_second is not None:
            time.sleep(len(piece) / fault.bytes_per_second)
        left = len(piece) if fault.cut_after is None else fault.cut_after - self._sent
        self.wfile.write(piece[:left])
        self.wfile.flush()
        self._sent += min(left, len(piece))
        if left < len(piece):
            self._reset()
            return False
        return True

    def _reset(self) -> None:
        self.close_connection = True
        # No waiting for what is unsent: the client sees a reset connection.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
