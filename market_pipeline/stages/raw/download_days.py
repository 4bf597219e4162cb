"""Fetches many days of many raw tables at once, one after the other where the limit says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import LakeFileError, SealError, StoreError
from market_pipeline.security.ring import KeyRing
from market_pipeline.sources.crypto_lake import RAW_TABLES, RawTable
from market_pipeline.sources.crypto_lake_contracts import OPTIONAL_TABLES
from market_pipeline.stages.raw.download import fetch_table
from market_pipeline.stages.raw.fetched import FetchedObject, FetchProgress
from market_pipeline.stages.raw.inventory import TableInventory
from market_pipeline.threads import Workers

if TYPE_CHECKING:
    from market_pipeline.store.client import Store

__all__ = ["FetchedDay", "TableDay", "fetch_days", "to_fetch"]

_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class TableDay:
    """A day of a raw table of an instrument."""

    instrument: Instrument
    raw: RawTable
    day: date


@dataclass(frozen=True, slots=True)
class FetchedDay:
    """What became of the objects of a day; `failure` says why none could be fetched."""

    of: TableDay
    objects: Sequence[FetchedObject]
    failure: StoreError | LakeFileError | SealError | None = None

    @property
    def is_there(self) -> bool:
        """Whether all of it is local now."""
        left = {"waiting", "unasked", "failed"}
        return self.failure is None and not any(each.action in left for each in self.objects)


def to_fetch(tables: Sequence[TableInventory], instruments: Sequence[Instrument]) -> list[TableDay]:
    """The days that the store has, or that were fetched from it, the earliest first.

    Those on which an instrument is not listed are left out.
    """
    by_id = {each.id: each for each in instruments}
    by_name = {raw.name: raw for raw in (*RAW_TABLES, *OPTIONAL_TABLES)}
    found = [
        TableDay(by_id[table.instrument], by_name[table.raw_table], day)
        for table in tables
        for day in table.days
        if by_id[table.instrument].is_listed_on(day)
    ]
    return sorted(found, key=lambda each: each.day)


def fetch_days(
    store: Store,
    lake: Path,
    days: Sequence[TableDay],
    progress: FetchProgress,
    *,
    parallel: int,
    ring: KeyRing | None = None,
    while_waiting: Callable[[], None] = lambda: None,
) -> Iterator[FetchedDay]:
    """Fetches days, some at once, and yields each when it has ended.

    Whoever stops taking them stops the downloads; a later fetch resumes with what has come.

    Args:
        store, lake: From where, and to where.
        days: Which.
        progress: Called with how far it is.
        parallel: How many days may be under way at once.
        ring: See `fetch_table`.
        while_waiting: Is called a few times a second.

    Raises:
        MachineError, OSError: The disk is full, or the lake cannot be written.
    """

    def fetch(each: TableDay) -> FetchedDay:
        try:
            objects = fetch_table(store, lake, each.raw, each.instrument, each.day, progress, ring)
        except (StoreError, LakeFileError, SealError) as error:
            return FetchedDay(each, (), error)
        return FetchedDay(each, objects)

    pool = Workers(parallel, "fetch")
    try:
        left: set[Future[FetchedDay]] = {pool.submit(fetch, each) for each in days}
        while left:
            done, left = wait(left, _POLL_SECONDS, FIRST_COMPLETED)
            while_waiting()
            pool.check()
            for future in done:
                yield future.result()
    finally:
        progress.stop()
        pool.stop()
