"""What is kept that may be pruned one day, and whether it could be had again.

A raw day in the local lake could be had again if the store still lists each of its files with the
size and ETag it was fetched with. A published day could be made again if every raw file that the
manifest names is in the lake or at the store. Where neither is known, it counts as a last copy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from market_pipeline.config.settings import Settings
from market_pipeline.errors import StoreError
from market_pipeline.stages.raw.inventory import RAW_TABLES, local_days, series_folder, stored_days
from market_pipeline.stages.retention.converted import ConvertedDays
from market_pipeline.stages.retention.prune import (
    DELTA_TABLES,
    MANIFESTS,
    SMALL_TABLES,
    Candidate,
    Retention,
)
from market_pipeline.threads import Workers
from market_pipeline.warehouse.delta import delta_table, published_files
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.ledger import LEDGER_NAME, KnownObject, Ledger, digest, read_ledger
from market_pipeline.warehouse.published import vacuum
from market_pipeline.warehouse.staging import staging_age, stale_staging
from market_pipeline.warehouse.tables import Table
from market_pipeline.warehouse.working import count_rows, read_columns

if TYPE_CHECKING:
    # Its library takes long to load, and a lake in a folder does without.
    from market_pipeline.store.client import Store
    from market_pipeline.store.objects import StoreObject

__all__ = ["Candidates", "find_candidates"]

_OBJECT = re.compile(r"([0-9]{1,9})(?:\.v[0-9]+)?\.(?:snappy\.parquet|gone)")
_LEFT_OVER = re.compile(r"\.(\d{1,9}\.snappy\.parquet)\.incoming.*|\.objects\.json\..*\.partial")
_NO_STORE = "the store could not be asked, so nothing is known of it"
_DAY_FOLDER = re.compile(r"dt=(\d{4}-\d\d-\d\d)")


@dataclass
class Candidates:
    """What may be pruned, and what of it could not be looked at."""

    candidates: list[Candidate] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Series:
    """A raw table of an instrument."""

    table: str
    exchange: str
    symbol: str

    @property
    def folder(self) -> str:
        return series_folder(self.table, self.exchange, self.symbol)

    @property
    def instrument(self) -> str:
        return f"{self.exchange}:{self.symbol}"


class _AtStore:
    """What the store lists, one listing for each series, made when it is needed.

    Where there is no store nothing is listed. Once a series cannot be listed, nothing is known of
    it and of those that are not listed yet.
    """

    def __init__(self, store: Store | StoreError | None, before: date) -> None:
        self._store, self._before = store, before
        self._listed: dict[_Series, dict[date, dict[str, StoreObject]] | None] = {}
        self.failures: list[str] = [str(store)] if isinstance(store, StoreError) else []

    def look(self, series: Iterable[_Series], parallel: int) -> None:
        """Lists series, some at once."""
        wanted = sorted(set(series) - set(self._listed), key=lambda each: each.folder)
        if self._store is None or isinstance(self._store, StoreError):
            self._listed |= {each: {} if self._store is None else None for each in wanted}
            return
        with Workers(parallel, "list") as pool:
            self._listed |= dict(zip(wanted, pool.map(self._list, wanted), strict=True))

    def _list(self, series: _Series) -> dict[date, dict[str, StoreObject]] | None:
        store = self._store
        if store is None or isinstance(store, StoreError):
            return None
        try:
            return stored_days(store, series.folder, end=self._before)
        except StoreError as error:
            # The next ones would fail as well, each after all its attempts.
            self._store = error
            self.failures[:] = [str(error)]
            return None

    def objects(self, series: _Series, day: date) -> Mapping[str, StoreObject] | None:
        """The objects of a day by name; None if the store could not be asked."""
        listed = self._listed[series]
        return None if listed is None else listed.get(day, {})


def find_candidates(
    settings: Settings, retention: Retention, store: Store | StoreError | None
) -> Candidates:
    """What there is of days that are due by their age, and what runs left behind.

    Args:
        settings: Where the data folder is; a lake that is a folder is not looked into.
        retention: Which days are due.
        store: The store; an error if it cannot be asked at all, None if the lake is a folder.

    Raises:
        WarehouseBusyError: Another process kept the working database.
    """
    warehouse = Warehouse(settings.data_dir)
    found = Candidates()
    raw_before, derived_before = retention.keeps_from("raw"), retention.keeps_from("derived")
    limits = [each for each in (raw_before, derived_before) if each is not None]
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
        found.failures += at_store.failures
    with staging_age(warehouse) as older_than:
        left_over = stale_staging(warehouse, older_than)
    for path, size in left_over.items():
        found.candidates.append(
            Candidate("staging", path.name, None, None, 1, size, paths=((path, size),))
        )
    found.candidates += _replaced(warehouse, settings.lock_timeout_seconds)
    return found


# --- raw days ---------------------------------------------------------------------------------


def _raw(lake: Path, at_store: _AtStore, before: date, parallel: int) -> Iterator[Candidate]:
    """The days of every raw table in the local lake, of all instruments that were ever fetched."""
    found = [
        (series, day)
        for series in _series_below(lake)
        for day in local_days(lake / series.folder)
        if day < before
    ]
    at_store.look([series for series, _ in found], parallel)
    for series, day in found:
        folder = lake / series.folder / f"dt={day}"
        candidate = _raw_day(folder, series, day, at_store.objects(series, day))
        if candidate is not None:
            yield candidate


def _series_below(lake: Path) -> Iterator[_Series]:
    for raw in RAW_TABLES:
        for exchange in sorted((lake / raw.name).glob("exchange=*")):
            for symbol in sorted(exchange.glob("symbol=*")):
                # A link may lead into a folder that is the user's own.
                if symbol.is_dir() and not symbol.is_symlink() and not exchange.is_symlink():
                    yield _Series(
                        raw.name,
                        exchange.name.removeprefix("exchange="),
                        symbol.name.removeprefix("symbol="),
                    )


def _raw_day(
    folder: Path, series: _Series, day: date, listed: Mapping[str, StoreObject] | None
) -> Candidate | None:
    """A day's folder; None if nothing is left in it but its ledger."""
    if folder.is_symlink():
        return None
    ledger = Ledger(folder)
    own: list[tuple[Path, int]] = []
    strange: Path | None = None
    last_copy: tuple[str, Path] | None = None
    for path in sorted(folder.iterdir()):
        if path.name == LEDGER_NAME:
            continue
        shard, left_over = _OBJECT.fullmatch(path.name), _LEFT_OVER.fullmatch(path.name)
        if path.is_symlink() or not path.is_file() or not (shard or left_over):
            strange = strange or path
            continue
        own.append((path, path.stat().st_size))
        if listed is None or last_copy is not None or path.name.endswith(".gone"):
            continue
        name = f"{shard[1]}.snappy.parquet" if shard else (left_over and left_over[1])
        known = ledger.in_place.get(name or "") if shard else ledger.arrived.get(name or "")
        if not shard and known is None:
            continue  # the beginning of a download
        at_store = listed.get(name or "")
        if known is not None and shard and known.file != path.name:
            last_copy = ("an earlier version, which the store has no more", path)
        elif at_store is None:
            last_copy = ("the store does not have it", path)
        elif not _is_same(path, known, at_store):
            last_copy = ("the store has other bytes of it", path)
    if not own and strange is None:
        return None
    stays = None
    if strange is not None:
        stays = "its folder holds something that no fetch put there"
    elif listed is None:
        stays = _NO_STORE
    about = strange or (last_copy[1] if last_copy else None)
    return Candidate(
        "raw",
        series.table,
        series.instrument,
        day,
        files=len(own),
        bytes=sum(size for _, size in own),
        paths=tuple(own),
        again="the store has it",
        last_copy=last_copy[0] if last_copy else None,
        stays=stays,
        example=f"{about.parent.name}/{about.name}" if about else None,
    )


def _is_same(path: Path, known: KnownObject | None, at_store: StoreObject) -> bool:
    """Whether the store lists the bytes of a file, as far as size and ETag tell."""
    if path.stat().st_size != at_store.size:
        return False
    if known is not None:
        return (known.etag, known.bytes) == (at_store.etag, at_store.size)
    # It was copied here by hand, or the ledger is lost.
    return at_store.etag_may_be_md5 and digest(path, "md5") == at_store.etag


# --- published days ---------------------------------------------------------------------------


def _derived(
    settings: Settings,
    warehouse: Warehouse,
    at_store: _AtStore,
    converted: ConvertedDays,
    before: date,
) -> Iterator[Candidate]:
    """The days of instruments in all published tables."""
    wait = settings.lock_timeout_seconds
    every = (*SMALL_TABLES, *MANIFESTS)
    rows = count_rows(warehouse, every, before, timeout_seconds=wait)
    files: dict[tuple[date, str], list[int]] = {}
    for table in DELTA_TABLES:
        delta = delta_table(warehouse, table)
        for file in [] if delta is None else published_files(delta):
            if file.day < before:
                files.setdefault((file.day, file.instrument), []).append(file.bytes)
    made_from = _made_from(warehouse, before, wait)
    absent = {
        of: [
            (series, row)
            for series, row in objects
            if not _is_local(settings.lake_path, row) and not converted.has_all(row["made_from"])
        ]
        for of, objects in made_from.items()
    }
    series = [series for objects in absent.values() for series, _ in objects]
    at_store.look(series, settings.lake_parallel_downloads)
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


_Objects = dict[tuple[date, str], list[tuple[_Series, dict[str, Any]]]]


def _made_from(warehouse: Warehouse, before: date, timeout_seconds: float) -> _Objects:
    """By day and instrument, the manifest rows of the raw files there were."""
    found: _Objects = {}
    wanted = ("exchange", "symbol", "dt", "status", "path", "bytes", "uri", "etag", "made_from")
    frames = read_columns(warehouse, MANIFESTS, wanted, before, timeout_seconds=timeout_seconds)
    for raw, frame in zip(RAW_TABLES, frames, strict=False):
        for row in frame.iter_rows(named=True):
            series = _Series(raw.name, row["exchange"], row["symbol"])
            objects = found.setdefault((row["dt"], series.instrument), [])
            if row["status"] != "missing":
                objects.append((series, row))
    return found


def _could_be_made(
    at_store: _AtStore, day: date, absent: Sequence[tuple[_Series, dict[str, Any]]] | None
) -> tuple[str | None, str | None, str | None]:
    """Why a day could not be made again, why that is not known, and the file that is about.

    Args:
        at_store, day: Where to look.
        absent: The raw files that do not lie here; None if nothing says which there were.
    """
    if absent is None:
        return "nothing says which raw files it was made from", None, None
    for series, row in absent:
        listed = at_store.objects(series, day)
        if listed is None:
            return None, _NO_STORE, row["path"]
        found = listed.get(str(row["uri"] or "").rpartition("/")[2])
        if found is None or (found.etag, found.size) != (row["etag"], row["bytes"]):
            why = "a raw file it was made from is neither in the lake nor at the store"
            return why, None, row["path"]
    return None, None, None


def _is_local(lake: Path, row: Mapping[str, Any]) -> bool:
    """Whether a registered raw file lies in the lake, with the size it was registered with."""
    try:
        return bool((lake / row["path"]).stat().st_size == row["bytes"])
    except OSError:
        return False


# --- what is left behind ----------------------------------------------------------------------


def _quarantined(
    settings: Settings, warehouse: Warehouse, at_store: _AtStore, before: date
) -> Iterator[Candidate]:
    """The copies in quarantine, each with its reason."""
    for reason in sorted(warehouse.quarantine_dir.rglob("*.reason.json")):
        copy = reason.with_name(reason.name.removesuffix(".reason.json"))
        matched = _DAY_FOLDER.fullmatch(reason.parent.name)
        day = None if matched is None else date.fromisoformat(matched[1])
        if day is None or day >= before:
            continue
        paths = tuple((path, path.stat().st_size) for path in (copy, reason) if path.is_file())
        below = reason.parent.relative_to(warehouse.quarantine_dir).parts
        parts = dict(part.split("=", 1) for part in below if "=" in part)
        series = _Series(below[0], parts.get("exchange", ""), parts.get("symbol", ""))
        at_store.look([series], 1)
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


def _lost_without(lake: Path, reason: Path, listed: Mapping[str, StoreObject]) -> str | None:
    """Why a copy in quarantine is the last one; None if lake or store have the same bytes."""
    try:
        described = json.loads(reason.read_text(encoding="utf-8"))
        original, sha256 = lake / described["file"], str(described["sha256"])
        if original.is_file():
            same = (
                original.stat().st_size == described["bytes"]
                and digest(original, "sha256") == sha256
            )
        else:
            same = any(
                known.sha256 == sha256
                and name in listed
                and (known.etag, known.bytes) == (listed[name].etag, listed[name].size)
                for name, known in read_ledger(original.parent).items()
            )
    except (OSError, ValueError, TypeError, KeyError):
        same = False
    return None if same else "the file it was copied from is gone or has other bytes now"


def _replaced(warehouse: Warehouse, timeout_seconds: float) -> Iterator[Candidate]:
    """The files of big tables that `vacuum` would take."""
    for table in DELTA_TABLES:
        if not warehouse.table_dir(table).is_dir():
            continue
        paths = _sized(vacuum(warehouse, table, dry_run=True, timeout_seconds=timeout_seconds))
        if paths:
            yield _vacuumed(table, paths)


def _sized(paths: Iterable[Path]) -> tuple[tuple[Path, int], ...]:
    return tuple((path, path.stat().st_size) for path in paths if path.is_file())


def _vacuumed(table: Table, paths: tuple[tuple[Path, int], ...]) -> Candidate:
    size = sum(each for _, each in paths)
    return Candidate("replaced", table.sql_name, None, None, len(paths), size, paths=paths)
