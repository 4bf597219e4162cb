"""What has arrived in a lake: its days, found by listing as little of it as possible.

A *listing* is that of one stream from a day on (`stages/triggers/listing.py`). A *full scan* lists
every stream, a *partial scan* those that lack an open day; either may be spread over many ticks of
a sensor. A `LakeState` is all that is known between two ticks, and it is a few bytes for each day,
however many instruments there are. `stages/triggers/run_requests.py` says what of it is to be run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import msgspec

from market_pipeline.errors import MarketPipelineError
from market_pipeline.stages.raw.days import RawFile
from market_pipeline.stages.triggers.listing import RawLake, Stream

__all__ = [
    "FOLDER_PACE",
    "STORE_PACE",
    "ArrivedDay",
    "LakeState",
    "Pace",
    "Span",
    "Tick",
    "fingerprint_of",
    "stream_digest",
]

_FORMAT = 2
_DIGEST_BYTES = 8
_REMEMBERED_DIGITS = 8
# A day in which something changed so lately is open: its other files may be on their way.
_OPEN_SECONDS = 3_600
# So many times as long as a full scan took it takes until the next, unless it was a quick one.
_REST, _QUICK_SECONDS = 20, 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how much is listed.

    Attributes:
        listings: The most listings of one tick; None for no limit.
        tick_seconds: After so long a tick begins no further listing.
        full_seconds: From the begin of a full scan to that of the next, at least. It is more where
            listing takes long: full scans take no more than a twentieth of the time.
        partial_seconds: From the begin of a scan to that of a partial one, for the streams that
            lack an open day: yesterday, and each day that something arrived of in the last hour.
        settle_seconds: So long a file must have been unchanged to count.
        quiet_seconds: So long nothing of a day may have changed that is due but not whole.
    """

    listings: int | None
    tick_seconds: float
    full_seconds: float
    partial_seconds: float
    settle_seconds: float
    quiet_seconds: float


FOLDER_PACE = Pace(
    listings=None,
    tick_seconds=20,
    full_seconds=0,
    partial_seconds=0,
    settle_seconds=60,
    quiet_seconds=60,
)
"""All of it with every tick, if that is quick, and else the open days with every tick."""

STORE_PACE = Pace(
    listings=100,
    tick_seconds=20,
    full_seconds=3_600,
    partial_seconds=300,
    settle_seconds=60,
    quiet_seconds=900,
)
"""All streams once an hour, and every five minutes those that lack an open day."""


@dataclass(frozen=True, slots=True)
class Span:
    """The days to list, from `first` to the one before `before`, and when each is due.

    Attributes:
        first: The first day.
        before: The day under way, which is not over and therefore not listed.
        lag_hours: Hours from the end of a day until its files are due.
    """

    first: date
    before: date
    lag_hours: float

    @property
    def newest(self) -> date:
        """The last day that is over."""
        return self.before - timedelta(days=1)

    def __contains__(self, day: date) -> bool:
        return self.first <= day < self.before

    def due_s(self, day: date) -> float:
        """When a day's files are due, Unix time."""
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return (begin + timedelta(days=1, hours=self.lag_hours)).timestamp()


class ArrivedDay(NamedTuple):
    """A day that can be run.

    Attributes:
        day: Which.
        fingerprint: 16 hexadecimal digits that follow from names, sizes and marks alone.
        newest_s: When the latest of its files changed, Unix time.
        files, bytes: How many files it has, and their bytes; those for converters count as none.
    """

    day: date
    fingerprint: str
    newest_s: int
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Tick:
    """What one tick did: its listings, and the error that ended it early, if one did."""

    listings: int
    error: MarketPipelineError | None = None


class _Day(msgspec.Struct, array_like=True):
    """What was listed of a day: the sum of its digests, its streams, its latest change.

    A sum, because streams may be listed in any order, and a tick lists only some of them. Streams
    are a bit each, in hexadecimal, because JSON of long decimal numbers has a limit.
    """

    digest: int = 0
    streams: str = "0"
    newest_s: int = 0
    files: int = 0
    bytes: int = 0

    @property
    def bits(self) -> int:
        """A bit for each stream."""
        return int(self.streams, 16)


class LakeState(msgspec.Struct, tag_field="format", tag=_FORMAT):
    """What is known of a lake, and how far the scan under way is.

    Attributes:
        requested: Of each day in the span, the first digits of the fingerprint last requested.
        streams: A digest of the streams that this is about.
        days: What was listed of each day.
        todo: A bit for each stream that the scan under way has still to list, in hexadecimal.
        open: The days of a partial scan; None in a full one.
        full_s, full_took_s: When the last full scan began, Unix time, which is how old what is
            known may be; and how long it took.
        scan_s: When the last scan began.
    """

    requested: dict[date, str] = {}
    streams: str = ""
    days: dict[date, _Day] = {}
    todo: str = "0"
    open: list[date] | None = None
    full_s: float = 0.0
    full_took_s: float = 0.0
    scan_s: float = 0.0

    @property
    def left(self) -> int:
        """How many streams the scan under way has still to list."""
        return int(self.todo, 16).bit_count()

    def note(self, arrived: ArrivedDay) -> None:
        """Remember that a day was requested, or run by somebody, as it is now."""
        self.requested[arrived.day] = arrived.fingerprint[:_REMEMBERED_DIGITS]

    def forget(self, day: date) -> None:
        """A run of the day is under way that may see it as it is now, or as it was requested."""
        self.requested.pop(day, None)

    # --- scanning -----------------------------------------------------------------------------

    def scan(
        self,
        lake: RawLake,
        streams: Sequence[Stream],
        span: Span,
        pace: Pace,
        now_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> Tick:
        """Resume the scan under way, or begin one if it is due.

        Args:
            lake: What to list.
            streams: Those a whole day has, from `streams_of`, of instruments that are listed on it;
                of others nothing is known any more.
            span: The days to list.
            pace: How much, and how often.
            now_s: Unix time.
            clock: Seconds that only ever grow.

        Raises:
            MarketPipelineError: If the first listing fails. A later one that fails ends the tick,
                and the next tick begins with that stream.
        """
        self._enter(streams, span)
        if not self.left:
            self._begin(streams, span, pace, now_s)
        begin, listings, error = clock(), 0, None
        for number, stream in enumerate(streams):
            bit = 1 << number
            if not int(self.todo, 16) & bit:
                continue
            if listings == pace.listings or clock() - begin >= pace.tick_seconds:
                break
            try:
                self._list(lake, stream, bit, span, now_s - pace.settle_seconds)
            except MarketPipelineError as failed:
                if not listings:
                    raise
                error = failed
                break
            listings += 1
        if self.open is None:
            self.full_took_s = round(self.full_took_s + clock() - begin, 3)
        return Tick(listings, error)

    def _enter(self, streams: Sequence[Stream], span: Span) -> None:
        """Forget days outside the span, and everything if the streams are others."""
        own = _digest(
            [
                [each.series.folder, str(each.instrument.listed), str(each.instrument.delisted)]
                for each in streams
            ]
        )
        if own != self.streams:
            self.streams, self.days, self.todo, self.full_s = own, {}, "0", 0.0
            self.requested = {}
        self.days = {day: known for day, known in self.days.items() if day in span}
        self.requested = {day: mark for day, mark in self.requested.items() if day in span}

    def _begin(self, streams: Sequence[Stream], span: Span, pace: Pace, now_s: float) -> None:
        """Begin a scan if one is due."""
        rest_s = _REST * self.full_took_s if self.full_took_s >= _QUICK_SECONDS else 0.0
        if now_s - self.full_s >= max(pace.full_seconds, rest_s):
            self.days, self.todo, self.open = {}, f"{(1 << len(streams)) - 1:x}", None
            self.full_s = self.scan_s = now_s
            self.full_took_s = 0.0
        elif now_s - self.scan_s >= pace.partial_seconds:
            self.open = [
                day
                for day in sorted({span.newest, *self.days})
                if day in span and self._is_open(day, span, now_s)
            ]
            todo, expected = 0, _expected(streams)
            for day in self.open:
                todo |= expected(day) & ~self.days.get(day, _Day()).bits
            self.todo, self.scan_s = f"{todo:x}", now_s

    def _is_open(self, day: date, span: Span, now_s: float) -> bool:
        return day == span.newest or now_s - self.days[day].newest_s < _OPEN_SECONDS

    def _list(self, lake: RawLake, stream: Stream, bit: int, span: Span, settled_s: float) -> None:
        """List one stream; nothing is noted of it if that fails."""
        listed: dict[date, list[RawFile]] = {}
        days = None if self.open is None else set(self.open)
        for file in lake.files(stream, min(days) if days else span.first):
            if file.day >= span.before:
                break
            if days is None or file.day in days:
                listed.setdefault(file.day, []).append(file)
        for day, files in listed.items():
            if not stream.instrument.is_listed_on(day):
                continue
            known = self.days.setdefault(day, _Day())
            if known.bits & bit:
                continue
            newest_s = max(file.changed_s for file in files)
            known.newest_s = max(known.newest_s, int(newest_s))
            # What may still be growing is no part of the day yet, but delays its run.
            if newest_s <= settled_s:
                known.streams = f"{known.bits | bit:x}"
                marks = [(file.name, file.bytes, file.mark) for file in files]
                digest = stream_digest(stream.series.folder, marks)
                known.digest = (known.digest + digest) % 2**64
                known.files += len(files)
                known.bytes += sum(file.bytes for file in files)
        self.todo = f"{int(self.todo, 16) & ~bit:x}"

    # --- what follows -------------------------------------------------------------------------

    def arrived(
        self, streams: Sequence[Stream], span: Span, pace: Pace, now_s: float
    ) -> list[ArrivedDay]:
        """The days that can be run and were not requested as they are now, the earliest first.

        A day can be run when every stream has files of it that have settled. Once it is due, what
        is there is enough, when nothing more has come for `quiet_seconds`. While a scan is under
        way there are none, because it may be about to list more of a day.
        """
        found: list[ArrivedDay] = []
        expected = _expected(streams)
        for day, known in sorted({} if self.left else self.days.items()):
            count = known.bits.bit_count()
            whole = known.bits == expected(day)
            enough = whole or (count > 0 and now_s >= span.due_s(day))
            wait_seconds = pace.settle_seconds if whole else pace.quiet_seconds
            if enough and now_s - known.newest_s >= wait_seconds and not self._is_noted(day, known):
                fingerprint = fingerprint_of(known.digest)
                found.append(ArrivedDay(day, fingerprint, known.newest_s, known.files, known.bytes))
        return found

    def _is_noted(self, day: date, known: _Day) -> bool:
        return self.requested.get(day) == fingerprint_of(known.digest)[:_REMEMBERED_DIGITS]

    # --- as text ------------------------------------------------------------------------------

    def to_text(self, span: Span) -> str:
        """What the next tick has to know as text, and little: Dagster stores it with each tick.

        Days that can neither be requested nor be open before the next full scan are left out.
        """
        days = {
            day: known
            for day, known in self.days.items()
            if self.left or not self._is_noted(day, known) or self._is_open(day, span, self.scan_s)
        }
        text = msgspec.json.encode(msgspec.structs.replace(self, days=days))
        return base64.b64encode(zlib.compress(text, 9)).decode()

    @classmethod
    def from_text(cls, text: str | None) -> LakeState:
        """The state that `to_text` wrote; a new one for no text, or one of another format."""
        try:
            packed = base64.b64decode(text or "", validate=True)
            return _state.decode(zlib.decompress(packed))
        except (ValueError, zlib.error):
            return cls()


_state = msgspec.json.Decoder(LakeState)


def _expected(streams: Sequence[Stream]) -> Callable[[date], int]:
    """What gives the bits of the streams whose instruments are listed on a day."""
    every = (1 << len(streams)) - 1
    not_always = [
        (1 << number, each.instrument)
        for number, each in enumerate(streams)
        if each.instrument.listed or each.instrument.delisted
    ]

    def on(day: date) -> int:
        return every & ~sum(bit for bit, each in not_always if not each.is_listed_on(day))

    return on


def _digest(value: object) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def stream_digest(folder: str, files: Iterable[tuple[str, int, str]]) -> int:
    """What follows from a stream's folder and its files of a day: name, bytes and mark of each."""
    return int(_digest([folder, sorted(files)]), 16)


def fingerprint_of(digests: int) -> str:
    """The fingerprint of a day from the sum of its streams' digests."""
    return f"{digests % 2**64:016x}"
