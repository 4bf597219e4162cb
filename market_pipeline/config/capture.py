"""Settings of the live capture: what is recorded, over which connections, and within which limits.

Durations are settings, so that a day's life of a connection can be lived in a test in seconds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from market_pipeline.config.values import Integer, OptionalPath, OptionalText, Real

__all__ = ["CaptureSettings"]

Stream = Literal["depth", "trades", "agg_trades", "quotes", "klines", "funding"]


def _texts(value: object) -> object:
    """The texts of a list with commas, as the environment has it; others as they are."""
    if isinstance(value, str):
        return [each.strip() for each in value.split(",") if each.strip()]
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_texts)]


class CaptureSettings(BaseModel):
    """The section `capture` of the settings; see `market_pipeline.config.settings`."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True
    )

    venue: OptionalText = Field(
        default=None, description="The venue to record, such as binance_spot."
    )
    symbols: Names = Field(
        default=(), description="What to record, as the venue spells it, separated by commas."
    )
    streams: Annotated[tuple[Stream, ...], BeforeValidator(_texts)] = Field(
        default=("depth", "trades"),
        description=(
            "Streams of each symbol, separated by commas: depth, trades, agg_trades, quotes, "
            "klines, funding."
        ),
    )
    redundancy: Integer = Field(
        default=2,
        ge=1,
        le=4,
        description="Connections that receive the same streams; what one loses another may have.",
    )
    websocket_urls: Names = Field(
        default=(),
        description=(
            "Base addresses of the streams, the primary first and its backups after it, separated "
            "by commas; without them those of the venue."
        ),
    )
    rest_url: OptionalText = Field(
        default=None,
        description="The base address of REST snapshots; without it that of the venue.",
    )
    ca_bundle: OptionalPath = Field(
        default=None,
        description="A PEM file of authorities to trust for the venue, instead of the usual ones.",
    )
    connect_timeout_seconds: Real = Field(
        default=10.0, gt=0, description="Seconds for a connection to be open and subscribed."
    )
    renewal_seconds: Real = Field(
        default=82_800.0,
        gt=0,
        description=(
            "Seconds until a connection is replaced by a new one, which receives before the old "
            "one is closed; the ages of redundant connections are spread over them."
        ),
    )
    retry_first_seconds: Real = Field(
        default=0.5,
        gt=0,
        description="The longest first wait before connecting again; each later one is doubled.",
    )
    retry_longest_seconds: Real = Field(
        default=30.0, gt=0, description="The longest wait before connecting again."
    )
    breaker_failures: Integer = Field(
        default=3,
        ge=1,
        description="Failures in a row after which an endpoint is left for the next one.",
    )
    breaker_seconds: Real = Field(
        default=60.0,
        gt=0,
        description="Seconds until an endpoint that was left is used again, the primary first.",
    )
    silent_warning_seconds: Real = Field(
        default=120.0,
        gt=0,
        description=(
            "Seconds of silence after which a stream is warned of; less for a stream whose 20 "
            "usual intervals are less."
        ),
    )
    silent_error_seconds: Real = Field(
        default=300.0,
        gt=0,
        description="Seconds of silence after which a stream is an error and is connected anew.",
    )
    fill_ms: Real = Field(
        default=500.0,
        ge=0,
        description=(
            "Milliseconds to wait for another connection to have what one has lost, before it is "
            "recorded as a gap."
        ),
    )
    snapshot_seconds: Real = Field(
        default=300.0,
        gt=0,
        description="Seconds between two REST snapshots of a book, where the venue has them.",
    )
    clock_seconds: Real = Field(
        default=3600.0, gt=0, description="Seconds between two looks at the clock's state."
    )
    flush_ms: Real = Field(
        default=5.0, gt=0, description="Milliseconds until a frame is given to the system."
    )
    sync_seconds: Real = Field(
        default=1.0, gt=0, description="Seconds between two syncs: the most a power cut may take."
    )
    status_seconds: Real = Field(
        default=1.0, gt=0, description="Seconds between two states of the capture that are shown."
    )
