"""What raw objects there are of each instrument, table and day, and which of them are local.

A table of an instrument is one listing, whatever the number of its days.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from market_pipeline.config.instruments import Instrument
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable
from market_pipeline.sources.door import is_door
from market_pipeline.sources.shards import shard_versions
from market_pipeline.threads import Workers
from market_pipeline.warehouse.ledger import read_ledger

if TYPE_CHECKING:
    # Its library takes long to load, and a lake in a folder does without.
    from market_pipeline.store.client import Store
    from market_pipeline.store.objects import StoreObject

__all__ = [
    "RAW_TABLES",
    "DayObjects",
    "TableInventory",
    "day_ranges",
    "local_days",
    "range_text",
    "series_folder",
    "stored_days",
    "take_inventory",
]

RAW_TABLES = (DELTAS, SNAPSHOTS, TRADES)
_DAY_OBJECT = re.compile(r"dt=([0-9]{4}-[0-9]{2}-[0-9]{2})/([0-9]{1,9}\.snappy\.parquet)")
_DAY_FOLDER = re.compile(r"dt=(\d{4}-\d\d-\d\d)")


@dataclass(frozen=True, slots=True)
class DayObjects:
    """The raw objects of one day.

    Attributes:
        objects, bytes: Those that there are: at the store, or in the lake if that is a folder.
        local_objects, local_bytes: Those of them that are local, as far as size and ETag tell.
        only_local_objects, only_local_bytes: Local ones that the store does not have, or not so.
    """

    objects: int = 0
    bytes: int = 0
    local_objects: int = 0
    local_bytes: int = 0
    only_local_objects: int = 0
    only_local_bytes: int = 0

    @property
    def is_local(self) -> bool:
        """Whether there are objects and all of them are local."""
        return 0 < self.objects == self.local_objects


@dataclass(frozen=True, slots=True)
class TableInventory:
    """A raw table of an instrument.

    Attributes:
        instrument: Its id.
        raw_table: Name of the raw table, e.g. book_delta_v2.
        days: The days that have an object, at the store or only locally, in order.
        missing: The days of the range without any: the range asked for, or from the first to the
            last day that any table of the instrument has.
    """

    instrument: str
    raw_table: str
    days: Mapping[date, DayObjects]
    missing: Sequence[date]

    @property
    def objects(self) -> int:
        """How many objects there are."""
        return sum(day.objects for day in self.days.values())

    @property
    def bytes(self) -> int:
        """Their bytes."""
        return sum(day.bytes for day in self.days.values())

    @property
    def local_bytes(self) -> int:
        """The bytes of those that are local."""
        return sum(day.local_bytes for day in self.days.values())

    @property
    def held_days(self) -> list[date]:
        """The days that the store has, or the lake if it is a folder."""
        return [day for day, found in self.days.items() if found.objects]

    @property
    def local_days(self) -> list[date]:
        """The days of which every object is local."""
        return [day for day, found in self.days.items() if found.is_local]

    @property
    def only_local_days(self) -> list[date]:
        """The days of which something is local that the store does not have."""
        return [day for day, found in self.days.items() if found.only_local_objects]

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "instrument": self.instrument,
            "raw_table": self.raw_table,
            "objects": self.objects,
            "bytes": self.bytes,
            "local_bytes": self.local_bytes,
            "days": [
                {
                    "day": day.isoformat(),
                    "objects": found.objects,
                    "bytes": found.bytes,
                    "local_objects": found.local_objects,
                    "local_bytes": found.local_bytes,
                    "only_local_objects": found.only_local_objects,
                    "only_local_bytes": found.only_local_bytes,
                }
                for day, found in self.days.items()
            ],
            "missing": [day.isoformat() for day in self.missing],
        }


def take_inventory(
    lake: Path,
    store: Store | None,
    instruments: Sequence[Instrument],
    start: date | None = None,
    end: date | None = None,
    *,
    doors: Path | None = None,
    parallel: int = 1,
) -> list[TableInventory]:
    """The raw tables of the instruments, in the order given.

    Of an instrument whose source is a door, they are what the door made: local, and at no store.

    Args:
        lake: The folder of raw days: the lake itself, or where a store's objects are kept.
        store: Where the objects come from; None if the lake is the folder.
        instruments: Whose tables.
        start, end: The days to look at, both included; None is from the first, or to the last.
        doors: The folder of what doors made, a folder for each source; None is nowhere.
        parallel: How many listings may be under way at once.

    Raises:
        StoreError: The store cannot be listed.
    """

    def days_of(wanted: tuple[Instrument, RawTable]) -> dict[date, DayObjects]:
        instrument, raw = wanted
        series = series_folder(raw.name, instrument.venue, instrument.symbol)
        if not is_door(instrument.source):
            return _days_of(lake / series, store, series, start, end)
        made = None if doors is None else doors / instrument.source / series
        return {} if made is None else _days_of(made, None, series, start, end)

    with Workers(parallel, "list") as pool:
        found = list(pool.map(days_of, [(each, raw) for each in instruments for raw in RAW_TABLES]))
    tables = []
    for number, instrument in enumerate(instruments):
        own = found[number * len(RAW_TABLES) : (number + 1) * len(RAW_TABLES)]
        known = [day for days in own for day in days]
        first, last = start or min(known, default=None), end or max(known, default=None)
        span = [] if first is None or last is None else list(_days_between(first, last))
        tables += [
            TableInventory(instrument.id, raw.name, days, [day for day in span if day not in days])
            for raw, days in zip(RAW_TABLES, own, strict=True)
        ]
    return tables


def series_folder(table: str, exchange: str, symbol: str) -> str:
    """Where the days of a table and instrument lie, below a lake or a store's prefix."""
    return f"{table}/exchange={exchange}/symbol={symbol}/"


def stored_days(
    store: Store, folder: str, start: date | None = None, end: date | None = None
) -> dict[date, dict[str, StoreObject]]:
    """The objects of a table and instrument at the store by day and name, in one listing.

    Args:
        store: Where to look.
        folder: From `series_folder`.
        start, end: Only these days, both included; the listing stops after the last one.

    Raises:
        StoreError: The store cannot be listed.
    """
    days: dict[date, dict[str, StoreObject]] = {}
    # With its slash: SeaweedFS passes over a folder whose name without it is `start_after`.
    after = None if start is None else f"{folder}dt={start.isoformat()}/"
    for each in store.objects(folder, start_after=after):
        matched = _DAY_OBJECT.fullmatch(each.key.removeprefix(folder))
        day = None if matched is None else _day(matched[1])
        if matched is None or day is None:
            continue  # not of this layout, so no object of a day
        if end is not None and day > end:
            break
        days.setdefault(day, {})[matched[2]] = each
    return days


def local_days(folder: Path, start: date | None = None, end: date | None = None) -> list[date]:
    """The days below a local folder of a table and instrument that have a folder, in order."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    days = [_day(found[1]) for found in map(_DAY_FOLDER.fullmatch, names) if found]
    return sorted(
        day
        for day in days
        if day is not None and (start is None or day >= start) and (end is None or day <= end)
    )


def _days_of(
    folder: Path, store: Store | None, series: str, start: date | None, end: date | None
) -> dict[date, DayObjects]:
    here = {day: _local_files(folder / f"dt={day}") for day in local_days(folder, start, end)}
    if store is None:
        return {day: _all_local(files) for day, files in here.items() if files}
    there = stored_days(store, series, start, end)
    days = {
        day: _compared(there.get(day, {}), here.get(day, {})) for day in sorted({*there, *here})
    }
    return {day: found for day, found in days.items() if found != DayObjects()}


@dataclass(frozen=True, slots=True)
class _LocalFile:
    """A local file: its bytes, and the store's tag of them if that is known."""

    bytes: int
    etag: str | None

    def is_of(self, listed: StoreObject | None) -> bool:
        """Whether it is the listed object, as far as size and ETag tell."""
        if listed is None or listed.size != self.bytes:
            return False
        return self.etag is None or self.etag == listed.etag


def _local_files(folder: Path) -> dict[str, _LocalFile]:
    """The newest local files of a day that are part of it, by the names of their objects."""
    found = {}
    ledger = read_ledger(folder)
    for number, shard in shard_versions(folder).items():
        if not shard.is_gone:
            name = f"{number}.snappy.parquet"
            known = ledger.get(name)
            is_of_it = known is not None and known.file == shard.path.name
            etag = known.etag if known is not None and is_of_it else None
            found[name] = _LocalFile(shard.path.stat().st_size, etag)
    return found


def _all_local(files: Mapping[str, _LocalFile]) -> DayObjects:
    size = sum(file.bytes for file in files.values())
    return DayObjects(len(files), size, len(files), size)


def _compared(there: Mapping[str, StoreObject], here: Mapping[str, _LocalFile]) -> DayObjects:
    same = [file.bytes for name, file in here.items() if file.is_of(there.get(name))]
    total = sum(file.bytes for file in here.values())
    return DayObjects(
        objects=len(there),
        bytes=sum(each.size for each in there.values()),
        local_objects=len(same),
        local_bytes=sum(same),
        only_local_objects=len(here) - len(same),
        only_local_bytes=total - sum(same),
    )


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _days_between(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def day_ranges(days: Iterable[date]) -> list[tuple[date, date]]:
    """Consecutive days as ranges, both ends included, in order."""
    ordered = sorted(set(days))
    breaks = [
        number
        for number, (day, later) in enumerate(pairwise(ordered), 1)
        if later - day > timedelta(days=1)
    ]
    starts = [0, *breaks] if ordered else []
    ends = [*breaks, len(ordered)]
    return [(ordered[begin], ordered[end - 1]) for begin, end in zip(starts, ends, strict=False)]


def range_text(first: date, last: date) -> str:
    """A range as `2024-08-08`, `2024-08-01..08-31` or `2024-12-30..2025-01-02`."""
    if first == last:
        return first.isoformat()
    end = last.isoformat()
    return f"{first.isoformat()}..{end[5:] if first.year == last.year else end}"
