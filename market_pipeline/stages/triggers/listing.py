"""Lists what lies in a raw lake, in a folder or in an object store, one stream at a time.

A *stream* is one raw table of one instrument. Its keys are in the order of its days, so one listing
that starts at a day shows all that arrived since, and a year before it costs nothing. Where a
converter makes the raw tables, the stream is the vendor's files for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Protocol

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.sources.converter import converter_of, is_converter
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable, day_folder
from market_pipeline.sources.shards import live_shards
from market_pipeline.store.objects import StoreObject

__all__ = [
    "ArrivedFile",
    "FolderLake",
    "RawLake",
    "StoreLake",
    "Stream",
    "opened_lake",
    "streams_of",
]

# As `stages/raw/download.py` takes them.
_KEY = re.compile(r"dt=([0-9]{4}-[0-9]{2}-[0-9]{2})/[0-9]{1,9}\.snappy\.parquet")


@dataclass(frozen=True, slots=True)
class Stream:
    """One raw table of one instrument, or what a converter makes all of them of (None)."""

    raw: RawTable | None
    instrument: Instrument

    @property
    def folder(self) -> str:
        """Its folder below the lake, without a slash at the end; of a converter only a name."""
        table = f"{self.instrument.source}:" if self.raw is None else self.raw.name
        return f"{table}/exchange={self.instrument.venue}/symbol={self.instrument.symbol}"


class ArrivedFile(NamedTuple):
    """A shard of a stream.

    Attributes:
        day: Its day.
        name: Its path below the stream's folder.
        bytes: Its size.
        mark: What changes when its bytes do: the ETag, or the time of change in ns.
        changed_s: When it was last changed, Unix time.
    """

    day: date
    name: str
    bytes: int
    mark: str
    changed_s: float


class RawLake(Protocol):
    """A place that raw days land in."""

    def files(self, stream: Stream, since: date) -> Iterator[ArrivedFile]:
        """The shards of a stream from a day on, the earliest day first."""


class _Store(Protocol):
    def objects(self, prefix: str, start_after: str | None = None) -> Iterator[StoreObject]: ...


class FolderLake:
    """A lake in a local folder, and the files for converters in it."""

    def __init__(self, lake: Path) -> None:
        self._lake = lake

    def files(self, stream: Stream, since: date) -> Iterator[ArrivedFile]:
        """The shards of a stream from a day on; what is no day or no shard is passed over.

        Raises:
            InstrumentsError: The converter cannot be loaded.
        """
        if stream.raw is None:
            yield from self._files_for_converter(stream.instrument, since)
            return
        folder = self._lake / stream.folder
        venue, symbol = stream.instrument.venue, stream.instrument.symbol
        for day in sorted(_days_in(folder)):
            if day < since:
                continue
            # Of names that a run will refuse, too: it has to say so.
            for shard in live_shards(day_folder(self._lake, stream.raw, venue, symbol, day)):
                try:
                    stat = shard.stat()
                except FileNotFoundError:
                    continue  # taken back since the folder was read
                name = shard.relative_to(folder).as_posix()
                changed_s = stat.st_mtime_ns / 1e9
                yield ArrivedFile(day, name, stat.st_size, str(stat.st_mtime_ns), changed_s)

    def _files_for_converter(self, instrument: Instrument, since: date) -> Iterator[ArrivedFile]:
        """The vendor's files; their bytes are part of the mark, as a run registers only names."""
        converter, day = converter_of(instrument.source), since
        while day <= datetime.now(UTC).date():
            for file in converter.find(self._lake, instrument, day):
                try:
                    stat = file.stat()
                except FileNotFoundError:
                    continue
                name = file.relative_to(self._lake).as_posix()
                mark = f"{stat.st_size}:{stat.st_mtime_ns}"
                yield ArrivedFile(day, name, 0, mark, stat.st_mtime_ns / 1e9)
            day += timedelta(days=1)


def _days_in(folder: Path) -> Iterator[date]:
    for path in folder.glob("dt=*"):
        try:
            yield date.fromisoformat(path.name.removeprefix("dt="))
        except ValueError:
            continue


class StoreLake:
    """A lake in an object store, whose keys are counted from the lake's own prefix.

    Args:
        store: What can list it.
        local: Where the files for converters are, which are in no store.
    """

    def __init__(self, store: _Store, local: FolderLake) -> None:
        self._store = store
        self._local = local

    def files(self, stream: Stream, since: date) -> Iterator[ArrivedFile]:
        """The shards of a stream from a day on, one request for each thousand.

        Raises:
            StoreError: If the store refuses or cannot be reached.
        """
        if stream.raw is None:
            yield from self._local.files(stream, since)
            return
        prefix = f"{stream.folder}/"
        # Every key of that day and of later ones comes after its folder's name. The slash must be
        # there: SeaweedFS passes over a folder whose name without it is `start_after`.
        for found in self._store.objects(prefix, start_after=f"{prefix}dt={since}/"):
            name = found.key.removeprefix(prefix)
            day = _day_of_key(name)
            if day is not None:
                changed_s = found.last_modified.timestamp()
                yield ArrivedFile(day, name, found.size, found.etag, changed_s)


def _day_of_key(name: str) -> date | None:
    match = _KEY.fullmatch(name)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


@contextmanager
def opened_lake(settings: Settings) -> Iterator[RawLake]:
    """The lake that the settings name; a store is given up on sooner than by a download.

    Raises:
        StoreError: There are no usable credentials.
    """
    local = FolderLake(settings.lake_path)
    if settings.store_address is None:
        yield local
        return
    # Its library takes long to load, and a lake in a folder does without.
    from market_pipeline.store.client import open_store  # noqa: PLC0415
    from market_pipeline.store.objects import Patience  # noqa: PLC0415

    # Dagster ends a tick after a minute, and there is a next one.
    patience = Patience(attempts=2, connect_seconds=5.0, read_seconds=10.0)
    store = open_store(settings, patience=patience)
    assert store is not None
    with store:
        yield StoreLake(store, local)


def streams_of(instruments: Sequence[Instrument]) -> list[Stream]:
    """The streams a day needs, in the same order whatever order the instruments are in."""
    ordered = sorted(instruments, key=lambda each: each.id)
    return [
        Stream(raw, each)
        for each in ordered
        for raw in ((None,) if is_converter(each.source) else (DELTAS, SNAPSHOTS, TRADES))
    ]
