"""Recorded files as a source: what was made of a capture is made of them again, and no record."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import msgspec

from market_pipeline.capture.derived import Derived
from market_pipeline.capture.status import Status
from market_pipeline.capture.streams import Streams
from market_pipeline.config.capture import CaptureSettings
from market_pipeline.config.settings import Settings
from market_pipeline.errors import LakeFileError, SettingsError
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.sources.recording.check import read_facts
from market_pipeline.sources.recording.format import Connect, Disconnect, Gap, Record, RecordKind
from market_pipeline.sources.recording.heads import venue_of
from market_pipeline.sources.recording.reader import Damage, read_header, read_recording
from market_pipeline.sources.recording.union import by_host, received
from market_pipeline.sources.venues.merge import Message
from market_pipeline.sources.venues.reading import FrameReader
from market_pipeline.sources.venues.venue import Kind, Venue

__all__ = ["Given", "Replay", "recorded", "recorded_settings", "replay_settings"]

_EXPIRE_NS, _OBSERVE_NS = 50_000_000, NS_PER_SECOND
_LOOK_S = 0.005
_AT_ONCE = 256
_UNPACED = 1e12
_STOPPED = "stopped"
_connect, _disconnect = msgspec.json.Decoder(Connect), msgspec.json.Decoder(Disconnect)


class Given(NamedTuple):
    """A record as it is replayed.

    Attributes:
        at_ns: When it was received.
        lane, session: Of the run of a recorder, whose connections are numbered by themselves.
    """

    at_ns: int
    lane: int
    session: str
    symbol: str
    record: Record


def recorded(
    files: Iterable[Path], on_damage: Callable[[Damage], None] | None = None
) -> Iterator[Given]:
    """Yields the records of files of one venue in the order of receipt.

    Raises:
        LakeFileError: A file cannot be read.
    """
    headers = {file: read_header(file) for file in files}
    of_symbol: dict[str, list[Path]] = defaultdict(list)
    for file, header in headers.items():
        of_symbol[header.symbol].append(file)
    sources = [each for symbol in of_symbol.values() for each in by_host(symbol)]
    for arrival in received(sources, on_damage):
        header = headers[arrival.file]
        yield Given(arrival.at_ns, arrival.lane, header.session, header.symbol, arrival.record)


def recorded_settings(settings: Settings, files: Sequence[Path]) -> tuple[Settings, Venue]:
    """`replay_settings` for recorded files, and their venue.

    Raises:
        LakeFileError: A file is no recording, or they are of several venues.
        SettingsError: Rows of another replay lie there.
    """
    headers = [read_header(file) for file in files]
    exchanges = sorted({header.exchange for header in headers})
    if len(exchanges) != 1:
        raise LakeFileError(
            "The recordings are not of one venue",
            next_step="Replay those of one venue at a time.",
            expected="files of one venue",
            found=", ".join(exchanges) or "no file",
        )
    venue = venue_of(exchanges[0])
    names = {name for file in files for name in _streams_in(file)}
    kinds = {name.partition(":")[0] for name in names}
    streams = [each.kind for each in venue.channels if each.kind in kinds]
    symbols = dict.fromkeys(header.symbol for header in headers)
    return replay_settings(settings, venue, symbols, streams), venue


def _streams_in(file: Path) -> set[str]:
    footer = read_facts(file).footer
    if footer is not None:
        return {*footer.streams}
    return {name for chunk in read_recording(file, lambda damage: None) for name in chunk.streams}


def replay_settings(
    settings: Settings, venue: Venue, symbols: Iterable[str], streams: Iterable[Kind]
) -> Settings:
    """The settings by which these streams are replayed; nothing is dropped.

    Rows go below `replay/<venue>` in the data folder unless the settings name a folder.

    Raises:
        SettingsError: Rows of another replay lie there.
    """
    capture = settings.capture
    folder = capture.sink_folder
    if folder is None:
        folder = settings.data_dir / "replay" / venue.name
        if capture.sinks and folder.exists():
            problem = f"rows of another replay lie in {folder}; remove it, or set"
            raise SettingsError([f"{problem} PIPELINE_CAPTURE__SINK_FOLDER to another folder"])
    replayed = {
        "venue": venue.name,
        "symbols": tuple(symbols),
        "streams": tuple(kind.value for kind in streams),
        "live": True,
        "sink_folder": folder,
        # The source waits for whoever is slow, so nothing need be left out.
        "sink_policy": "block",
        "sink_rows_per_second": _UNPACED,
        "sink_rows_burst": _UNPACED,
    }
    return settings.model_copy(update={"capture": capture.model_copy(update=replayed)})


class Replay:
    """Gives records to books, bars and sinks as the recorder gave what it received.

    Redundant connections, also those of several hosts, are united by the same rule as live, with
    the stamps of the record as the time. The silence of a stream is not watched.

    Args:
        records: Of one venue, in the order of receipt.
        settings, venue: See `replay_settings`.
        report: Takes lines about what happens: level and text.
        derived: What is made of them.
        speed: 1 is as they came, 10 ten times as fast, None as fast as they are taken.

    Attributes:
        status: As of `Recorder`, at the time of the record.
    """

    def __init__(
        self,
        records: Iterable[Given],
        settings: CaptureSettings,
        venue: Venue,
        *,
        report: Callable[[str, str], None],
        derived: Derived,
        speed: float | None = None,
    ) -> None:
        self._records, self.status = records, Status(0)
        self._report, self._derived, self._speed = report, derived, speed
        self._reader = FrameReader(venue)
        self._streams = Streams(venue, settings, self.status, derived, self._count_gap)
        self._numbers = count(1)
        self._number_of: dict[tuple[int, str, int], int] = {}
        self._open: dict[int, list[str]] = {}
        self._session_of: dict[int, str] = {}
        self._expired_ns = self._observed_ns = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Replays to the end, or until `stop` is set; then what was given is made and written.

        Raises:
            LakeFileError: A file cannot be read.
        """
        loop = asyncio.get_running_loop()

        def report(level: str, text: str) -> None:
            loop.call_soon_threadsafe(self._report, level, text)

        # A book that needs a whole one waits for the next that was recorded.
        self._derived.start(lambda symbol: None, report)
        try:
            await self._give(stop)
            self._streams.expire(float("inf"))
            self._streams.observe(self.status.wall_ns)
            self._derived.close()
            while self._derived.is_running and not stop.is_set():
                await asyncio.sleep(_LOOK_S)
        finally:
            await asyncio.to_thread(self._derived.stop)

    def refresh(self, seconds: float, frames_before: int) -> None:
        """Brings the figures that are not counted up to date, for a span that has passed."""
        self.status.frames_per_second = (self.status.frames - frames_before) / seconds
        self._streams.refresh(self.status)

    async def _give(self, stop: asyncio.Event) -> None:
        began_s = time.monotonic()
        first_ns: int | None = None
        for number, given in enumerate(self._records):
            at_ns = given.at_ns
            first_ns = at_ns if first_ns is None else first_ns
            wait_s = 0.0
            if self._speed is not None:
                due_s = (at_ns - first_ns) / NS_PER_SECOND / self._speed
                wait_s = began_s + due_s - time.monotonic()
            if wait_s > 0 or number % _AT_ONCE == 0:
                await _sleep_unless(stop, max(wait_s, 0.0))
            while self._derived.is_pressed and not stop.is_set():
                await asyncio.sleep(_LOOK_S)
            if stop.is_set():
                return
            self._take(given)

    def _take(self, given: Given) -> None:
        at_ns, lane, session, symbol, record = given
        self._begin_session(lane, session)
        self.status.wall_ns = max(self.status.wall_ns, at_ns)
        key = lane, session, record.connection
        if key not in self._number_of:
            self._number_of[key] = next(self._numbers)
        connection = self._number_of[key]
        if record.kind == RecordKind.FRAME:
            self._take_frame(connection, record.payload, at_ns)
        elif record.kind == RecordKind.SNAPSHOT:
            stream = f"{Kind.SNAPSHOT}:{symbol}"
            head = self._reader.classify(record.payload)
            head = msgspec.structs.replace(head, symbol=symbol, stream=stream)
            self._streams.take_snapshot(Message(head, record.payload, at_ns))
        elif record.kind == RecordKind.CONNECT:
            streams = _connect.decode(record.payload).streams
            names = [name for name in streams if name.endswith(f":{symbol}")]
            self._open[connection] = [name for name in names if name in self._streams]
            self._cover(self._open[connection], "", at_ns)
        elif record.kind == RecordKind.DISCONNECT:
            reason = _disconnect.decode(record.payload).reason
            if reason != _STOPPED:  # as at the end of a capture nothing is missing
                self._end(connection, reason, at_ns)
        self._pass_time(self.status.wall_ns)

    def _take_frame(self, connection: int, payload: bytes, at_ns: int) -> None:
        head = self._reader.classify(payload)
        self.status.frames += 1
        checked = self._streams.check(connection, head, at_ns)
        if head.stream in self._streams:
            message = Message(head, payload, at_ns, connection)
            self._streams.take(message, at_ns / NS_PER_SECOND, checked)
        else:
            self.status.undecodable += head.kind is Kind.UNDECODABLE

    def _begin_session(self, lane: int, session: str) -> None:
        """Ends the connections of a recorder that was stopped or killed, once another one began."""
        before = self._session_of.setdefault(lane, session)
        if before != session:
            self._session_of[lane] = session
            for key, connection in self._number_of.items():
                if key[:2] == (lane, before) and connection in self._open:
                    self._end(connection, "the recorder ended", self.status.wall_ns)

    def _end(self, connection: int, reason: str, at_ns: int) -> None:
        names = self._open.pop(connection, [])
        self._cover(names, f"connection {connection} has ended: {reason}", at_ns)
        self._streams.end(connection, names, at_ns)
        self.status.reconnects += reason == "lost"

    def _cover(self, names: Iterable[str], reason: str, at_ns: int) -> None:
        for name in names:
            is_covered = any(name in each for each in self._open.values())
            self._streams.cover(name, is_covered, reason, at_ns)
        self.status.connections = len(self._open)

    def _pass_time(self, at_ns: int) -> None:
        if at_ns - self._expired_ns >= _EXPIRE_NS:
            self._expired_ns = at_ns
            self._streams.expire(at_ns / NS_PER_SECOND)
        if at_ns - self._observed_ns >= _OBSERVE_NS:
            self._observed_ns = at_ns
            self._streams.observe(at_ns)

    def _count_gap(self, name: str, gap: Gap) -> None:
        self.status.streams[name].gaps += 1
        self._report("warning", f"{name}: gap after {gap.after_id}")


async def _sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    """Sleeps, or less where it is to stop."""
    if not seconds:
        await asyncio.sleep(0)
        return
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
