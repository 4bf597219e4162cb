"""A store in memory that gives what `stages.fetch` asks of one, and fails as it is told to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from market_pipeline.config.store_address import StoreAddress
from market_pipeline.errors import StoreError
from market_pipeline.store.objects import Downloaded, StoreObject, Usage
from market_pipeline.warehouse.layout import make_private_folder


def store_error(kind: str, uri: str = "s3://bucket/lake") -> StoreError:
    """An error of that kind."""
    return StoreError("it did not work", kind=kind, next_step="Run it again.", uri=uri)


@dataclass
class FakeStore:
    """Objects by key, and what was asked.

    Attributes:
        etags: ETags that are not the MD5, by key.
        failures: What happens instead of a download, by key; of `""` instead of a listing.
        downloads: The keys that were downloaded, in order.
    """

    objects_by_key: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    failures: dict[str, BaseException] = field(default_factory=dict)
    downloads: list[str] = field(default_factory=list)
    address: StoreAddress = field(default_factory=lambda: StoreAddress("bucket", "lake"))
    bytes_sent: int = 0

    def put_folder(self, folder: Path) -> None:
        """Has every file below a folder."""
        for file in folder.rglob("*.parquet"):
            self.objects_by_key[file.relative_to(folder).as_posix()] = file.read_bytes()

    def etag(self, key: str) -> str:
        found = hashlib.md5(self.objects_by_key[key], usedforsecurity=False).hexdigest()
        return self.etags.get(key, found)

    @property
    def usage(self) -> Usage:
        return Usage(len(self.downloads), self.bytes_sent, 0.0, 0.0)

    @property
    def blocked_seconds(self) -> float:
        return 0.0

    def objects(self, prefix: str = "", start_after: str | None = None) -> Iterator[StoreObject]:
        if "" in self.failures:
            raise self.failures[""]
        for key in sorted(self.objects_by_key):
            if key.startswith(prefix) and key > (start_after or ""):
                size = len(self.objects_by_key[key])
                yield StoreObject(key, size, self.etag(key), datetime(2024, 8, 9, tzinfo=UTC))

    def download(
        self, object: StoreObject, target: Path, progress: Callable[[int], None] | None = None
    ) -> Downloaded:
        if object.key in self.failures:
            raise self.failures[object.key]
        self.downloads.append(object.key)
        body = self.objects_by_key[object.key]
        if progress is not None:
            progress(len(body))
        self.bytes_sent += len(body)
        make_private_folder(target.parent)
        target.write_bytes(body)
        return Downloaded(hashlib.sha256(body).hexdigest(), len(body))
