"""A raw table's day of every instrument: fetched if the lake is an object store, and registered."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.errors import LakeFileError, PublishError, StoreError, is_of_machine
from market_pipeline.security.master import sealing_ring
from market_pipeline.security.ring import KeyRing
from market_pipeline.shown import shown_logger
from market_pipeline.sources.crypto_lake import RawTable
from market_pipeline.sources.registry import is_converter
from market_pipeline.stages.raw.convert import register_local_day
from market_pipeline.stages.raw.download import fetch_table, table_prefix
from market_pipeline.stages.raw.fetched import ACTIONS, FetchProgress
from market_pipeline.stages.raw.register import not_registered, register_day
from market_pipeline.telemetry.traces.work import failed, working
from market_pipeline.threads import Workers
from market_pipeline.warehouse.manifest import ManifestRow

if TYPE_CHECKING:
    # Its library takes long to load, and a lake in a folder does without.
    from market_pipeline.store.client import Store

__all__ = ["FetchFigures", "ManifestRows", "raw_day"]

_LOG = shown_logger(__name__)


@dataclass(frozen=True, slots=True)
class FetchFigures:
    """What fetching a raw table's day took.

    Attributes:
        counts: How many objects there were of each `Action`.
        unlisted: Instruments that the store could not be asked for, and of which nothing is local.
        bytes: Downloaded bytes, those of given up downloads too.
        requests: Requests sent to the store, repeated ones too.
        seconds: From the first listing to the last registered object.
        blocked_seconds: How long the limits delayed requests to the store, summed over threads.
    """

    counts: dict[str, int]
    unlisted: int
    bytes: int
    requests: int
    seconds: float
    blocked_seconds: float

    @property
    def megabytes_per_second(self) -> float:
        """Downloaded megabytes (10^6) for each of the seconds."""
        return self.bytes / 1e6 / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        counts = [f"{count:,} {action}" for action, count in self.counts.items() if count]
        if self.unlisted:
            counts.append(f"{self.unlisted:,} instruments could not be asked for")
        parts = [f"{', '.join(counts) or 'no objects'} in {self.seconds:,.1f} s"]
        if self.bytes:
            parts.append(f"{self.bytes / 1e6:,.1f} MB, {self.megabytes_per_second:,.1f} MB/s")
        if self.blocked_seconds:
            parts.append(f"delayed for {self.blocked_seconds:,.1f} s by the limits")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class ManifestRows:
    """The manifest rows of a raw table's day, and what was fetched for it (None from a folder)."""

    rows: list[ManifestRow]
    fetched: FetchFigures | None


def raw_day(
    store: Store | None,
    settings: Settings,
    raw: RawTable,
    instruments: Sequence[Instrument],
    day: date,
    report: Callable[[FetchProgress], None] | None = None,
    report_seconds: float = 5.0,
) -> ManifestRows:
    """The manifest rows of a raw table's day, fetched before if the lake is an object store.

    Instruments are fetched some at once; their rows come in the order given.

    Args:
        store: Where raw days come from; None if the lake is a folder.
        settings: Where they lie here, and how much is done at once.
        raw: Which raw table.
        instruments, day: Whose day.
        report: Called with how far the fetch is, in this thread, every `report_seconds`.
        report_seconds: See `report`.

    Raises:
        MachineError, OSError: The disk is full, or the local lake cannot be written.
        SealError: What is fetched is to be sealed, and there is no key for it.
    """
    if store is None:
        found = [_register(settings, raw, each, day) for each in instruments]
        return ManifestRows([row for rows in found for row in rows], None)
    ring = sealing_ring(settings, "raw")
    progress, started = FetchProgress(), time.monotonic()
    before, blocked = store.usage, store.blocked_seconds
    with Workers(settings.lake_parallel_downloads, "fetch") as pool:
        work = [
            pool.submit(_fetch_and_register, store, settings, raw, each, day, progress, ring)
            for each in instruments
        ]
        try:
            _await(work, pool, lambda: report(progress) if report else None, report_seconds)
            done = [each.result() for each in work]
        except BaseException:
            # Not to go on for hours after an interrupt, or when the disk is full.
            progress.stop()
            raise
    after = store.usage
    figures = FetchFigures(
        counts={action: progress.actions[action] for action in ACTIONS},
        unlisted=sum(unlisted for _, unlisted in done),
        bytes=after.bytes - before.bytes,
        requests=after.requests - before.requests,
        seconds=time.monotonic() - started,
        blocked_seconds=store.blocked_seconds - blocked,
    )
    return ManifestRows([row for rows, _ in done for row in rows], figures)


def _await(
    work: Sequence[Future[tuple[list[ManifestRow], bool]]],
    pool: Workers,
    report: Callable[[], None],
    every_seconds: float,
) -> None:
    """Waits until all is done, or something failed."""
    while True:
        done, under_way = wait(work, every_seconds, FIRST_EXCEPTION)
        if not under_way or any(each.exception() for each in done):
            return
        pool.check()
        report()


def _register(
    settings: Settings, raw: RawTable, instrument: Instrument, day: date
) -> list[ManifestRow]:
    """As `register_local_day`; what one instrument fails at is its own row, and the others go on.

    Raises:
        PublishError: The data folder cannot be written.
        Exception: One that is the machine's (`errors.is_of_machine`).
    """
    with working("instrument", instrument=instrument.id):
        try:
            return register_local_day(settings, raw, instrument, day)
        except Exception as error:
            if isinstance(error, PublishError) or is_of_machine(error):
                raise
            failed(error)
            _LOG.exception("%s %s: %s could not be registered", instrument.id, day, raw.name)
            return [not_registered(instrument, day, error)]


def _fetch_and_register(
    store: Store,
    settings: Settings,
    raw: RawTable,
    instrument: Instrument,
    day: date,
    progress: FetchProgress,
    ring: KeyRing | None,
) -> tuple[list[ManifestRow], bool]:
    """As `register_day`, after fetching what the store has; a converter's files are not there.

    A store that cannot be asked, where nothing is local, is a row of status "missing", and that is
    reported beside it.
    """
    if is_converter(instrument.source):
        return _register(settings, raw, instrument, day), False
    with working("instrument", instrument=instrument.id):
        try:
            return _from_store(store, settings.lake_path, raw, instrument, day, progress, ring)
        except Exception as error:
            if isinstance(error, PublishError | StoreError) or is_of_machine(error):
                raise
            failed(error)
            _LOG.exception("%s %s: %s could not be fetched", instrument.id, day, raw.name)
            return [not_registered(instrument, day, error)], False


def _from_store(
    store: Store,
    lake: Path,
    raw: RawTable,
    instrument: Instrument,
    day: date,
    progress: FetchProgress,
    ring: KeyRing | None,
) -> tuple[list[ManifestRow], bool]:
    """As `_fetch_and_register`, of an instrument without a converter."""
    uri = store.address.uri_of(table_prefix(raw, instrument, day))
    try:
        fetched = fetch_table(store, lake, raw, instrument, day, progress, ring)
    except StoreError as error:
        (row,) = register_day(lake, raw, instrument, day, uri=uri)
        remark = f"The folder {uri}: it could not be asked for: {error}"
        return [replace(row.failed(error), remark=remark)], True
    except LakeFileError as error:
        return [replace(not_registered(instrument, day, error), uri=uri)], False
    return register_day(lake, raw, instrument, day, fetched, uri=uri), False
