"""Where an object store is and how it is spoken to. No secret is part of an address."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["PRESETS", "StoreAddress", "store_address"]

# What S3 allows as the name of a bucket.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A bucket, and the folder in it below which the raw tables lie.

    Attributes:
        bucket: The bucket's name.
        prefix: The folder of the lake in it, without slashes at its ends; empty for the bucket.
        anonymous: Whether requests are unsigned, as a public bucket wants them.
        endpoint_url: The store's own address; None for Amazon's.
        region: The bucket's region; None for what the AWS configuration says.
        ca_bundle: PEM file of the certificate authorities that are trusted; None for the usual.
        tls_minimum: The least version of TLS.
    """

    bucket: str
    prefix: str = ""
    anonymous: bool = False
    endpoint_url: str | None = None
    region: str | None = None
    ca_bundle: Path | None = None
    tls_minimum: Literal["1.2", "1.3"] = "1.3"

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`, without a slash at its end."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def full_key(self, key: str) -> str:
        """The key in the bucket of a key below the prefix."""
        return f"{self.prefix}/{key}" if self.prefix else key

    def uri_of(self, key: str) -> str:
        """The `s3://` address of a key below the prefix."""
        return f"s3://{self.bucket}/{self.full_key(key)}"


PRESETS = {
    # The vendor's free sample days.
    "sample": StoreAddress("sample.crypto.lake", anonymous=True, region="eu-west-1"),
    # What its customers have keys for.
    "crypto-lake": StoreAddress("qnt.data", "market-data/cryptofeed", region="eu-west-1"),
}
"""Stores that have a name of their own."""


def store_address(uri: str) -> StoreAddress | None:
    """The store that a lake's URI names, or None if it names a folder.

    Args:
        uri: `s3://bucket`, `s3://bucket/prefix` or the name of a preset; anything else is a folder.

    Raises:
        ValueError: It begins with `s3:` but is no such address; the text does not show it.
    """
    if uri in PRESETS:
        return PRESETS[uri]
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme.lower() != "s3":
        return None
    bucket, _, prefix = rest.removeprefix("//").partition("/")
    if not rest.startswith("//") or not _BUCKET.fullmatch(bucket):
        raise ValueError("expected `s3://bucket/prefix` with the bucket's name as S3 allows it")
    prefix = prefix.strip("/")
    parts = prefix.split("/") if prefix else []
    if not prefix.isprintable() or any(part in {"", ".", ".."} for part in parts):
        raise ValueError("expected `s3://bucket/prefix` with a prefix of plain folder names")
    return StoreAddress(bucket, prefix)
