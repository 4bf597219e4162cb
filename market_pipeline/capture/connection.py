"""One connection: frames are stamped and handed over inside the protocol, before any queue."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode
from websockets.http11 import Response

from market_pipeline.config.capture import CaptureSettings
from market_pipeline.errors import VenueError

__all__ = ["Arrival", "StampedConnection", "open_connection", "tls_context"]

_MOST_FRAME_BYTES = 64 << 20
"""A whole book of Coinbase is 4.8 MB; the library's own limit of 1 MiB would close on it."""


_CONTROL = int(Opcode.CLOSE)
"""From there on opcodes are of pings, answers and closes."""


class Arrival(Struct, frozen=True, gc=False):
    """A message as it arrived: both clocks when its last byte was read, and its bytes."""

    wall_ns: int
    monotonic_ns: int
    payload: bytes
    opcode: int


class StampedConnection(ClientConnection):
    """Hands each whole message over as soon as its last fragment was read.

    Nothing is queued in between, so a busy event loop delays no stamp of what it has read.
    """

    receive: Callable[[Arrival], None] | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._early: list[Arrival] = []
        self._parts: list[bytes] = []
        self._opcode = 0

    def process_event(self, event: Frame | Response) -> None:  # type: ignore[override]
        """Takes messages, and leaves answers, pings and closes to the library."""
        if not isinstance(event, Frame) or event.opcode >= _CONTROL:
            super().process_event(event)
            return
        wall_ns, monotonic_ns = time.time_ns(), time.monotonic_ns()
        if event.opcode is not Opcode.CONT:
            self._opcode = int(event.opcode)
        if not event.fin:
            if event.data:  # without end they would fill the memory
                self._parts.append(bytes(event.data))
            return
        payload = bytes(event.data)
        if self._parts:
            payload = b"".join((*self._parts, payload))
            self._parts.clear()
        arrival = Arrival(wall_ns, monotonic_ns, payload, self._opcode)
        if self.receive is None:
            self._early.append(arrival)  # with the answer to the handshake, before `hand_over`
        else:
            self.receive(arrival)

    def hand_over(self, receive: Callable[[Arrival], None]) -> None:
        """Gives what has arrived, and from now on what arrives, to a function."""
        for arrival in self._early:
            receive(arrival)
        self._early.clear()
        self.receive = receive


def tls_context(settings: CaptureSettings) -> ssl.SSLContext:
    """TLS 1.3 or newer, with names and certificates verified."""
    bundle = settings.ca_bundle
    context = ssl.create_default_context(cafile=None if bundle is None else str(bundle))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


async def open_connection(
    address: str, settings: CaptureSettings, context: ssl.SSLContext, *, own_pings: bool
) -> StampedConnection:
    """Connects, with the library's pings only where the venue does not count them.

    Raises:
        VenueError: The endpoint cannot be trusted: it offers no TLS 1.3, or its certificate is
            not one that is trusted.
        OSError, websockets.exceptions.WebSocketException: It cannot be reached, or refuses.
    """
    try:
        connection = await connect(
            address,
            ssl=context if address.startswith("wss:") else None,
            create_connection=StampedConnection,
            open_timeout=settings.connect_timeout_seconds,
            ping_interval=20 if own_pings else None,
            max_size=_MOST_FRAME_BYTES,
            close_timeout=settings.connect_timeout_seconds,
        )
    except ssl.SSLCertVerificationError as error:
        raise VenueError(
            "The certificate of an endpoint is not trusted",
            address=_base(address),
            expected="a certificate of that name by an authority that is trusted",
            found=error.verify_message,
            next_step="Check the address; name a private authority in PIPELINE_CAPTURE__CA_BUNDLE.",
        ) from error
    except (ssl.SSLError, ConnectionResetError) as error:
        # A server that cannot do TLS 1.3 says so with an alert, or just hangs up.
        older = await _older_version(address, settings)
        if older is None:
            raise
        raise VenueError(
            "An endpoint does not offer TLS 1.3",
            address=_base(address),
            expected="TLS 1.3 or newer",
            found=older,
            next_step="Use an endpoint that offers it; older versions are never used.",
        ) from error
    assert isinstance(connection, StampedConnection)
    return connection


def _base(address: str) -> str:
    return "/".join(address.split("/")[:3])


async def _older_version(address: str, settings: CaptureSettings) -> str | None:
    """The version that a server offers if it is older than what is used; nothing is sent on it."""
    context = tls_context(settings)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    parts = urlsplit(address)
    try:
        async with asyncio.timeout(settings.connect_timeout_seconds):
            _, writer = await asyncio.open_connection(
                parts.hostname, parts.port or 443, ssl=context
            )
    except (OSError, TimeoutError):
        return None
    version = writer.get_extra_info("ssl_object").version()
    writer.transport.abort()
    return None if version == "TLSv1.3" else str(version)
