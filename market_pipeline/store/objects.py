"""What the store holds and what came of a download: plain values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

__all__ = ["Downloaded", "Patience", "StoreObject", "Usage", "may_be_md5"]


@dataclass(frozen=True, slots=True)
class StoreObject:
    """One object as the store lists it.

    Attributes:
        key: Its key below the address's prefix, e.g. `trades/exchange=…/1.snappy.parquet`.
        size: Its bytes.
        etag: What the store calls this content, without quotes; another content has another.
        last_modified: When it was stored, UTC.
    """

    key: str
    size: int
    etag: str
    last_modified: datetime


def may_be_md5(etag: str) -> bool:
    """Whether an ETag looks like an MD5: that of an object of several uploads has a dash."""
    return re.fullmatch(r"[0-9a-f]{32}", etag) is not None


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A finished download.

    Attributes:
        sha256: The hash of the file's bytes, in hexadecimal.
        bytes: The file's size.
        resumed_bytes: How many of them an earlier, broken download had left.
        md5_verified: Whether the ETag is made of MD5s, and of those of the file's bytes.
    """

    sha256: str
    bytes: int
    resumed_bytes: int = 0
    md5_verified: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a store is waited for.

    Attributes:
        attempts: How often a request is made in all, and how often in a row a broken body is gone
            on with before that is an error.
        connect_seconds: The longest wait for a connection.
        read_seconds: The longest wait for the next byte.
        slow_seconds: How long a body may stay below 1,000 bytes a second.
    """

    attempts: int = 5
    connect_seconds: float = 10.0
    read_seconds: float = 60.0
    slow_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a client has asked of the store so far.

    Attributes:
        requests: Requests sent, repeated ones too.
        bytes: Bytes of objects received.
        blocked_for_requests_seconds: How long the limit of requests delayed threads, summed.
        blocked_for_bytes_seconds: How long the limit of bytes did.
    """

    requests: int
    bytes: int
    blocked_for_requests_seconds: float
    blocked_for_bytes_seconds: float
