"""Read a range of an object into memory, going on where a broken connection stopped."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import urllib3
from botocore.exceptions import ClientError

from market_pipeline.config.store_address import StoreAddress
from market_pipeline.errors import StoreError
from market_pipeline.store.faults import BOTO_ERRORS, changed, store_error
from market_pipeline.store.objects import Patience, StoreObject
from market_pipeline.store.rate_limits import TokenBucket

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, GetObjectRequestTypeDef

__all__ = ["Part", "RangeReader", "Stopped"]

_CHUNK_BYTES = 256 << 10
_SLOWEST_BYTES_PER_SECOND = 1_000
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.25, 20.0

# Keys the store does not hand out with the object: its ETag is then no MD5 of the bytes.
_KEY_SERVICES = {"aws:kms", "aws:kms:dsse"}


class Stopped(Exception):
    """The download this range belongs to was given up."""


class _Cut(Exception):
    """The connection broke or stood still before the range's end."""


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes of a range, and whether the store says that its ETag cannot be their MD5."""

    data: bytearray
    own_key: bool


class RangeReader:
    """Reads ranges of objects; safe for many threads."""

    def __init__(
        self,
        client: S3Client,
        address: StoreAddress,
        patience: Patience,
        bytes_limit: TokenBucket,
    ) -> None:
        self._client = client
        self._address = address
        self._patience = patience
        self._bytes_limit = bytes_limit

    def read(
        self,
        object: StoreObject,
        start: int,
        stop: int,
        arrived: Callable[[int], None],
        given_up: threading.Event,
    ) -> Part:
        """The bytes from `start` up to and without `stop`.

        Args:
            object: Whose bytes; they are taken only while it has this ETag and size.
            start, stop: Byte offsets; `start == stop` only for an empty object.
            arrived: Called with the number of bytes whenever some have come.
            given_up: Once set, no more is read.

        Raises:
            StoreError: See its kinds.
            Stopped: `given_up` was set.
        """
        uri = self._address.uri_of(object.key)
        data = bytearray(stop - start)
        got, failures, own_key = 0, 0, False
        while not given_up.is_set():
            before = got
            try:
                response = self._ask(object, start + got, stop, uri)
                own_key = own_key or _has_own_key(response)
                for count in self._body(response, memoryview(data)[got:], given_up):
                    got += count
                    arrived(count)
                return Part(data, own_key)
            except _Cut as error:
                failures = 1 if got - before >= _CHUNK_BYTES else failures + 1
                if failures >= self._patience.attempts:
                    raise _cut(uri, str(error), start + got, object.size) from None
            given_up.wait(_wait_seconds(failures))
        raise Stopped

    def uploaded_part_bytes(self, object: StoreObject, number: int, count: int) -> int | None:
        """The size of a part in which the object was uploaded; None if the store does not tell.

        Args:
            object: An object that was uploaded in parts.
            number: Which part, from 1.
            count: How many there are; a store that says something else does not tell.

        Raises:
            StoreError: The store cannot be asked, or has another object by now.
        """
        try:
            head = self._client.head_object(
                Bucket=self._address.bucket,
                Key=self._address.full_key(object.key),
                IfMatch=f'"{object.etag}"',
                PartNumber=number,
            )
        except BOTO_ERRORS as error:
            refused = store_error(error, self._address.uri_of(object.key))
            if isinstance(error, ClientError) and refused.kind in {"forbidden", "missing"}:
                return None  # it gave the bytes but does not know of parts
            raise refused from None
        return head["ContentLength"] if head.get("PartsCount") == count else None

    def _ask(self, object: StoreObject, start: int, stop: int, uri: str) -> GetObjectOutputTypeDef:
        request: GetObjectRequestTypeDef = {
            "Bucket": self._address.bucket,
            "Key": self._address.full_key(object.key),
            "IfMatch": f'"{object.etag}"',
        }
        if stop > start:  # an empty object has no range
            request["Range"] = f"bytes={start}-{stop - 1}"
        try:
            response = self._client.get_object(**request)
        except BOTO_ERRORS as error:
            raise store_error(error, uri) from None
        difference = _what_differs(response, object, start, stop)
        if difference:
            response["Body"].close()
            raise changed(uri, difference)
        return response

    def _body(
        self, response: GetObjectOutputTypeDef, view: memoryview, given_up: threading.Event
    ) -> Iterator[int]:
        """Fill the view, and give the number of bytes after each piece."""
        got, watch = 0, _Pace(self._patience.slow_seconds)
        raw: urllib3.HTTPResponse
        with response["Body"] as raw:  # type: ignore[assignment]  # the stubs miss what it enters
            while got < len(view):
                began = time.monotonic()
                try:
                    piece = raw.read1(min(_CHUNK_BYTES, len(view) - got))
                except (urllib3.exceptions.HTTPError, OSError) as error:
                    raise _Cut(type(error).__name__) from None
                if not piece:
                    raise _Cut("the body ended early")
                if given_up.is_set():
                    raise Stopped
                view[got : got + len(piece)] = piece
                got += len(piece)
                yield len(piece)
                watch.saw(len(piece), time.monotonic() - began)
                self._bytes_limit.take(len(piece))


class _Pace:
    """Notices a body that trickles; time in which nobody waited for the store does not count."""

    def __init__(self, slow_seconds: float) -> None:
        self._slow_seconds = slow_seconds
        self._bytes, self._seconds = 0, 0.0

    def saw(self, count: int, seconds: float) -> None:
        self._bytes += count
        self._seconds += seconds
        if self._seconds < self._slow_seconds:
            return
        if self._bytes < self._slow_seconds * _SLOWEST_BYTES_PER_SECOND:
            raise _Cut(f"below {_SLOWEST_BYTES_PER_SECOND:,} bytes a second")
        self._bytes, self._seconds = 0, 0.0


def _what_differs(
    response: GetObjectOutputTypeDef, object: StoreObject, start: int, stop: int
) -> str:
    """In which part an answer is not about the object that was listed; empty if in none."""
    etag = response.get("ETag", "").strip('"')
    if etag != object.etag:
        return f"ETag {etag or 'missing'} instead of {object.etag}"
    length = response["ContentLength"]
    if length != stop - start:
        return f"{length} bytes where {stop - start} were asked for"
    if stop > start:
        expected = f"bytes {start}-{stop - 1}/{object.size}"
        content_range = response.get(
            "ContentRange", expected if stop - start == object.size else "no range"
        )
        if content_range != expected:
            return f"{content_range} instead of {expected}"
    return ""


def _has_own_key(response: GetObjectOutputTypeDef) -> bool:
    return (
        response.get("ServerSideEncryption") in _KEY_SERVICES or "SSECustomerAlgorithm" in response
    )


def _wait_seconds(failures: int) -> float:
    longest = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0**failures)
    return longest * random.uniform(0.5, 1.0)


def _cut(uri: str, reason: str, offset: int, size: int) -> StoreError:
    return StoreError(
        f"the connection to the store kept breaking at byte {offset:,} of {size:,}",
        kind="cut",
        next_step="Run this again: it goes on where it stopped.",
        uri=uri,
        found=reason,
    )
