"""What may be pruned one day, and whether it could be had again.

A raw day in the local lake could be had again if the store still lists each of its files with the
size and ETag it was fetched with. A published day could be made again if every raw file that the
manifest names is in the lake or at the store. Where neither is known, it counts as a last copy.
A recorded day is worth what was converted of it, and goes only while that stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from market_pipeline.config.settings import Settings
from market_pipeline.errors import SealError, StoreError
from market_pipeline.security.stored import (
    is_stored,
    stored_digest,
    stored_size,
)
from market_pipeline.sources.crypto_lake import RAW_TABLES
from market_pipeline.sources.crypto_lake_contracts import OPTIONAL_TABLES
from market_pipeline.sources.raw_names import Series, day_of, days_below, series_below
from market_pipeline.stages.raw.days import (
    MANIFEST_OF,
    RawFile,
    StoreDays,
    by_day,
    has_size,
    object_name,
)
from market_pipeline.stages.retention._raw_day import NO_STORE, raw_day
from market_pipeline.stages.retention._recorded import recorded_days
from market_pipeline.stages.retention.converted import ConvertedDays
from market_pipeline.stages.retention.prune import DELTA_TABLES, SMALL_TABLES, Candidate, Retention
from market_pipeline.threads import Workers
from market_pipeline.warehouse.delta import delta_table, published_files
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.ledger import read_ledger
from market_pipeline.warehouse.manifest import MANIFESTS
from market_pipeline.warehouse.publish import vacuum
from market_pipeline.warehouse.staging import staging_age, stale_staging
from market_pipeline.warehouse.working import count_rows, read_columns

if TYPE_CHECKING:
    # Its library takes long to load, and a lake in a folder does without.
    from market_pipeline.store.client import Store

__all__ = ["Candidates", "find_candidates"]


@dataclass
class Candidates:
    """What may be pruned, and why not all of it is known."""

    candidates: list[Candidate] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class _AtStore:
    """What the store lists, one listing for each series, made when it is needed.

    Where there is no store nothing is listed. Once a series cannot be listed, nothing is known of
    it and of those that are not listed yet.
    """

    def __init__(self, store: Store | StoreError | None, before: date) -> None:
        self._store, self._before = store, before
        self._listed: dict[Series, dict[date, dict[str, RawFile]] | None] = {}
        self.failures: list[str] = [str(store)] if isinstance(store, StoreError) else []

    def list_series(self, series: Iterable[Series], parallel: int) -> None:
        """Lists series that are not listed yet, some at once."""
        new = sorted(set(series) - set(self._listed))
        if self._store is None or isinstance(self._store, StoreError):
            self._listed |= {each: {} if self._store is None else None for each in new}
            return
        with Workers(parallel, "list") as pool:
            self._listed |= dict(zip(new, pool.map(self._days, new), strict=True))

    def _days(self, series: Series) -> dict[date, dict[str, RawFile]] | None:
        store = self._store
        if store is None or isinstance(store, StoreError):
            return None
        try:
            return by_day(StoreDays(store).files(series), self._before)
        except StoreError as error:
            # The next ones would fail as well, each after all its attempts.
            self._store = error
            self.failures[:] = [str(error)]
            return None

    def objects(self, series: Series, day: date) -> Mapping[str, RawFile] | None:
        """The objects of a day by name; None if the store could not be asked."""
        listed = self._listed[series]
        return None if listed is None else listed.get(day, {})


def find_candidates(
    settings: Settings, retention: Retention, store: Store | StoreError | None
) -> Candidates:
    """What there is of days that are due by their age, and what runs left behind.

    Args:
        settings: Where the data folder is; a lake that is a folder is not listed.
        retention: Which days are due.
        store: The store; an error if it cannot be asked at all, None if the lake is a folder.

    Raises:
        WarehouseBusyError: Another process kept the working database.
    """
    warehouse = Warehouse(settings.data_dir, settings.lock_timeout_seconds)
    found = Candidates()
    raw_before, derived_before = retention.keeps_from("raw"), retention.keeps_from("derived")
    recorded_before = retention.keeps_from("recording")
    limits = [each for each in (raw_before, derived_before, recorded_before) if each is not None]
    if limits:
        at_store = _AtStore(store, max(limits))
        converted = ConvertedDays(settings, max(limits))
        parallel = settings.lake_parallel_downloads
        if derived_before is not None:
            found.candidates += _derived(settings, warehouse, at_store, converted, derived_before)
        if raw_before is not None and settings.store_address is not None:
            found.candidates += _raw(settings.lake_path, at_store, raw_before, parallel)
        if raw_before is not None:
            found.candidates += converted.candidates(raw_before)
            found.candidates += _quarantined(settings, warehouse, at_store, raw_before)
        if recorded_before is not None:
            found.candidates += recorded_days(
                settings.lake_path, converted, recorded_before, raw_before
            )
        found.failures += at_store.failures
    with staging_age(warehouse) as older_than:
        left_over = stale_staging(warehouse, older_than)
    for path, size in left_over.items():
        found.candidates.append(
            Candidate("staging", path.name, None, None, 1, size, paths=((path, size),))
        )
    found.candidates += _replaced(warehouse)
    return found


# --- raw days ---------------------------------------------------------------------------------


def _raw(lake: Path, at_store: _AtStore, before: date, parallel: int) -> Iterator[Candidate]:
    """The days of every raw table in the local lake, of all instruments that were ever fetched."""
    found = [
        (series, day)
        for raw in (*RAW_TABLES, *OPTIONAL_TABLES)
        for series in series_below(lake, raw.name)
        for day in days_below(lake / series.folder)
        if day < before
    ]
    at_store.list_series([series for series, _ in found], parallel)
    for series, day in found:
        folder = lake / series.day_folder(day)
        candidate = raw_day(folder, series, day, at_store.objects(series, day))
        if candidate is not None:
            yield candidate


# --- published days ---------------------------------------------------------------------------


def _derived(
    settings: Settings,
    warehouse: Warehouse,
    at_store: _AtStore,
    converted: ConvertedDays,
    before: date,
) -> Iterator[Candidate]:
    """The days of instruments in all published tables."""
    every = (*SMALL_TABLES, *MANIFESTS)
    rows = count_rows(warehouse, every, before)
    files: dict[tuple[date, str], list[int]] = {}
    for table in DELTA_TABLES:
        delta = delta_table(warehouse, table)
        for file in [] if delta is None else published_files(delta):
            if file.day < before:
                files.setdefault((file.day, file.instrument), []).append(file.bytes)
    made_from = _made_from(warehouse, before)
    absent = {
        of: [
            each
            for each in objects
            if not has_size(settings.lake_path / each.path, each.bytes)
            and not converted.has_all(each.made_from)
        ]
        for of, objects in made_from.items()
    }
    series = [each.series for objects in absent.values() for each in objects]
    at_store.list_series(series, settings.lake_parallel_downloads)
    for day, instrument in sorted({*rows, *files}):
        sizes = files.get((day, instrument), [])
        last_copy, stays, example = _could_be_made(at_store, day, absent.get((day, instrument)))
        yield Candidate(
            "derived",
            "published tables",
            instrument,
            day,
            files=len(sizes),
            bytes=sum(sizes),
            rows=rows.get((day, instrument), 0),
            again="its raw files can be had",
            last_copy=last_copy,
            stays=stays,
            example=example,
        )


class _RawObject(NamedTuple):
    """A raw file that a day was made from, as it was registered."""

    series: Series
    path: str
    bytes: int
    uri: str | None
    etag: str | None
    made_from: list[str] | None


_Objects = dict[tuple[date, str], list[_RawObject]]


def _made_from(warehouse: Warehouse, before: date) -> _Objects:
    """By day and instrument, the manifest rows of the raw files there were."""
    found: _Objects = {}
    columns = ("exchange", "symbol", "dt", "status", *_RawObject._fields[1:])
    frames = read_columns(warehouse, MANIFESTS, columns, before)
    for raw, frame in zip(MANIFEST_OF, frames, strict=False):
        for exchange, symbol, day, status, *registered in frame.iter_rows():
            series = Series(raw, exchange, symbol)
            objects = found.setdefault((day, series.instrument), [])
            if status != "missing":
                objects.append(_RawObject(series, *registered))
    return found


def _could_be_made(
    at_store: _AtStore, day: date, absent: Sequence[_RawObject] | None
) -> tuple[str | None, str | None, str | None]:
    """Why a day could not be made again, why that is not known, and the file that is about.

    Args:
        at_store, day: What is listed, and of which day.
        absent: The raw files that do not lie here; None if nothing says which there were.
    """
    if absent is None:
        return "nothing says which raw files it was made from", None, None
    for each in absent:
        listed = at_store.objects(each.series, day)
        if listed is None:
            return None, NO_STORE, each.path
        found = listed.get(object_name(each.uri or ""))
        if found is None or (found.mark, found.bytes) != (each.etag, each.bytes):
            why = "a raw file it was made from is neither in the lake nor at the store"
            return why, None, each.path
    return None, None, None


# --- what is left behind ----------------------------------------------------------------------


def _quarantined(
    settings: Settings, warehouse: Warehouse, at_store: _AtStore, before: date
) -> Iterator[Candidate]:
    """The copies in quarantine, each with its reason."""
    for reason in sorted(warehouse.quarantine_dir.rglob("*.reason.json")):
        copy = reason.with_name(reason.name.removesuffix(".reason.json"))
        day = day_of(reason.parent.name)
        if day is None or day >= before:
            continue
        paths = _sized((copy, reason))
        below = reason.parent.parent.relative_to(warehouse.quarantine_dir).as_posix()
        series = Series.of_folder(below) or Series(below, "", "")
        at_store.list_series([series], 1)
        listed = at_store.objects(series, day)
        yield Candidate(
            "quarantine",
            copy.name,
            series.instrument,
            day,
            files=len(paths),
            bytes=sum(size for _, size in paths),
            paths=paths,
            again="the same file can be had",
            last_copy=_lost_without(settings.lake_path, reason, listed or {}),
            example=copy.name,
        )


def _lost_without(lake: Path, reason: Path, listed: Mapping[str, RawFile]) -> str | None:
    """Why a copy in quarantine is the last one; None if lake or store have the same bytes."""
    try:
        described = json.loads(reason.read_text(encoding="utf-8"))
        original, sha256 = lake / described["file"], str(described["sha256"])
        if is_stored(original):
            same = stored_size(original) == described["bytes"] and stored_digest(original) == sha256
        else:
            same = any(
                known.sha256 == sha256
                and (found := listed.get(f"{original.parent.name}/{name}")) is not None
                and (known.etag, known.bytes) == (found.mark, found.bytes)
                for name, known in read_ledger(original.parent).items()
            )
    except (OSError, ValueError, TypeError, KeyError, SealError):
        same = False
    return None if same else "the file it was copied from is gone or has other bytes now"


def _replaced(warehouse: Warehouse) -> Iterator[Candidate]:
    """The files of big tables that `vacuum` would take."""
    for table in DELTA_TABLES:
        if not warehouse.table_dir(table).is_dir():
            continue
        paths = _sized(vacuum(warehouse, table, dry_run=True))
        size = sum(each for _, each in paths)
        if paths:
            yield Candidate("replaced", table.sql_name, None, None, len(paths), size, paths=paths)


def _sized(paths: Iterable[Path]) -> tuple[tuple[Path, int], ...]:
    return tuple((path, stored_size(path)) for path in paths if is_stored(path))
