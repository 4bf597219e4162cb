"""Settings of golden samples: what a span must be to pass."""

from __future__ import annotations

from pydantic import Field

from market_pipeline.config.values import Integer, Real, SettingsModel

__all__ = ["GoldenSettings"]


class GoldenSettings(SettingsModel):
    """The section `golden` of the settings; see `market_pipeline.config.settings`."""

    min_hours: Real = Field(
        default=20.0, ge=0, description="The least hours from the first to the last frame."
    )
    min_messages: Integer = Field(
        default=1_000_000, ge=0, description="The least messages, each counted once."
    )
    max_out_of_order: Integer = Field(
        default=0, ge=0, description="The most messages with an id below that of one before."
    )
    max_missing_share: Real = Field(
        default=0.0001,
        ge=0,
        le=1,
        description="The share of ids that are missing has to be below this.",
    )
    min_verified_share: Real = Field(
        default=0.999,
        ge=0,
        le=1,
        description="The least share of the span that ids vouch for, in every stream with ids.",
    )
