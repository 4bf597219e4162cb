"""Lakes that exist in memory only, for tests of what arrived."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zlib import crc32

from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import StoreError
from market_pipeline.stages.raw.days import RawFile, StoreDays
from market_pipeline.stages.triggers.lake_state import fingerprint_of, stream_digest
from market_pipeline.stages.triggers.listing import RawLake, Stream, streams_of
from market_pipeline.stages.triggers.run_requests import Registered
from market_pipeline.store.objects import StoreObject

PAGE_KEYS = 1_000
SHARD = "1.snappy.parquet"
_OUT_OF_REACH = StoreError("out of reach", kind="unavailable", next_step="Wait.", uri="s3://lake")


def instruments_named(count: int) -> list[Instrument]:
    """So many instruments."""
    return [
        Instrument(venue="BINANCE", symbol=f"S{number:03}-USDT", source="crypto_lake")
        for number in range(count)
    ]


def at(day: date, hours: float = 0.0) -> float:
    """Unix time so many hours after a day began."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + hours * 3_600


class CountingStore:
    """Lists keys in pages, as S3 does, and counts the requests.

    `objects` is what `Store.objects` is. A page is made when it is asked for.
    """

    def __init__(self, objects: Sequence[StoreObject] = ()) -> None:
        self._objects = sorted(objects, key=lambda each: each.key)
        self.requests = 0
        self.keys = 0
        self.broken_after: int | None = None

    def objects(self, prefix: str, start_after: str | None = None) -> Iterator[StoreObject]:
        found = iter(self.listed(prefix, start_after))
        while True:
            self.requests += 1
            if self.broken_after is not None and self.requests > self.broken_after:
                raise _OUT_OF_REACH
            page = [each for _, each in zip(range(PAGE_KEYS), found, strict=False)]
            self.keys += len(page)
            yield from page
            if len(page) < PAGE_KEYS:
                return

    def listed(self, prefix: str, start_after: str | None) -> Iterator[StoreObject]:
        """All that a listing shows, whatever the pages."""
        keys = [each.key for each in self._objects]
        first = bisect_right(keys, start_after or "")
        return (each for each in self._objects[first:] if each.key.startswith(prefix))


class YearInStore(CountingStore):
    """A store that has a shard of each of many days in every folder; its keys are made up."""

    def __init__(self, first: date, days: int) -> None:
        super().__init__()
        self._days = [first + timedelta(days=count) for count in range(days)]

    def listed(self, prefix: str, start_after: str | None) -> Iterator[StoreObject]:
        since = (start_after or "").removeprefix(f"{prefix}dt=").removesuffix("/")
        for day in self._days[bisect_left(self._days, since, key=date.isoformat) :]:
            key = f"{prefix}dt={day}/{SHARD}"
            stored = datetime.fromtimestamp(at(day, 27), UTC)
            yield StoreObject(key, 1_000_000, f"{crc32(key.encode()):032x}", stored)

    def add(self, day: date) -> None:
        """One more day lands, in every folder."""
        self._days.append(day)


def in_store(store: CountingStore) -> RawLake:
    """The lake in a store, with no file for converters beside it."""
    return RawLake(Path("absent"), StoreDays(store))


class MemoryLake:
    """A lake whose files are put and taken away at a given time."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, date], dict[str, RawFile]] = {}
        self.listings = 0
        self.broken_after: int | None = None

    def land(
        self,
        stream: Stream,
        day: date,
        changed_s: float,
        *,
        mark: str = "a",
        size: int = 4,
        name: str = SHARD,
    ) -> None:
        """A file is there, or is another one."""
        path = f"dt={day}/{name}"
        file = RawFile(day, path, size, mark, changed_s)
        self._files.setdefault((stream.series.folder, day), {})[path] = file

    def remove(self, stream: Stream, day: date, name: str = SHARD) -> None:
        """A file is not there any more, if it was."""
        self._files.get((stream.series.folder, day), {}).pop(f"dt={day}/{name}", None)

    def files(self, stream: Stream, since: date) -> Iterator[RawFile]:
        self.listings += 1
        if self.broken_after is not None and self.listings > self.broken_after:
            raise _OUT_OF_REACH
        for folder, day in sorted(self._files):
            if folder == stream.series.folder and day >= since:
                yield from list(self._files[folder, day].values())

    def as_a_run_sees_it(self, streams: Sequence[Stream], day: date) -> Registered:
        """What a run would register of a day now."""
        digests, found = 0, []
        for stream in streams:
            files = list(self._files.get((stream.series.folder, day), {}).values())
            if files:
                told = [(each.name, each.bytes, each.mark) for each in files]
                digests += stream_digest(stream.series.folder, told)
                found += files
        return Registered(fingerprint_of(digests), len(found), sum(each.bytes for each in found))


STREAMS = streams_of(instruments_named(2))
"""Those of two instruments, three each."""
