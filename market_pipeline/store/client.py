"""The client of an object store: list folders and objects, download an object."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from botocore import UNSIGNED
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config

from market_pipeline.config.settings import Settings
from market_pipeline.config.store_address import StoreAddress
from market_pipeline.scrub.scrubber import learn
from market_pipeline.security.tls import require_tls
from market_pipeline.store._credentials import credentials_kind, learn_credentials, session
from market_pipeline.store.download import Progress, download
from market_pipeline.store.faults import (
    BOTO_ERRORS,
    no_etag,
    no_listing,
    require_ca_bundle,
    store_error,
    unusable_endpoint,
)
from market_pipeline.store.objects import Downloaded, Patience, StoreObject, Usage
from market_pipeline.store.ranges import RangeReader
from market_pipeline.store.rate_limits import TokenBucket
from market_pipeline.telemetry.metrics.recording import flush, record
from market_pipeline.telemetry.metrics.table import (
    STORE_BLOCKED,
    STORE_BYTES,
    STORE_CALLS,
    STORE_REFUSALS,
    STORE_REQUESTS,
)
from market_pipeline.threads import Workers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

__all__ = ["Store", "open_store"]

_ETAG = re.compile(r"[!-~]{0,256}")
"""What HTTP allows in a tag, and as many characters as any store needs."""

_SLOWER = {429, 503}
"""Answers that ask for fewer requests."""


class Store:
    """One lake in an object store; a context manager, safe for many threads.

    Keys and prefixes are those below the address's prefix, with no slash before them. Requests that
    fail are repeated with growing, random waits, and more slowly after the store asked for that.

    Args:
        address: Which store.
        requests_per_second: The most requests a second, repeated ones too; 0 for no limit.
        megabytes_per_second: The most megabytes a second of objects; 0 for no limit.
        parallel_downloads: How many parts of objects are downloaded at once, of all objects.
        patience: How long the store is waited for.

    Raises:
        StoreError: The profile that is named does not exist, or the file of certificate authorities
            or the address cannot be used. Missing credentials show at the first request.
    """

    def __init__(
        self,
        address: StoreAddress,
        *,
        requests_per_second: float = 0.0,
        megabytes_per_second: float = 0.0,
        parallel_downloads: int = 4,
        patience: Patience | None = None,
    ) -> None:
        self.address = address
        self._requests_limit = TokenBucket(requests_per_second)
        self._bytes_limit = TokenBucket(megabytes_per_second * 1e6)
        self._recorded = self.usage
        self._parallel = parallel_downloads
        patience = patience or Patience()
        if address.ca_bundle is not None:
            require_ca_bundle(address.ca_bundle, address.uri)
        try:
            self._session = session()
            self._client = self._make_client(patience)
            if not address.anonymous:
                learn_credentials(self._session)
        except BOTO_ERRORS as error:
            raise store_error(error, address.uri) from None
        except ValueError:  # of the endpoint alone
            raise unusable_endpoint(address.uri) from None
        self._reader = RangeReader(self._client, address, patience, self._bytes_limit)
        self._pool = Workers(parallel_downloads, "store")

    def _make_client(self, patience: Patience) -> S3Client:
        address = self.address
        config = Config(
            signature_version=UNSIGNED if address.anonymous else None,
            connect_timeout=patience.connect_seconds,
            read_timeout=patience.read_seconds,
            retries={"mode": "adaptive", "total_max_attempts": patience.attempts},
            max_pool_connections=self._parallel + 4,  # beside the parts somebody may list
            # Other stores than Amazon's seldom have a host name for each bucket.
            s3={"addressing_style": "path" if address.endpoint_url else "auto"},
            # Parts have no checksum of their own; the whole is verified when it is there.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        client: S3Client = self._session.client(
            "s3",
            region_name=address.region,
            endpoint_url=address.endpoint_url,
            verify=str(address.ca_bundle) if address.ca_bundle else None,
            config=config,
        )
        require_tls(client, address.tls_minimum)
        client.meta.events.register("before-call.s3", self._before_call)
        client.meta.events.register("before-send.s3", self._before_send)
        client.meta.events.register("response-received.s3", self._response_received)
        return client

    def _before_call(self, **_: object) -> None:
        record(STORE_CALLS, 1)

    def _before_send(self, request: AWSPreparedRequest, **_: object) -> None:
        # boto3 calls this for every attempt, so that repeated requests are limited as well.
        self._requests_limit.take()
        record(STORE_REQUESTS, 1)
        token = request.headers.get("X-Amz-Security-Token")
        learn(token.decode() if isinstance(token, bytes) else token)

    def _response_received(
        self, response_dict: Mapping[str, Any] | None = None, **_: object
    ) -> None:
        if response_dict is not None:
            record(STORE_REFUSALS, int(response_dict["status_code"] in _SLOWER))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up what is under way and close the connections."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()
        self._record_usage()

    def _record_usage(self) -> None:
        """Records what was not recorded with each request, and writes all of it."""
        now, before = self.usage, self._recorded
        self._recorded = now
        record(STORE_BYTES, now.bytes - before.bytes)
        for limit in ("requests", "bytes"):
            blocked = f"blocked_for_{limit}_seconds"
            record(STORE_BLOCKED, getattr(now, blocked) - getattr(before, blocked), limit=limit)
        flush()

    @property
    def usage(self) -> Usage:
        """What was asked of the store so far, and how long the limits delayed it."""
        return Usage(
            int(self._requests_limit.taken),
            int(self._bytes_limit.taken),
            self._requests_limit.blocked_seconds,
            self._bytes_limit.blocked_seconds,
        )

    @property
    def blocked_seconds(self) -> float:
        """How long the limits of requests and bytes delayed threads so far, summed."""
        return self._requests_limit.blocked_seconds + self._bytes_limit.blocked_seconds

    @property
    def credentials(self) -> str | None:
        """Where the credentials come from, in words that show none; None if there are none."""
        return (
            "none, as a public store" if self.address.anonymous else credentials_kind(self._session)
        )

    def objects(self, prefix: str = "", start_after: str | None = None) -> Iterator[StoreObject]:
        """Every object whose key begins so, in the order of the keys.

        One request for each 1,000 objects, made when they are asked for.

        Args:
            prefix: How keys begin; end it with `/` to mean a folder.
            start_after: Only keys after this one. A folder's name must end with `/`: without it
                SeaweedFS passes over what is in that folder.

        Raises:
            StoreError: See its kinds.
        """
        more = {} if start_after is None else {"StartAfter": self.address.full_key(start_after)}
        for page in self._pages(prefix, **more):
            for each in page.get("Contents", ()):
                key, etag = self._below(each["Key"]), each.get("ETag", "").strip('"')
                if not _ETAG.fullmatch(etag):
                    raise no_etag(self.address.uri_of(key), etag)
                yield StoreObject(key, each["Size"], etag, each["LastModified"])

    def folders(self, prefix: str = "") -> Iterator[str]:
        """The folders directly below a folder, each ending with `/`, in the order of their names.

        Args:
            prefix: The folder, ending with `/`; empty for the top.

        Raises:
            StoreError: See its kinds.
        """
        for page in self._pages(prefix, Delimiter="/"):
            for each in page.get("CommonPrefixes", ()):
                yield self._below(each["Prefix"])

    def _pages(self, prefix: str, **more: str) -> Iterator[ListObjectsV2OutputTypeDef]:
        full = self.address.full_key(prefix)
        request: dict[str, Any] = {"Bucket": self.address.bucket, "Prefix": full, **more}
        pages = self._client.get_paginator("list_objects_v2").paginate(**request)
        try:
            for page in pages:
                if "IsTruncated" not in page:  # a page to log in at would look like no objects
                    raise no_listing(self.address.uri_of(prefix))
                yield page
        except BOTO_ERRORS as error:
            raise store_error(error, self.address.uri_of(prefix)) from None

    def _below(self, key: str) -> str:
        return key[len(self.address.full_key("")) :]

    def download(
        self, object: StoreObject, target: Path, progress: Progress | None = None
    ) -> Downloaded:
        """Download an object to a file that is there whole and verified, or not at all.

        Verified are the size, and the bytes where the ETag is their MD5 or, for an object that was
        uploaded in parts, that of the parts' MD5s. A file that is there is
        replaced; folders and the file are their owner's alone. After a break the next call goes on
        where this one stopped, if the object is still the same.

        Args:
            object: As it was listed; if the store has another one by now, that is an error.
            target: The file to make.
            progress: Called with the number of bytes whenever some have come, the resumed ones too.

        Raises:
            StoreError: See its kinds. Nothing lies at the target that was not there before.
            MachineError, OSError: The object does not fit on the disk, or the folder or file cannot
                be written.
        """
        return download(
            self._reader,
            self._pool,
            self._parallel,
            object,
            self.address.uri_of(object.key),
            target,
            progress,
        )


def open_store(settings: Settings, *, patience: Patience | None = None) -> Store | None:
    """The store that the settings name; None if their lake is a folder.

    Raises:
        StoreError: As `Store` does.
    """
    address = settings.store_address
    if address is None:
        return None
    return Store(
        address,
        requests_per_second=settings.lake_requests_per_second,
        megabytes_per_second=settings.lake_megabytes_per_second,
        parallel_downloads=settings.lake_parallel_downloads,
        patience=patience,
    )
