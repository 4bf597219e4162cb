"""Brings an instrument's day of a raw table from the object store into the local lake.

Every version of an object is downloaded once and then only listed. A file never changes under its
name: an object that changed lies beside the earlier version, as `<N>.v<K>.snappy.parquet`. A day is
put in place when all of it has come, and until then stays as it was: `warehouse/ledger.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import StoreError
from market_pipeline.security.ring import KeyRing
from market_pipeline.security.sealing import seal_in_place
from market_pipeline.security.stored import (
    is_sealed,
    remove_sealed,
    stored_digest,
    stored_size,
)
from market_pipeline.sources.crypto_lake import RawTable
from market_pipeline.sources.raw_names import Series, Shard, refuse_names, shard_versions
from market_pipeline.stages.raw.days import is_object
from market_pipeline.stages.raw.fetched import Action, FetchedObject, FetchProgress
from market_pipeline.warehouse.layout import make_private_folder
from market_pipeline.warehouse.ledger import GONE, KnownObject, Ledger, alone_in

if TYPE_CHECKING:
    # Its library takes long to load, and a lake in a folder does without.
    from market_pipeline.store.client import Store
    from market_pipeline.store.objects import StoreObject

__all__ = ["fetch_table", "table_prefix"]


def table_prefix(raw: RawTable, instrument: Instrument, day: date) -> str:
    """Where the store keeps the objects of an instrument's day, below its prefix."""
    return f"{Series(raw.name, instrument.venue, instrument.symbol).day_folder(day)}/"


def fetch_table(
    store: Store,
    lake: Path,
    raw: RawTable,
    instrument: Instrument,
    day: date,
    progress: FetchProgress | None = None,
    ring: KeyRing | None = None,
) -> list[FetchedObject]:
    """Downloads what is new or changed of a raw table, and says of each object what became of it.

    An object is left alone if its size and ETag are those of the local file, and that still has the
    bytes that were fetched. If one cannot be fetched, that is reported, the others come too, and
    the local day stays as it was. If the store cannot be listed, what is local stands.

    Args:
        store: Where to look.
        lake: The local lake.
        raw, instrument, day: Whose objects; they come in the order of their numbers.
        progress: Called with how far it is.
        ring: If given, what is local is sealed with it, once it is whole.

    Raises:
        StoreError: The store cannot be listed and nothing is local.
        SealError: A local object cannot be opened, or cannot be sealed.
        LakeFileError: Two objects of the day are named as the same shard, or one as none.
        MachineError, OSError: The disk is full, or the local folder cannot be written.
        FetchStopped: `progress` was asked to stop.
    """
    prefix = table_prefix(raw, instrument, day)
    folder = lake / prefix
    progress = progress or FetchProgress()
    try:
        listed, failure = _listed(store, prefix), None
    except StoreError as error:
        listed, failure = {}, error
    fetched: list[FetchedObject] = []
    if listed:
        make_private_folder(folder)
    if folder.is_dir():
        with alone_in(folder):
            fetch = _Fetch(store, folder, prefix, progress)
            fetched = list(fetch.unasked(failure) if failure else fetch.bring(listed))
    if failure and not fetched:
        raise failure
    for path in (each.path for each in fetched if ring and each.path):
        if ring and not is_sealed(path):
            seal_in_place(path, ring, "raw")
    for each in fetched:
        progress.became(each.action)
    return sorted(fetched, key=lambda each: int(_shard(each.name).digits))


def _listed(store: Store, prefix: str) -> dict[str, StoreObject]:
    """The shards that the store has of a day, by name; other objects are none of the day's.

    Raises:
        StoreError: The store cannot be listed.
        LakeFileError: See `refuse_names`.
    """
    found = {each.key.removeprefix(prefix): each for each in store.objects(prefix)}
    refuse_names((name for name in found if "/" not in name), store.address.uri_of(prefix))
    # A name becomes a local one, so no other is taken.
    return {name: each for name, each in found.items() if Shard.of_object(name)}


class _Fetch:
    """The work in one day's folder, which nobody else changes meanwhile."""

    def __init__(self, store: Store, folder: Path, prefix: str, progress: FetchProgress) -> None:
        self._store = store
        self._folder = folder
        self._prefix = prefix
        self._progress = progress
        self._ledger = Ledger(folder)
        self._ledger.finish()
        self._local = shard_versions(folder)

    def unasked(self, failure: StoreError) -> Iterator[FetchedObject]:
        """The local objects, none of which the store could be asked for."""
        for name, shard in self._local.items():
            if not shard.is_gone:
                yield replace(self._local_object(name, "unasked"), failure=failure)

    def bring(self, listed: Mapping[str, StoreObject]) -> Iterator[FetchedObject]:
        """Downloads what is not here, and puts the day in place if all of it has come."""
        for name, each in listed.items():
            self._adopt(name, each)
        new = [name for name in listed if not self._is_here(name, listed[name])]
        downloaded: dict[str, int] = {}
        failures: dict[str, StoreError] = {}
        for name in new:
            try:
                downloaded[name] = self._download(name, listed[name])
            except StoreError as error:
                failures[name] = error
        placed: dict[str, Action] = {}
        if not failures:
            placed = self._put_in_place(new, listed)
            self._ledger.sweep()
        for name, each in listed.items():
            if name in new and failures:
                fetched = self._not_placed(name, each, failures.get(name))
            else:
                fetched = self._in_place(name, placed.get(name, "unchanged"))
            yield replace(fetched, downloaded_bytes=downloaded.get(name, 0))
        for name, shard in self._local.items():
            if name not in listed:
                is_replaced = shard.is_gone or name in placed
                yield self._local_object(name, "replaced" if is_replaced else "gone")

    def _adopt(self, name: str, listed: StoreObject) -> None:
        """Remembers a file that is not in the ledger if its MD5 is the object's ETag.

        It was copied here by hand, or the ledger is lost.
        """
        shard = self._local.get(name)
        if shard is None or shard.is_gone or self._known(name) is not None:
            return
        path = self._folder / shard.name
        if is_object(path, None, listed.size, listed.etag):
            known = self._as_listed(listed, stored_digest(path))
            self._ledger.adopt(name, replace(known, file=shard.name, version=shard.version))

    def _is_here(self, name: str, listed: StoreObject) -> bool:
        """Whether the local file is the listed object, and has the bytes that were fetched."""
        known = self._known(name)
        file = self._folder / (known.file if known else "")
        return (
            known is not None
            and is_object(file, known, listed.size, listed.etag)
            and stored_digest(file) == known.sha256
        )

    def _download(self, name: str, listed: StoreObject) -> int:
        """Has an object lie where it waits to be put in place; how many bytes came for that."""
        incoming = self._ledger.incoming(name)
        waits = self._ledger.arrived.get(name)
        if (
            waits is not None
            and (waits.etag, waits.bytes) == (listed.etag, listed.size)
            and incoming.exists()
            and stored_digest(incoming) == waits.sha256
        ):
            return 0
        arrived = 0

        def count(more: int) -> None:
            nonlocal arrived
            arrived += more
            self._progress.arrived(more)

        self._progress.expect(listed.size)
        try:
            got = self._store.download(listed, incoming, count)
        finally:
            self._progress.ended(listed.size, arrived)
        self._ledger.has_come(name, self._as_listed(listed, got.sha256))
        return got.bytes - got.resumed_bytes

    def _put_in_place(
        self, names: list[str], listed: Mapping[str, StoreObject]
    ) -> dict[str, Action]:
        """What became of the objects that had come, and of those that gave way to them.

        An object that the store does not have any more stays part of the day, unless others came or
        changed: then the vendor cut the day anew, and old shards beside new would double its rows.
        """
        placing: dict[str, KnownObject] = {}
        actions: dict[str, Action] = {}
        anew = False
        for name in names:
            placing[name], actions[name], is_new = self._placed(name)
            anew = anew or is_new
        if anew:
            for name, shard in self._local.items():
                if name not in listed and not shard.is_gone:
                    known = self._known(name) or self._by_hand(name, shard)
                    marker = shard._replace(version=shard.version + 1, is_gone=True)
                    placing[name], actions[name] = replace(known, file=marker.name), "replaced"
        for known in placing.values():
            remove_sealed(self._folder / known.file)  # what comes takes its place
        if placing:
            self._ledger.put_in_place(placing)
        return actions

    def _placed(self, name: str) -> tuple[KnownObject, Action, bool]:
        """Which file and version an object becomes that has come; and whether its bytes are new."""
        come = self._ledger.arrived[name]
        shard, entry = self._local.get(name), self._ledger.in_place.get(name)

        def version(number: int, file: str | None = None) -> KnownObject:
            named = file or _shard(name)._replace(version=number).name
            return replace(come, file=named, version=number)

        if shard is None and entry is None:
            return version(1), "fetched", True
        if shard is None or shard.is_gone:
            if shard is None and entry is not None and _is_file_of(entry, come):
                # The local file was removed, and its name is free.
                return version(entry.version, entry.file), "fetched", False
            before = max(shard.version if shard else 0, entry.version if entry else 0)
            return version(before + 1), "changed", True
        same = version(shard.version)
        if stored_digest(self._folder / shard.name) == come.sha256:
            return same, "unchanged", False  # another ETag for the same bytes
        known = self._known(name)
        if known is not None and known.sha256 == come.sha256:
            return same, "fetched", False  # the local file was damaged, and is made whole again
        return version(shard.version + 1), "changed", True

    def _not_placed(
        self, name: str, listed: StoreObject, failure: StoreError | None
    ) -> FetchedObject:
        """An object of a day that not all of could be fetched."""
        action: Action = "waiting" if failure is None else "failed"
        shard = self._local.get(name)
        if shard is not None and not shard.is_gone:
            return replace(self._local_object(name, action), failure=failure)
        version = 1 if shard is None else shard.version + 1
        fetched = _fetched_object(
            name, replace(self._as_listed(listed, ""), version=version), None, action
        )
        return replace(fetched, sha256=None, failure=failure)

    def _local_object(self, name: str, action: Action) -> FetchedObject:
        """An object that is, or was, part of the day and was not fetched."""
        shard = self._local[name]
        path = None if action == "replaced" else self._folder / shard.name
        known = self._known(name) if path else self._ledger.in_place.get(name)
        if known is None:
            uri = self._store.address.uri_of(self._prefix + name)
            version = shard.version - shard.is_gone
            return FetchedObject(name, uri, None, None, None, version, path, action)
        fetched = _fetched_object(name, known, path, action)
        return replace(fetched, is_damaged=path is not None and stored_digest(path) != known.sha256)

    def _in_place(self, name: str, action: Action) -> FetchedObject:
        known = self._ledger.in_place[name]
        return _fetched_object(name, known, self._folder / known.file, action)

    def _known(self, name: str) -> KnownObject | None:
        """What is known of the newest file of an object, if the ledger is about that one."""
        known, shard = self._ledger.in_place.get(name), self._local.get(name)
        if known is None or shard is None or shard.is_gone or known.file != shard.name:
            return None
        return known

    def _as_listed(self, listed: StoreObject, sha256: str) -> KnownObject:
        uri = self._store.address.uri_of(listed.key)
        return KnownObject("", 0, uri, listed.etag, listed.size, sha256)

    def _by_hand(self, name: str, shard: Shard) -> KnownObject:
        """A file that never came from the store: it has no tag there."""
        uri = self._store.address.uri_of(self._prefix + name)
        path = self._folder / shard.name
        sha256 = stored_digest(path)
        return KnownObject(shard.name, shard.version, uri, "", stored_size(path), sha256)


def _shard(name: str) -> Shard:
    shard = Shard.of_name(name)
    assert shard is not None
    return shard


def _is_file_of(entry: KnownObject, come: KnownObject) -> bool:
    return entry.sha256 == come.sha256 and not entry.file.endswith(GONE)


def _fetched_object(
    name: str, known: KnownObject, path: Path | None, action: Action
) -> FetchedObject:
    return FetchedObject(
        name=name,
        uri=known.uri,
        etag=known.etag or None,
        bytes=known.bytes,
        sha256=known.sha256,
        version=known.version,
        path=path,
        action=action,
    )
