"""Receivers on loopback of every bad kind: what each does wrong it does for ever."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import repeat
from pathlib import Path

import psutil

from market_pipeline.alerts import _post as post

PATIENCE_SECONDS = 4.0
"""Enough for those who break off at once, on a busy machine too."""

_PAUSE_SECONDS = 0.1
_OK = b"HTTP/1.1 200 OK\r\n"
_LATE = f"no answer within {PATIENCE_SECONDS:g} s"
_BROKEN = "no connection to it"

HANGING_NAME = "hangs.invalid"
_HANGING_RESOLVER = f"""
import socket, time

resolve = socket.getaddrinfo

def hang(host, *others, **named):
    if host == {HANGING_NAME!r}:
        time.sleep(3_600)
    return resolve(host, *others, **named)

socket.getaddrinfo = hang
"""


def _says(*parts: bytes, for_ever: bytes = b"", pause: float = _PAUSE_SECONDS) -> Callable:
    """Says the parts, and then the last again and again; without one it only listens."""

    def serve(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
        for each in repeat(for_ever):
            time.sleep(pause)
            connection.sendall(each)

    return serve


def _answers(text: bytes) -> Callable:
    def serve(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(text)

    return serve


def _resets(connection: socket.socket) -> None:
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# What each does, the scheme of its address, and why it did not take an alert in time.
_KINDS: dict[str, tuple[Callable, str, str]] = {
    "is silent": (_says(), "http", _LATE),
    "drips a status": (_says(b"HTTP/1.1 200 ", for_ever=b"O"), "http", _LATE),
    "drips a header": (_says(_OK, b"X: ", for_ever=b"x"), "http", _LATE),
    "drips headers": (_says(_OK, for_ever=b"X: x\r\n"), "http", _LATE),
    "continues": (_says(for_ever=b"HTTP/1.1 100 Continue\r\n\r\n"), "http", _LATE),
    "continues fast": (
        _says(for_ever=b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000, pause=0),
        "http",
        _LATE,
    ),
    "is silent in TLS": (_says(), "https", _LATE),
    "drips TLS": (_says(b"\x16\x03\x03\x40\x00", for_ever=b"\x02"), "https", _LATE),
    "endless headers": (_says(_OK, for_ever=b"X: x\r\n" * 1_000, pause=0), "http", _BROKEN),
    "an endless header": (_says(_OK, b"X: ", for_ever=b"x" * 9_999, pause=0), "http", _BROKEN),
    "talks nonsense": (_answers(b"\0\xff\r\n\r\n"), "http", _BROKEN),
    "closes": (_answers(b""), "http", _BROKEN),
    "resets": (_resets, "http", _BROKEN),
    "redirects": (
        _answers(b"HTTP/1.1 307 Again\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n"),
        "http",
        "it answered 307",
    ),
    "wants a year": (
        _answers(b"HTTP/1.1 429 Later\r\nRetry-After: 31536000\r\nContent-Length: 0\r\n\r\n"),
        "http",
        "it answered 429",
    ),
    "is broken": (
        _answers(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"),
        "http",
        "it answered 500",
    ),
}
CANNOT_BE_CONNECTED = "cannot be connected"
HAS_NO_ADDRESS = "its name is never resolved"
REFUSALS = {name: refusal for name, (_, _, refusal) in _KINDS.items()} | {
    CANNOT_BE_CONNECTED: _LATE,
    HAS_NO_ADDRESS: _LATE,
}
"""Why each kind did not take an alert if it had `PATIENCE_SECONDS`."""

STRANGE = {
    "drips a body": _says(_OK, b"Content-Length: 9999\r\n\r\n", for_ever=b"x"),
    "a gigantic body": _says(_OK, b"\r\n", for_ever=b"x" * 99_999, pause=0),
}
"""Receivers that do take an alert, whatever they say afterwards."""


@contextmanager
def bad_receivers() -> Iterator[dict[str, str]]:
    """The address of one receiver of each kind of `REFUSALS`."""
    with ExitStack() as stack:
        found = {
            name: f"{scheme}://127.0.0.1:{stack.enter_context(serving(serve))}/"
            for name, (serve, scheme, _) in _KINDS.items()
        }
        found[CANNOT_BE_CONNECTED] = f"http://127.0.0.1:{stack.enter_context(_full())}/"
        yield found | {HAS_NO_ADDRESS: f"https://{HANGING_NAME}/"}


@contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port on which each connection is served by a function until the client gives up."""

    def one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            serve(connection)

    def accept() -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                threading.Thread(target=one, args=listener.accept()[:1], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts


@contextmanager
def _full() -> Iterator[int]:
    """The port of a listener that accepts nothing and whose queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as stack:
        for _ in range(4):
            waits = stack.enter_context(socket.socket())
            waits.setblocking(False)
            waits.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def hanging_resolver(folder: Path) -> str:
    """A `PYTHONPATH` with which every Python process hangs when it looks up `HANGING_NAME`."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_HANGING_RESOLVER)
    return str(folder)


def posting(process: psutil.Process) -> list[psutil.Process]:
    """The processes below one that are posting an alert now."""
    found = []
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if post.__file__ in child.cmdline():
                found.append(child)
    return found
