"""Which raw files there are of each day: in a folder, at an object store, of another vendor.

Sensors, the inventory, retention and the doctor ask it here, and here is decided whether a local
file is what a store has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple, Protocol

from market_pipeline.errors import SealError
from market_pipeline.security.stored import stored_digest, stored_size, stored_stat
from market_pipeline.sources.crypto_lake import RAW_TABLES
from market_pipeline.sources.crypto_lake_contracts import OPTIONAL_TABLES
from market_pipeline.sources.raw_names import Series, Shard, day_of, days_below, shard_versions
from market_pipeline.store.objects import StoreObject, may_be_md5
from market_pipeline.warehouse.ledger import KnownObject, read_ledger
from market_pipeline.warehouse.manifest import MANIFESTS, OPTIONAL_MANIFESTS
from market_pipeline.warehouse.tables import Table

__all__ = [
    "MANIFEST_OF",
    "OPTIONAL_MANIFEST_OF",
    "FolderDays",
    "RawFile",
    "StoreDays",
    "VendorFile",
    "by_day",
    "has_size",
    "is_object",
    "object_name",
    "same_files",
]

MANIFEST_OF: Mapping[str, Table] = dict(
    zip((raw.name for raw in RAW_TABLES), MANIFESTS, strict=True)
)
"""By name of the raw table, the published table that registers its files."""

OPTIONAL_MANIFEST_OF: Mapping[str, Table] = dict(
    zip((raw.name for raw in OPTIONAL_TABLES), OPTIONAL_MANIFESTS, strict=True)
)
"""The same of the raw tables that a day may have besides."""


class RawFile(NamedTuple):
    """A file or an object of a raw day.

    Attributes:
        day: Its day.
        name: Its object's path below the folder of the series, `dt=2024-08-08/1.snappy.parquet`; of
            a vendor's file for a converter its path below the lake.
        bytes: Its size.
        mark: What changes when its bytes do: the ETag, or the time of change in ns.
        changed_s: When it was last changed, Unix time.
        path: The file; None of an object at a store.
    """

    day: date
    name: str
    bytes: int
    mark: str
    changed_s: float
    path: Path | None = None


class _Store(Protocol):
    def objects(self, prefix: str, start_after: str | None = None) -> Iterator[StoreObject]: ...


@dataclass(frozen=True, slots=True)
class FolderDays:
    """The days below a local folder."""

    lake: Path

    def files(self, series: Series, since: date | None = None) -> Iterator[RawFile]:
        """The newest version of each shard that is part of its day; nothing else there is.

        Of names that a run refuses, too: it has to say so.
        """
        for day in days_below(self.lake / series.folder):
            if since is not None and day < since:
                continue
            folder = self.lake / series.day_folder(day)
            for name, shard in shard_versions(folder).items():
                path = folder / shard.name
                try:
                    size, changed_ns = stored_stat(path)
                except FileNotFoundError:
                    continue  # taken back since the folder was read
                if not shard.is_gone:
                    below, mark = f"{folder.name}/{name}", str(changed_ns)
                    yield RawFile(day, below, size, mark, changed_ns / 1e9, path)


@dataclass(frozen=True, slots=True)
class StoreDays:
    """The days at an object store, whose keys are counted from the lake's own prefix."""

    store: _Store

    def files(self, series: Series, since: date | None = None) -> Iterator[RawFile]:
        """The objects that are shards, one request for each thousand keys.

        Raises:
            StoreError: The store refuses or cannot be reached.
        """
        prefix = f"{series.folder}/"
        # Every key of that day and of later ones comes after its folder's name. The slash must be
        # there: SeaweedFS passes over a folder whose name without it is `start_after`.
        after = None if since is None else f"{series.day_folder(since)}/"
        for found in self.store.objects(prefix, start_after=after):
            name = found.key.removeprefix(prefix)
            folder, _, file = name.rpartition("/")
            day = day_of(folder)
            if day is not None and Shard.of_object(file):
                changed_s = found.last_modified.timestamp()
                yield RawFile(day, name, found.size, found.etag, changed_s)


def by_day(files: Iterable[RawFile], last: date | None = None) -> dict[date, dict[str, RawFile]]:
    """Files in the order of their days by day and name; those after the last day are not taken."""
    days: dict[date, dict[str, RawFile]] = {}
    for file in files:
        if last is not None and file.day > last:
            break
        days.setdefault(file.day, {})[file.name] = file
    return days


def same_files(here: Mapping[str, RawFile], there: Mapping[str, RawFile]) -> list[RawFile]:
    """Those files of a day in a folder that are what a store lists under their names.

    A sealed one that cannot be opened is none of them: whoever fetches its day meets the error, and
    who looks at many days goes on.

    Args:
        here, there: A day of `FolderDays` and of `StoreDays`, by name.
    """
    ledger = next((read_ledger(each.path.parent) for each in here.values() if each.path), {})
    known = {each.file: each for each in ledger.values()}
    return [
        file
        for name, file in here.items()
        if file.path
        and (listed := there.get(name))
        and _is_object_if_it_opens(file.path, known.get(file.path.name), listed)
    ]


def _is_object_if_it_opens(path: Path, known: KnownObject | None, listed: RawFile) -> bool:
    try:
        return is_object(path, known, listed.bytes, listed.mark)
    except SealError:
        return False


def is_object(file: Path, known: KnownObject | None, size: int, etag: str) -> bool:
    """Whether a local file is the object that a store lists, as far as its size and ETag tell.

    Args:
        file: The local file.
        known: Its entry in the ledger; None if it was copied here by hand or
            the ledger is lost. Then its MD5 has to be the ETag.
        size, etag: As listed.

    Raises:
        SealError: Its MD5 is needed, and it cannot be opened.
    """
    if stored_size(file) != size:
        return False
    if known is not None:
        return (known.etag, known.bytes) == (etag, size)
    return may_be_md5(etag) and stored_digest(file, "md5") == etag


def has_size(file: Path, size: int | None) -> bool:
    """Whether a file is there, with the size that it was registered with."""
    try:
        return stored_size(file) == size
    except OSError:
        return False


def object_name(place: str) -> str:
    """The `name` of a registered file by its URI or path."""
    return "/".join(place.rsplit("/", 2)[1:])


@dataclass(frozen=True, slots=True)
class VendorFile:
    """A vendor's file that a converter was given: its path below the lake, bytes and SHA-256."""

    path: str
    bytes: int
    sha256: str

    @property
    def reference(self) -> str:
        """As `made_from` in a manifest names it: `sha256  path`."""
        return f"{self.sha256}  {self.path}"

    @staticmethod
    def parts_of(reference: str) -> tuple[str, str]:
        """The SHA-256 and the path in a `reference`."""
        sha256, _, path = reference.partition("  ")
        return sha256, path
