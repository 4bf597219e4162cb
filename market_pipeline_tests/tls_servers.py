"""A server of HTTPS that offers no version of TLS newer than it is told, for clients to refuse."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from market_pipeline_tests.store.certificates import Certificates


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    do_PUT = do_POST

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass


def offering(certificates: Certificates, newest: ssl.TLSVersion) -> ssl.SSLContext:
    """What a server speaks TLS with, of no version that is newer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.key)
    context.maximum_version = newest
    return context


@contextmanager
def serving_tls(
    certificates: Certificates, newest: ssl.TLSVersion
) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the paths that it was asked for."""
    context = offering(certificates, newest)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.asked = []  # type: ignore[attr-defined]
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"https://localhost:{server.server_port}", server.asked  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()
