"""The recorder: every frame of every connection to disk, and what is known of each stream."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Sequence
from itertools import cycle

import httpx
import msgspec

from market_pipeline.capture.connection import Arrival, tls_context
from market_pipeline.capture.derived import Derived
from market_pipeline.capture.limits import WindowBudget
from market_pipeline.capture.link import Link
from market_pipeline.capture.raw import EntryWriter, RawSink
from market_pipeline.capture.rest import RestClient
from market_pipeline.capture.status import Status
from market_pipeline.capture.streams import Streams
from market_pipeline.capture.watchdog import Silence
from market_pipeline.config.capture import CaptureSettings
from market_pipeline.errors import VenueError
from market_pipeline.sources.recording.format import (
    Clock,
    Connect,
    Disconnect,
    Entry,
    Gap,
    RecordKind,
)
from market_pipeline.sources.venues import VENUES
from market_pipeline.sources.venues.merge import Message
from market_pipeline.sources.venues.reading import FrameReader
from market_pipeline.sources.venues.venue import Kind, Scope, Venue

__all__ = ["Recorder", "recorded_venue"]

_SHUTDOWN = b"serverShutdown"
_EVENT_STEP_S = 0.05
_MOST_CONNECTIONS = 1 << 16
"""As a recording counts them; after so many they are numbered from 1 again."""


def recorded_venue(settings: CaptureSettings) -> Venue:
    """The venue that the settings name.

    Raises:
        VenueError: There is none of that name, it has no such stream, or no symbol is named.
    """
    venue = VENUES.get(settings.venue or "")
    if venue is None:
        raise VenueError(
            "There is no venue of that name",
            address=settings.venue or "none",
            expected=f"one of {', '.join(VENUES)}",
            next_step="Set PIPELINE_CAPTURE__VENUE, or give --venue.",
        )
    missing = {*settings.streams} - {channel.kind.value for channel in venue.channels}
    if missing or not settings.symbols:
        raise VenueError(
            "There is nothing to record" if not missing else "The venue has no such stream",
            address=venue.name,
            expected=f"symbols, and streams of {', '.join(c.kind for c in venue.channels)}",
            found=", ".join(sorted(missing)) or "no symbol",
            next_step="Set PIPELINE_CAPTURE__SYMBOLS and PIPELINE_CAPTURE__STREAMS.",
        )
    return venue


class Recorder:
    """Records what the settings name until it is asked to stop; hears of all links.

    Args:
        settings: What to record and how.
        sink: Where entries are kept.
        report: Takes lines about what happens: level (`info`, `warning`, `error`) and text.
        derived: Takes each message of each stream once, in order, after it was recorded.

    Attributes:
        status: What is going on; figures of rate, lag and disk are brought up to date by `refresh`.
    """

    def __init__(
        self,
        settings: CaptureSettings,
        sink: RawSink,
        *,
        report: Callable[[str, str], None],
        derived: Derived | None = None,
    ) -> None:
        self.status = Status(time.time_ns())
        self._settings, self._report, self._derived = settings, report, derived
        self._venue = recorded_venue(settings)
        self._reader = FrameReader(self._venue)
        self._numbers = cycle(range(1, _MOST_CONNECTIONS))
        self._links: list[Link] = []
        self._streams = Streams(self._venue, settings, self.status, derived, self._record_gap)
        self._renewed_s: dict[str, float] = {}
        self._open: dict[int, tuple[Link, str]] = {}
        self._resync: dict[str, asyncio.Event] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._raw = EntryWriter(
            sink,
            flush_s=settings.flush_ms / 1000,
            sync_s=settings.sync_seconds,
            on_full=lambda full: self._in_loop(self._hold_back, full),
            on_refused=lambda why: self._in_loop(self._disk, why),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Records until `stop` is set, then closes connections and files.

        Raises:
            OSError: The recording could not go on.
        """
        self._loop = asyncio.get_running_loop()
        context = tls_context(self._settings)
        base = self._settings.rest_url or self._venue.rest[0]
        rest = RestClient(self._venue, base, context)
        self._links = self._planned_links(context)
        self.status.links = len(self._links)
        self._raw.start()
        if self._derived is not None:
            self._derived.start(
                lambda symbol: self._in_loop(self.request_snapshot, symbol),
                lambda level, text: self._in_loop(self._report, level, text),
            )
        for link in self._links:
            self._cover(link, "no connection yet")
        stopped = asyncio.create_task(stop.wait())
        tasks = [asyncio.create_task(link.run()) for link in self._links]
        tasks += [asyncio.create_task(self._look_after_gaps())]
        tasks += [asyncio.create_task(self._record_clock(rest))]
        if Kind.DEPTH in self._settings.streams and self._venue.snapshot is not None:
            self._resync = {symbol: asyncio.Event() for symbol in self._settings.symbols}
            tasks += [
                asyncio.create_task(self._snapshots(rest, symbol, number))
                for number, symbol in enumerate(self._settings.symbols)
            ]
        try:
            await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopped, *tasks):
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            self._streams.expire(float("inf"))
            self._streams.observe(time.time_ns())
            await rest.close()
            await asyncio.to_thread(self._raw.stop)
            if self._derived is not None:
                await asyncio.to_thread(self._derived.stop)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    def refresh(self, seconds: float, frames_before: int) -> None:
        """Brings the figures that are not counted up to date, for a span that has passed."""
        status, lags = self.status, sorted(self._raw.lags_ns)
        status.wall_ns = time.time_ns()
        status.frames_per_second = (status.frames - frames_before) / seconds
        status.waiting = self._raw.waiting
        status.connections = len(self._open)
        if lags:
            status.lag_p50_ms = lags[len(lags) // 2] / 1e6
            status.lag_p99_ms = lags[len(lags) * 99 // 100] / 1e6
        self._streams.observe(status.wall_ns)
        self._streams.refresh(status)
        rank = ("", "warning", "error").index
        having_one = [link for link, _ in self._open.values()]
        for name, stream in status.streams.items():
            every, having = (
                [link.watchdog.level(name) for link in links if name in link.streams]
                for links in (self._links, having_one)
            )
            stream.silence = max(every, key=rank, default="")
            stream.unheard = min(having, key=rank, default="")

    def _planned_links(self, context: ssl.SSLContext) -> list[Link]:
        """The links of each route, each with as many symbols as the venue allows."""
        kinds_of_route: dict[str, list[Kind]] = {}
        for kind in map(Kind, self._settings.streams):
            kinds_of_route.setdefault(self._venue.channel(kind).route, []).append(kind)
        limits = self._venue.limits
        connects = WindowBudget(*(limits.connects or (None, 60.0)))
        links = []
        for kinds in kinds_of_route.values():
            most = self._most_symbols(kinds)
            for first in range(0, len(self._settings.symbols), most):
                symbols = self._settings.symbols[first : first + most]
                links += [
                    Link(
                        self._venue, kinds, symbols,
                        settings=self._settings, context=context, connects=connects,
                        observer=self, age_share=number / self._settings.redundancy,
                    )
                    for number in range(self._settings.redundancy)
                ]  # fmt: skip
        return links

    def _most_symbols(self, kinds: Sequence[Kind]) -> int:
        """How many symbols one connection may have."""
        scopes = {self._venue.channel(kind).continuity.scope for kind in kinds}
        if Scope.CONNECTION in scopes:
            return 1  # one counter for a connection: a loss spoils all symbols on it
        limits = self._venue.limits
        return max(1, min((limits.streams or 1024) // len(kinds), limits.symbols or 1024))

    def request_snapshot(self, symbol: str) -> None:
        """Has a whole book sent, as a book that is not right needs one.

        Over REST, or by a new connection where the venue sends it at the beginning of a stream.
        """
        if self._venue.snapshot is not None:
            if symbol in self._resync:
                self._resync[symbol].set()
            return
        now_s, stream = time.monotonic(), f"{Kind.DEPTH}:{symbol}"
        since_s = now_s - self._renewed_s.get(symbol, float("-inf"))
        having = [link for link, _ in self._open.values() if stream in link.streams]
        if having and since_s > self._settings.connect_timeout_seconds:
            self._renewed_s[symbol] = now_s
            having[0].renew(f"the book of {symbol} needs a whole one")

    # --- what links report ---------------------------------------------------------------------

    def next_number(self) -> int:
        """A number for a new connection."""
        return next(self._numbers)

    def arrived(self, link: Link, connection: int, arrival: Arrival) -> None:
        """Records a frame, before anything else is done with it."""
        head = self._reader.classify(arrival.payload)
        # The name of a stream that nobody asked for is whatever the venue sends.
        is_ours = head.stream in self._streams
        symbol, stream = (head.symbol, head.stream) if is_ours else (link.symbols[0], "")
        self._raw.put(
            Entry(symbol, RecordKind.FRAME, arrival.wall_ns, arrival.monotonic_ns, connection,
                  stream, arrival.payload, arrival.opcode, head.last_id if is_ours else None)
        )  # fmt: skip
        self.status.frames += 1
        checked = self._streams.check(connection, head, arrival.wall_ns)
        if not is_ours:
            self.status.undecodable += head.kind is Kind.UNDECODABLE
            if head.kind is Kind.CONTROL and _SHUTDOWN in arrival.payload:
                link.renew("the venue announced its shutdown")
            return
        now_s = arrival.monotonic_ns / 1e9
        link.watchdog.heard(head.stream, now_s)
        message = Message(head, arrival.payload, arrival.wall_ns, connection)
        self._streams.take(message, now_s, checked)

    def connected(self, link: Link, connection: int, address: str, replaces: int | None) -> None:
        """Records a connection that is open, in the file of each of its symbols."""
        self._open[connection] = (link, address)
        self._note(RecordKind.CONNECT, connection, link, Connect(address, link.streams, replaces))
        self._cover(link, "")
        self._report("info", f"connection {connection} to {address} is open")

    def disconnected(self, link: Link, connection: int, reason: str, code: int | None) -> None:
        """Records the end of a connection."""
        self._open.pop(connection, None)
        self._note(RecordKind.DISCONNECT, connection, link, Disconnect(reason, code))
        if reason != "stopped":  # at the end of the capture nothing is missing
            self._cover(link, f"connection {connection} has ended: {reason}")
            self._streams.end(connection, link.streams, time.time_ns())
        self.status.reconnects += reason == "lost"
        self._report("info", f"connection {connection} has ended: {reason}")

    def failed(self, link: Link, address: str, reason: str) -> None:
        """Reports an attempt that failed."""
        self._report("warning", f"no connection to {address[:120]}: {reason}")

    def silence(self, link: Link, silence: Silence) -> None:
        """Reports a stream that is silent, or is heard again."""
        level = silence.level or "info"
        text = f"silent for {silence.seconds:.0f} s" if silence.level else "heard again"
        self._report(level, f"{silence.stream} is {text}")
        self._cover(link, text)

    def _cover(self, link: Link, reason: str) -> None:
        """Says of each stream of a link whether a connection has it, and is not silent."""
        for name in link.streams:
            links = [each for each, _ in self._open.values() if name in each.streams]
            is_covered = any(each.watchdog.level(name) != "error" for each in links)
            self._streams.cover(name, is_covered, reason, time.time_ns())

    def _note(self, kind: RecordKind, connection: int, link: Link, what: msgspec.Struct) -> None:
        for symbol in link.symbols:
            self._put(kind, connection, symbol, "", msgspec.json.encode(what))

    def _put(
        self, kind: RecordKind, connection: int, symbol: str, stream: str, payload: bytes
    ) -> None:
        self._raw.put(
            Entry(symbol, kind, time.time_ns(), time.monotonic_ns(), connection, stream, payload)
        )

    # --- beside the streams --------------------------------------------------------------------

    async def _look_after_gaps(self) -> None:
        step_s = min(_EVENT_STEP_S, max(self._settings.fill_ms / 4000, 0.001))
        while True:
            await asyncio.sleep(step_s)
            self._streams.expire(time.monotonic())

    def _record_gap(self, name: str, gap: Gap) -> None:
        kind, _, symbol = name.partition(":")
        self.status.streams[name].gaps += 1
        self._put(RecordKind.GAP, 0, symbol, name, msgspec.json.encode(gap))
        self._report("warning", f"{name}: gap after {gap.after_id}")
        if kind == Kind.DEPTH:
            self.request_snapshot(symbol)

    async def _snapshots(self, rest: RestClient, symbol: str, number: int) -> None:
        every_s = self._settings.snapshot_seconds
        depth = self.status.streams[f"{Kind.DEPTH}:{symbol}"]
        while not depth.frames:  # a book from before the first message would join nothing
            await asyncio.sleep(_EVENT_STEP_S)
        wait_s = every_s * (1 + number / len(self._resync))
        while True:
            await self._until_unpressed()
            taken = False
            with contextlib.suppress(httpx.HTTPError):
                answer = await rest.snapshot(symbol)
                if answer is not None:
                    taken = True
                    self.status.snapshots += 1
                    stream = f"{Kind.SNAPSHOT}:{symbol}"
                    self._raw.put(
                        Entry(symbol, RecordKind.SNAPSHOT, answer.wall_ns, answer.monotonic_ns, 0,
                              stream, answer.body)
                    )  # fmt: skip
                    self._resync[symbol].clear()
                    head = self._reader.classify(answer.body)
                    head = msgspec.structs.replace(head, symbol=symbol, stream=stream)
                    self._streams.take_snapshot(Message(head, answer.body, answer.wall_ns))
            self.status.refused = rest.refused
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s if taken else min(1.0, wait_s)):
                    await self._resync[symbol].wait()
            wait_s = every_s

    async def _until_unpressed(self) -> None:
        """Puts REST work off while sinks or books are behind, at most to the next snapshot."""
        began_s = time.monotonic()
        while self._derived is not None and self._derived.is_pressed:
            if time.monotonic() - began_s >= self._settings.snapshot_seconds:
                return
            await asyncio.sleep(_EVENT_STEP_S)
            self.status.snapshots_held_s += _EVENT_STEP_S

    async def _record_clock(self, rest: RestClient) -> None:
        while True:
            try:
                clock = await rest.clock()
            except httpx.HTTPError as error:
                clock = Clock()
                self._report("warning", f"the venue's time is not known: {error!r}")
            if clock.offset_ns is not None:
                self.status.offset_ms = clock.offset_ns / 1e6
            for symbol in self._settings.symbols:
                self._put(RecordKind.CLOCK, 0, symbol, "", msgspec.json.encode(clock))
            await asyncio.sleep(self._settings.clock_seconds)

    # --- what the writer reports ---------------------------------------------------------------

    def _in_loop(self, call: Callable[..., None], *what: bool | str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call, *what)

    def _hold_back(self, full: bool) -> None:
        for link in self._links:
            link.pause(full)

    def _disk(self, why: str) -> None:
        self.status.disk = why
        self._report("error" if why else "info", f"disk: {why or 'it can be written again'}")
