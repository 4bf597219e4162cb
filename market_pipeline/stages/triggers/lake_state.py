"""What has arrived in a lake: its days, found by listing as little of it as possible.

A *look* is the listing of one stream from a day on (`stages/triggers/listing.py`). A *full round*
is a look at every stream, a *part round* one at those that lack an open day; either may be spread
over many ticks of a sensor. A `LakeState` is all that is known between two ticks, and it is a few
bytes for each day, however many instruments there are. `stages/triggers/run_requests.py` says what
of it is to be run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from market_pipeline.errors import MarketPipelineError
from market_pipeline.stages.raw.days import RawFile
from market_pipeline.stages.triggers.listing import RawLake, Stream

__all__ = [
    "FOLDER_PACE",
    "STORE_PACE",
    "ArrivedDay",
    "LakeState",
    "Pace",
    "Scan",
    "Span",
    "fingerprint_of",
    "stream_digest",
]

_FORMAT = 1
_DIGEST_BYTES = 8
_REMEMBERED_DIGITS = 8
# A day in which something changed so lately is open: its other files may be on their way.
_OPEN_SECONDS = 3_600
# So many times as long as a full round took it takes until the next, unless it was a quick one.
_REST, _QUICK_SECONDS = 20, 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how much is looked.

    Attributes:
        looks: The most looks of one tick; None for no limit.
        tick_seconds: After so long a tick begins no further look.
        full_seconds: From the begin of a full round to that of the next, at least. It is more where
            looking takes long: a full round takes no more than a twentieth of the time.
        part_seconds: From the begin of a round to that of a part round, for the streams that lack
            an open day: yesterday, and each day that something arrived of in the last hour.
        settle_seconds: So long a file must have been unchanged to count.
        quiet_seconds: So long nothing of a day may have changed that is due but not whole.
    """

    looks: int | None
    tick_seconds: float
    full_seconds: float
    part_seconds: float
    settle_seconds: float
    quiet_seconds: float


FOLDER_PACE = Pace(
    looks=None,
    tick_seconds=20,
    full_seconds=0,
    part_seconds=0,
    settle_seconds=60,
    quiet_seconds=60,
)
"""All of it with every tick, if that is quick, and else the open days with every tick."""

STORE_PACE = Pace(
    looks=100,
    tick_seconds=20,
    full_seconds=3_600,
    part_seconds=300,
    settle_seconds=60,
    quiet_seconds=900,
)
"""All streams once an hour, and every five minutes those that lack an open day."""


@dataclass(frozen=True, slots=True)
class Span:
    """The days that are watched, from `first` to the one before `before`, and when each is due.

    Attributes:
        first: The first day.
        before: The day under way, which is not over and therefore not watched.
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
class Scan:
    """What one tick did: its looks, and the error that ended it early, if one did."""

    looks: int
    error: MarketPipelineError | None = None


@dataclass(slots=True)
class _Seen:
    """What was seen of a day: the sum of its digests, a bit for each stream, its latest change.

    A sum, because streams may be seen in any order, and a tick sees only some of them.
    """

    digest: int = 0
    streams: int = 0
    newest_s: int = 0
    files: int = 0
    bytes: int = 0


@dataclass(slots=True)
class LakeState:
    """What is known of a lake, and how far the round under way is.

    Attributes:
        requested: Of each day in the span, the first digits of the fingerprint last asked for.
    """

    requested: dict[date, str] = field(default_factory=dict)
    _of: str = ""
    _days: dict[date, _Seen] = field(default_factory=dict)
    _todo: int = 0
    _open: list[date] | None = None  # the days of a part round; None in a full one
    _full_s: float = 0.0
    _round_s: float = 0.0
    _full_took_s: float = 0.0

    @property
    def left(self) -> int:
        """How many streams the round under way has still to look at."""
        return self._todo.bit_count()

    @property
    def looked_since_s(self) -> float:
        """When the last full round began, Unix time: what is known may be as old."""
        return self._full_s

    def note(self, arrived: ArrivedDay) -> None:
        """Remember that a day was asked for, or run by somebody, as it is now."""
        self.requested[arrived.day] = arrived.fingerprint[:_REMEMBERED_DIGITS]

    def forget(self, day: date) -> None:
        """A run of the day is under way that may see it as it is now, or as it was asked for."""
        self.requested.pop(day, None)

    # --- looking ------------------------------------------------------------------------------

    def go_on(
        self,
        lake: RawLake,
        streams: Sequence[Stream],
        span: Span,
        pace: Pace,
        now_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> Scan:
        """Go on with the round under way, or begin one if it is due.

        Args:
            lake: Where to look.
            streams: Those a whole day has, from `streams_of`; of others nothing is known any more.
            span: The days to look for.
            pace: How much, and how often.
            now_s: Unix time.
            clock: Seconds that only ever grow.

        Raises:
            MarketPipelineError: If the first look fails. A later one that fails ends the tick, and
                the next tick begins with that stream.
        """
        self._enter(streams, span)
        if not self._todo:
            self._begin_round((1 << len(streams)) - 1, span, pace, now_s)
        begin, looks, error = clock(), 0, None
        for number, stream in enumerate(streams):
            bit = 1 << number
            if not self._todo & bit:
                continue
            if looks == pace.looks or clock() - begin >= pace.tick_seconds:
                break
            try:
                self._look(lake, stream, bit, span, now_s - pace.settle_seconds)
            except MarketPipelineError as failed:
                if not looks:
                    raise
                error = failed
                break
            looks += 1
        if self._open is None:
            self._full_took_s += clock() - begin
        return Scan(looks, error)

    def _enter(self, streams: Sequence[Stream], span: Span) -> None:
        """Forget days that are not watched any more, and everything if the streams are others."""
        of = _digest([stream.series.folder for stream in streams])
        if of != self._of:
            self._of, self._days, self._todo, self._full_s = of, {}, 0, 0.0
            self.requested = {}
        self._days = {day: seen for day, seen in self._days.items() if day in span}
        self.requested = {day: mark for day, mark in self.requested.items() if day in span}

    def _begin_round(self, every: int, span: Span, pace: Pace, now_s: float) -> None:
        """Begin a round if one is due; `every` has the bit of each stream."""
        rest_s = _REST * self._full_took_s if self._full_took_s >= _QUICK_SECONDS else 0.0
        if now_s - self._full_s >= max(pace.full_seconds, rest_s):
            self._days, self._todo, self._open = {}, every, None
            self._full_s = self._round_s = now_s
            self._full_took_s = 0.0
        elif now_s - self._round_s >= pace.part_seconds:
            self._open = [
                day
                for day in sorted({span.newest, *self._days})
                if day in span and self._is_open(day, span, now_s)
            ]
            for day in self._open:
                self._todo |= every & ~self._days.get(day, _Seen()).streams
            self._round_s = now_s

    def _is_open(self, day: date, span: Span, now_s: float) -> bool:
        return day == span.newest or now_s - self._days[day].newest_s < _OPEN_SECONDS

    def _look(self, lake: RawLake, stream: Stream, bit: int, span: Span, settled_s: float) -> None:
        """Look at one stream; nothing is noted of it if that fails."""
        by_day: dict[date, list[RawFile]] = {}
        days = None if self._open is None else set(self._open)
        for file in lake.files(stream, min(days) if days else span.first):
            if file.day >= span.before:
                break
            if days is None or file.day in days:
                by_day.setdefault(file.day, []).append(file)
        for day, files in by_day.items():
            seen = self._days.setdefault(day, _Seen())
            if seen.streams & bit:
                continue
            newest_s = max(file.changed_s for file in files)
            seen.newest_s = max(seen.newest_s, int(newest_s))
            # What may still be growing is no part of the day yet, but keeps it from being run.
            if newest_s <= settled_s:
                seen.streams |= bit
                marks = [(file.name, file.bytes, file.mark) for file in files]
                seen.digest = (seen.digest + stream_digest(stream.series.folder, marks)) % 2**64
                seen.files += len(files)
                seen.bytes += sum(file.bytes for file in files)
        self._todo &= ~bit

    # --- what follows -------------------------------------------------------------------------

    def arrived(
        self, streams: Sequence[Stream], span: Span, pace: Pace, now_s: float
    ) -> list[ArrivedDay]:
        """The days that can be run and were not asked for as they are now, the earliest first.

        A day can be run when every stream has files of it that have settled. Once it is due, what
        is there is enough, when nothing more has come for `quiet_seconds`. While a round is under
        way there are none, because it may be about to see more of a day.
        """
        if self._todo:
            return []
        found = []
        for day, seen in sorted(self._days.items()):
            count = seen.streams.bit_count()
            whole = count == len(streams)
            enough = whole or (count > 0 and now_s >= span.due_s(day))
            wait_seconds = pace.settle_seconds if whole else pace.quiet_seconds
            if enough and now_s - seen.newest_s >= wait_seconds:
                fingerprint = fingerprint_of(seen.digest)
                if self.requested.get(day) != fingerprint[:_REMEMBERED_DIGITS]:
                    arrived = ArrivedDay(day, fingerprint, seen.newest_s, seen.files, seen.bytes)
                    found.append(arrived)
        return found

    # --- as text ------------------------------------------------------------------------------

    def to_text(self, span: Span) -> str:
        """What the next tick has to know as text, and little: Dagster stores it with each tick."""
        known = {
            "format": _FORMAT,
            "of": self._of,
            "requested": {day.isoformat(): mark for day, mark in self.requested.items()},
            "days": {
                day.isoformat(): [
                    fingerprint_of(seen.digest),
                    f"{seen.streams:x}",
                    seen.newest_s,
                    seen.files,
                    seen.bytes,
                ]
                for day, seen in self._days.items()
                if self._todo or self._is_needed(day, seen, span)
            },
            "todo": f"{self._todo:x}",
            "open": None if self._open is None else [day.isoformat() for day in self._open],
            "full_s": self._full_s,
            "round_s": self._round_s,
            "full_took_s": round(self._full_took_s, 3),
        }
        packed = zlib.compress(json.dumps(known, separators=(",", ":")).encode(), 9)
        return base64.b64encode(packed).decode()

    def _is_needed(self, day: date, seen: _Seen, span: Span) -> bool:
        """Whether a day may be asked for, or looked at, before the next full round."""
        asked_for = self.requested.get(day) == fingerprint_of(seen.digest)[:_REMEMBERED_DIGITS]
        return not asked_for or self._is_open(day, span, self._round_s)

    @classmethod
    def from_text(cls, text: str | None) -> LakeState:
        """The watch that `to_text` wrote; a new one for no text, or one of another format."""
        try:
            known = json.loads(zlib.decompress(base64.b64decode(text or "", validate=True)))
        except (ValueError, zlib.error):
            return cls()
        if known["format"] != _FORMAT:
            return cls()
        return cls(
            requested={date.fromisoformat(day): mark for day, mark in known["requested"].items()},
            _of=known["of"],
            _days={
                date.fromisoformat(day): _Seen(int(digest, 16), int(streams, 16), *figures)
                for day, (digest, streams, *figures) in known["days"].items()
            },
            _todo=int(known["todo"], 16),
            _open=known["open"] and [date.fromisoformat(day) for day in known["open"]],
            _full_s=known["full_s"],
            _round_s=known["round_s"],
            _full_took_s=known["full_took_s"],
        )


def _digest(value: object) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def stream_digest(folder: str, files: Iterable[tuple[str, int, str]]) -> int:
    """What follows from a stream's folder and its files of a day: name, bytes and mark of each."""
    return int(_digest([folder, sorted(files)]), 16)


def fingerprint_of(digests: int) -> str:
    """The fingerprint of a day from the sum of its streams' digests."""
    return f"{digests % 2**64:016x}"
