"""Lists what lies in a raw lake, in a folder or in an object store, one stream at a time.

A *stream* is one raw table of one instrument. Its keys are in the order of its days, so one listing
that starts at a day shows all that arrived since, and a year before it costs nothing. Where a
converter makes the raw tables, the stream is the vendor's files for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.security.stored import stored_stat
from market_pipeline.sources.crypto_lake import RAW_TABLES, RawTable
from market_pipeline.sources.raw_names import Series
from market_pipeline.sources.registry import converter_of, is_converter
from market_pipeline.stages.raw.days import FolderDays, RawFile, StoreDays

__all__ = ["RawLake", "Stream", "opened_lake", "streams_of"]


@dataclass(frozen=True, slots=True)
class Stream:
    """One raw table of one instrument, or what a converter makes all of them of (None)."""

    raw: RawTable | None
    instrument: Instrument

    @property
    def series(self) -> Series:
        """The raw table's; of a converter only a name."""
        table = f"{self.instrument.source}:" if self.raw is None else self.raw.name
        return Series(table, self.instrument.venue, self.instrument.symbol)


@dataclass(frozen=True, slots=True)
class RawLake:
    """Where raw days land.

    Attributes:
        lake: The folder of the files for converters, which are in no store.
        days: The raw days of all others.
    """

    lake: Path
    days: FolderDays | StoreDays

    def files(self, stream: Stream, since: date) -> Iterator[RawFile]:
        """The files of a stream from a day on, the earliest day first.

        Raises:
            InstrumentsError: The converter cannot be loaded.
            StoreError: The store refuses or cannot be reached.
        """
        if stream.raw is not None:
            yield from self.days.files(stream.series, since)
            return
        converter, day = converter_of(stream.instrument.source), since
        while day <= datetime.now(UTC).date():
            for file in converter.find(self.lake, stream.instrument, day):
                try:
                    size, changed_ns = stored_stat(file)
                except FileNotFoundError:
                    continue
                name = file.relative_to(self.lake).as_posix()
                # The bytes are part of the mark only, as a run registers no more than names.
                mark = f"{size}:{changed_ns}"
                yield RawFile(day, name, 0, mark, changed_ns / 1e9, file)
            day += timedelta(days=1)


@contextmanager
def opened_lake(settings: Settings) -> Iterator[RawLake]:
    """The lake that the settings name; a store is given up on sooner than by a download.

    Raises:
        StoreError: There are no usable credentials.
    """
    if settings.store_address is None:
        yield RawLake(settings.lake_path, FolderDays(settings.lake_path))
        return
    # Its library takes long to load, and a lake in a folder does without.
    from market_pipeline.store.client import open_store  # noqa: PLC0415
    from market_pipeline.store.objects import Patience  # noqa: PLC0415

    # Dagster ends a tick after a minute, and there is a next one.
    patience = Patience(attempts=2, connect_seconds=5.0, read_seconds=10.0)
    store = open_store(settings, patience=patience)
    assert store is not None
    with store:
        yield RawLake(settings.lake_path, StoreDays(store))


def streams_of(instruments: Sequence[Instrument]) -> list[Stream]:
    """The streams a day needs, in the same order whatever order the instruments are in."""
    ordered = sorted(instruments, key=lambda each: each.id)
    return [
        Stream(raw, each)
        for each in ordered
        for raw in ((None,) if is_converter(each.source) else RAW_TABLES)
    ]
