"""What raw objects there are of each instrument, table and day, and which of them are local.

A table of an instrument is one listing, whatever the number of its days.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.values import JsonValue
from market_pipeline.sources.crypto_lake import RAW_TABLES, RawTable
from market_pipeline.sources.crypto_lake_contracts import OPTIONAL_TABLES
from market_pipeline.sources.raw_names import Series
from market_pipeline.sources.registry import is_converter
from market_pipeline.stages.raw.days import FolderDays, RawFile, StoreDays, by_day, same_files
from market_pipeline.threads import Workers

if TYPE_CHECKING:
    # Its library takes long to load, and a lake in a folder does without.
    from market_pipeline.store.client import Store

__all__ = ["DayObjects", "TableInventory", "take_inventory"]


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
            last day that any table of the instrument has. Of an optional table nothing is missing,
            and of no table a day on which the instrument is not listed.
        not_listed: The days that have an object though the instrument is not listed on them.
    """

    instrument: str
    raw_table: str
    days: Mapping[date, DayObjects]
    missing: Sequence[date]
    not_listed: Sequence[date] = ()

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
    def listed_days(self) -> list[date]:
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

    def as_json(self) -> dict[str, JsonValue]:
        """All of it as JSON values."""
        return {
            "instrument": self.instrument,
            "raw_table": self.raw_table,
            "objects": self.objects,
            "bytes": self.bytes,
            "local_bytes": self.local_bytes,
            "days": [{"day": day.isoformat()} | asdict(found) for day, found in self.days.items()],
            "missing": [day.isoformat() for day in self.missing],
            "not_listed": [day.isoformat() for day in self.not_listed],
        }


def take_inventory(
    lake: Path,
    store: Store | None,
    instruments: Sequence[Instrument],
    start: date | None = None,
    end: date | None = None,
    *,
    converted: Path | None = None,
    parallel: int = 1,
) -> list[TableInventory]:
    """The raw tables of the instruments, in the order given; optional ones that have any day.

    Of an instrument whose source is a converter, they are what the converter made: local, and at no
    store.

    Args:
        lake: The folder of raw days: the lake itself, or where a store's objects are kept.
        store: Where the objects come from; None if the lake is the folder.
        instruments: Whose tables.
        start, end: The days to list, both included; None is from the first, or to the last.
        converted: The folder of what converters made, a folder for each source; None is nowhere.
        parallel: How many listings may be under way at once.

    Raises:
        StoreError: The store cannot be listed.
    """

    def days_of(table: tuple[Instrument, RawTable]) -> dict[date, DayObjects]:
        instrument, raw = table
        series = Series(raw.name, instrument.venue, instrument.symbol)
        if not is_converter(instrument.source):
            return _days_of(lake, store, series, start, end)
        made = None if converted is None else converted / instrument.source
        return {} if made is None else _days_of(made, None, series, start, end)

    listed = (*RAW_TABLES, *OPTIONAL_TABLES)
    with Workers(parallel, "list") as pool:
        found = list(pool.map(days_of, [(each, raw) for each in instruments for raw in listed]))
    tables = []
    for number, instrument in enumerate(instruments):
        own = found[number * len(listed) : (number + 1) * len(listed)]
        known = [day for days in own for day in days]
        first, last = start or min(known, default=None), end or max(known, default=None)
        span = [] if first is None or last is None else list(_days_between(first, last))
        tables += [
            _table_of(instrument, raw, days, span if raw in RAW_TABLES else [])
            for raw, days in zip(listed, own, strict=True)
            if days or raw in RAW_TABLES
        ]
    return tables


def _table_of(
    instrument: Instrument, raw: RawTable, days: Mapping[date, DayObjects], span: Iterable[date]
) -> TableInventory:
    return TableInventory(
        instrument.id,
        raw.name,
        days,
        missing=[day for day in span if day not in days and instrument.is_listed_on(day)],
        not_listed=[day for day in days if not instrument.is_listed_on(day)],
    )


def _days_of(
    root: Path, store: Store | None, series: Series, start: date | None, end: date | None
) -> dict[date, DayObjects]:
    here = by_day(FolderDays(root).files(series, start), end)
    if store is None:
        return {day: _all_local(files.values()) for day, files in here.items()}
    there = by_day(StoreDays(store).files(series, start), end)
    return {
        day: _compared(there.get(day, {}), here.get(day, {})) for day in sorted({*there, *here})
    }


def _all_local(files: Collection[RawFile]) -> DayObjects:
    size = sum(file.bytes for file in files)
    return DayObjects(len(files), size, len(files), size)


def _compared(there: Mapping[str, RawFile], here: Mapping[str, RawFile]) -> DayObjects:
    local = _all_local(same_files(here, there))
    own, listed = _all_local(here.values()), _all_local(there.values())
    return DayObjects(
        objects=listed.objects,
        bytes=listed.bytes,
        local_objects=local.objects,
        local_bytes=local.bytes,
        only_local_objects=own.objects - local.objects,
        only_local_bytes=own.bytes - local.bytes,
    )


def _days_between(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)
