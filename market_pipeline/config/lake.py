"""Settings of where raw days come from, a folder or an object store, and where they are kept."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator

from market_pipeline.config.addresses import OptionalEndpoint
from market_pipeline.config.store_address import StoreAddress, store_address
from market_pipeline.config.transport import TransportSettings
from market_pipeline.config.values import (
    DataPath,
    Integer,
    OptionalPath,
    OptionalText,
    Real,
    absolute_path,
    filled_path,
)

__all__ = ["LakeSettings"]


def _lake_folder(uri: str) -> Path:
    """The folder a lake URI names, or ValueError with the reason it cannot be used."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/", uri)
    if scheme is None:
        return absolute_path(Path(uri))
    name = scheme[1].lower()
    if name != "file":
        raise ValueError(
            "expected a folder path, `file:///…`, `s3://bucket/prefix` or the name of a preset, "
            f"but the scheme is `{name}`"
        )
    parts = urlsplit(uri)
    if parts.netloc not in {"", "localhost"}:
        raise ValueError("expected `file:///folder` with three slashes: a host cannot be read")
    folder = Path(unquote(parts.path))
    if not folder.is_absolute():
        raise ValueError("expected an absolute folder after `file://`")
    return folder


def _lake_below_data_dir(earlier: dict[str, Any]) -> str:
    # `data_dir` is absent when it was itself refused; that problem is the one to report.
    return str(Path(earlier.get("data_dir", "data")) / "lake")


class LakeSettings(TransportSettings):
    """The part of the settings that is about the lake; see `Settings`."""

    data_dir: DataPath = Field(
        default=Path("data"),
        description=(
            "The folder for everything the pipeline writes: published tables, the warehouse, "
            "checkpoints. A relative path counts from the current folder. It holds no %, ? or "
            "backslash, which libraries misread."
        ),
    )
    lake_uri: str = Field(
        default_factory=_lake_below_data_dir,
        description=(
            "Where raw days come from: a folder path or file:///folder, which is only ever read; "
            "s3://bucket/prefix; or the name of a store, sample or crypto-lake. Days of a store "
            "are kept in the folder lake inside data_dir."
        ),
    )
    lake_anonymous: bool = Field(
        default=False,
        description="Whether the store is asked without credentials, as a public one wants it.",
    )
    lake_endpoint_url: OptionalEndpoint = Field(
        default=None,
        description="The address of a store that is not Amazon's: https://host or https://host:port.",
    )
    lake_region: OptionalText = Field(
        default=None,
        pattern=r"^[A-Za-z0-9-]+$",
        description="The region of the store's bucket; without it the AWS configuration decides.",
    )
    lake_ca_bundle: OptionalPath = Field(
        default=None,
        description=(
            "A PEM file with the certificate authorities to trust for the store, instead of the "
            "usual ones."
        ),
    )
    lake_requests_per_second: Real = Field(
        default=0.0, ge=0, description="The most requests a second to the store; 0 means no limit."
    )
    lake_megabytes_per_second: Real = Field(
        default=0.0,
        ge=0,
        description="The most megabytes a second from the store; 0 means no limit.",
    )
    lake_parallel_downloads: Integer = Field(
        default=4,
        ge=1,
        le=64,
        description="How many requests to the store may be under way at once.",
    )
    lake_horizon_days: Integer = Field(
        default=14,
        ge=0,
        le=3_660,
        description=(
            "How many days before yesterday the sensor looks for in the store, to run those that "
            "are missing or were corrected; 0 means yesterday only."
        ),
    )

    @field_validator("lake_uri", mode="before")
    @classmethod
    def _usable_lake(cls, value: object) -> object:
        if isinstance(value, Path):
            value = str(value)
        if not isinstance(value, str):
            return value  # the type itself is refused next
        filled_path(value)
        if store_address(value) is not None:
            return value
        folder = _lake_folder(value)
        # A relative folder is fixed now: the process may change its current folder later.
        return value if value.lower().startswith("file:") else str(folder)

    @property
    def store_address(self) -> StoreAddress | None:
        """The object store that `lake_uri` names; None if it is a folder."""
        address = store_address(self.lake_uri)
        if address is None:
            return None
        return replace(
            address,
            anonymous=address.anonymous or self.lake_anonymous,
            endpoint_url=self.lake_endpoint_url,
            region=self.lake_region or address.region,
            ca_bundle=self.lake_ca_bundle,
            tls_minimum=self.tls_minimum,
        )

    @property
    def lake_path(self) -> Path:
        """The absolute folder of the raw days: what `lake_uri` names, or where a store's lie."""
        if store_address(self.lake_uri) is not None:
            return self.data_dir / "lake"
        return _lake_folder(self.lake_uri)
