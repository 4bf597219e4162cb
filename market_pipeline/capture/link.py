"""One place among redundant connections: always one live connection, replaced before it ends."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from websockets.exceptions import WebSocketException

from market_pipeline.capture.connection import Arrival, StampedConnection, open_connection
from market_pipeline.capture.limits import Backoff, Endpoints, WindowBudget
from market_pipeline.capture.watchdog import Silence, Watchdog
from market_pipeline.config.capture import CaptureSettings
from market_pipeline.errors import VenueError
from market_pipeline.sources.venues.venue import Kind, Venue

__all__ = ["Link", "Observer"]

_GOING_AWAY = 1001
_ANSWERS_S = 2.0
"""An endpoint that does not answer for so long is left for another one, while nothing is live."""
_FAILURES = (OSError, WebSocketException, VenueError)


class Observer(Protocol):
    """What hears of the connections of a link."""

    def arrived(self, link: Link, connection: int, arrival: Arrival) -> None:
        """A message arrived."""

    def connected(self, link: Link, connection: int, address: str, replaces: int | None) -> None:
        """A connection is open and its streams are asked for."""

    def disconnected(self, link: Link, connection: int, reason: str, code: int | None) -> None:
        """A connection has ended."""

    def failed(self, link: Link, address: str, reason: str) -> None:
        """An attempt to connect failed."""

    def silence(self, link: Link, silence: Silence) -> None:
        """A stream became silent, or is heard again."""

    def next_number(self) -> int:
        """A number for a new connection."""


@dataclass(slots=True)
class _Session:
    """A connection with its number, and the first message that proves it."""

    number: int
    address: str
    base: str
    connection: StampedConnection
    opened_s: float
    messages: int = 0
    has_lasted: bool = False
    heard: asyncio.Event = field(default_factory=asyncio.Event)


class Link:
    """Keeps the streams of some symbols coming over one connection at a time.

    Args:
        venue, kinds, symbols: What it receives; the kinds share a route.
        settings: Times and limits.
        context: TLS.
        connects: The budget of new connections, shared by all links.
        age_share: How much of the first connection's life is taken as gone, so that redundant
            links renew at different times.
    """

    def __init__(
        self,
        venue: Venue,
        kinds: Sequence[Kind],
        symbols: Sequence[str],
        *,
        settings: CaptureSettings,
        context: ssl.SSLContext,
        connects: WindowBudget,
        observer: Observer,
        age_share: float = 0.0,
    ) -> None:
        self.venue, self.kinds, self.symbols = venue, tuple(kinds), tuple(symbols)
        self.streams = tuple(f"{kind.value}:{symbol}" for symbol in symbols for kind in kinds)
        self.watchdog = Watchdog(settings.silent_warning_seconds, settings.silent_error_seconds)
        self.endpoints = Endpoints(
            settings.websocket_urls or venue.websocket,
            settings.breaker_failures,
            settings.breaker_seconds,
        )
        self._sessions: list[_Session] = []
        self._is_paused = False
        self._settings, self._context, self._connects = settings, context, connects
        self._observer = observer
        self._renew_after_s = settings.renewal_seconds * (1.0 - age_share)
        self._backoff = Backoff(settings.retry_first_seconds, settings.retry_longest_seconds)
        self._wanted: asyncio.Event = asyncio.Event()
        self._why = ""

    def renew(self, why: str) -> None:
        """Has the connection replaced now, before it ends by itself."""
        self._why = why
        self._wanted.set()

    def pause(self, paused: bool) -> None:
        """Stops to read, or reads on: what is not read is kept by the system and the venue."""
        self._is_paused = paused
        for session in self._sessions:
            transport = session.connection.transport
            transport.pause_reading() if paused else transport.resume_reading()

    async def run(self) -> None:
        """Stays connected until it is cancelled."""
        live: _Session | None = None
        try:
            while True:
                if live is None:
                    live = await self._connected(None)
                reason = await self._until_due(live)
                if reason is None:
                    self._lost(live)
                    has_lasted, live = live.has_lasted, None
                    if not has_lasted:  # a venue that hangs up again and again is given time
                        await asyncio.sleep(self._backoff.next_s())
                    continue
                following = await self._connected(live)
                await self._close(live, reason)
                self._renew_after_s = self._settings.renewal_seconds
                live = following
        finally:
            if live is not None:
                await asyncio.shield(self._close(live, "stopped"))

    async def _connected(self, replaced: _Session | None) -> _Session:
        """A connection on which a message has arrived, or that is the only one there can be."""
        while True:
            base = self.endpoints.choose(time.monotonic())
            address = self.venue.address(base, self.kinds, self.symbols)
            try:
                session = await self._open(base, address, replaced)
            except _FAILURES as error:
                self._observer.failed(self, address, str(error) or type(error).__name__)
                if isinstance(error, TimeoutError) and replaced is None:
                    self.endpoints.unreachable(base, time.monotonic())
                else:
                    self.endpoints.failed(base, time.monotonic())
                await asyncio.sleep(self._backoff.next_s())
                continue
            if replaced is None or await self._delivers(session):
                return session
            self.endpoints.failed(base, time.monotonic())
            await self._close(session, "no message on a new connection")
            await asyncio.sleep(self._backoff.next_s())

    async def _open(self, base: str, address: str, replaced: _Session | None) -> _Session:
        while (wait_s := self._connects.wait_s(1, time.monotonic())) > 0:
            await asyncio.sleep(wait_s)
        self._connects.spend(1, time.monotonic())
        is_alone = replaced is not None or not self.endpoints.has_other(base, time.monotonic())
        async with asyncio.timeout(None if is_alone else _ANSWERS_S):
            connection = await open_connection(
                address, self._settings, self._context, own_pings=self.venue.keepalive.own_pings
            )
        session = _Session(
            self._observer.next_number(), address, base, connection, time.monotonic()
        )
        try:
            for message in self.venue.subscribe(self.kinds, self.symbols):
                await connection.send(message)
        except BaseException:
            connection.transport.abort()
            raise
        self._observer.connected(
            self, session.number, base, None if replaced is None else replaced.number
        )
        for stream in self.streams:
            self.watchdog.subscribed(stream, time.monotonic())
        self._sessions.append(session)
        connection.hand_over(self._receiver(session))
        if self._is_paused:
            connection.transport.pause_reading()
        return session

    def _receiver(self, session: _Session) -> Callable[[Arrival], None]:
        arrived, number = self._observer.arrived, session.number

        def receive(arrival: Arrival) -> None:
            session.messages += 1
            if session.messages == 1:
                session.heard.set()
            arrived(self, number, arrival)

        return receive

    async def _delivers(self, session: _Session) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.connect_timeout_seconds):
                await session.heard.wait()
        return session.heard.is_set()

    async def _until_due(self, session: _Session) -> str | None:
        """Why the connection is to be replaced; None if it is lost."""
        closed = asyncio.create_task(session.connection.wait_closed())
        wanted = asyncio.create_task(self._wanted.wait())
        keepalive = self.venue.keepalive
        sent_s = time.monotonic()
        look_s = min(1.0, self._settings.breaker_seconds / 4, self._settings.renewal_seconds / 20)
        try:
            while True:
                await asyncio.wait(
                    {closed, wanted}, timeout=look_s, return_when=asyncio.FIRST_COMPLETED
                )
                now_s = time.monotonic()
                self._look_for_age(session, now_s)
                if closed.done():
                    return None
                if wanted.done():
                    self._wanted.clear()
                    return self._why
                if now_s - session.opened_s >= self._renew_after_s:
                    return "renewal"
                if self.endpoints.is_backup(session.base, now_s):
                    return "back to a better endpoint"
                if keepalive.message and now_s - sent_s >= keepalive.interval_s:
                    sent_s = now_s
                    with contextlib.suppress(WebSocketException):
                        await session.connection.send(keepalive.message)
                self._look_for_silence(session, now_s)
        finally:
            closed.cancel()
            wanted.cancel()

    def _look_for_age(self, session: _Session, now_s: float) -> None:
        lasted_s = now_s - session.opened_s
        if session.messages and lasted_s >= self._settings.retry_longest_seconds:
            session.has_lasted = True
            self._backoff.reset()
            self.endpoints.worked(session.base)

    def _look_for_silence(self, session: _Session, now_s: float) -> None:
        for silence in self.watchdog.changes(now_s):
            self._observer.silence(self, silence)
            if silence.level == "error":
                if len(self.watchdog.silent()) == len(self.streams):
                    self.endpoints.failed(session.base, now_s)
                self.renew(f"{silence.stream} silent for {silence.seconds:.0f} s")

    def _lost(self, session: _Session) -> None:
        self._sessions.remove(session)
        now_s = time.monotonic()
        code = session.connection.close_code
        if session.messages == 0 or code != _GOING_AWAY:
            self.endpoints.failed(session.base, now_s)
        reason = session.connection.close_reason or "lost"
        self._observer.disconnected(self, session.number, reason, code)

    async def _close(self, session: _Session, reason: str) -> None:
        # What arrives until the venue has answered is recorded, too.
        with contextlib.suppress(*_FAILURES):
            await session.connection.close()
        self._sessions.remove(session)
        self._observer.disconnected(self, session.number, reason, session.connection.close_code)
