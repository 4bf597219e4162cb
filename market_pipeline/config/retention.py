"""Settings of what is kept how long."""

from __future__ import annotations

from pydantic import BaseModel, Field

from market_pipeline.config.values import OptionalInteger

__all__ = ["RetentionSettings"]


class RetentionSettings(BaseModel):
    """The part of the settings that is about what `prune` removes; see `Settings`."""

    keep_raw_days: OptionalInteger = Field(
        default=None,
        ge=1,
        description=(
            "Days that raw files of a store, and converted files, are kept locally before `prune` "
            "removes them; without it for ever. A lake that is a folder is never touched."
        ),
    )
    keep_derived_days: OptionalInteger = Field(
        default=None,
        ge=1,
        description=(
            "Days that published tables are kept before `prune` removes them; without it for ever."
        ),
    )
    keep_run_days: OptionalInteger = Field(
        default=None,
        ge=1,
        description=(
            "Days that the history of runs is kept before `prune` removes it, but for the last "
            "run that made a published day; without it for ever."
        ),
    )
