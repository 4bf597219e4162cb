"""Settings of backups: where they lie, how many states there are, and who says when one ended."""

from __future__ import annotations

from pydantic import BaseModel, Field

from market_pipeline.config.values import Integer, OptionalPath

__all__ = ["BackupSettings"]


class BackupSettings(BaseModel):
    """The part of the settings that is about backups; see `Settings`."""

    backup_folder: OptionalPath = Field(
        default=None,
        description=(
            "Where `market-pipeline backup` puts what it copies: a folder that is there, outside "
            "of the data folder and best on another machine's disk."
        ),
    )
    backup_states: Integer = Field(
        default=14,
        ge=1,
        description="How many states of what changes are kept there, the newest ones.",
    )
    backup_stamp: OptionalPath = Field(
        default=None,
        description=(
            "A file that your backup touches when it has ended well: `market-pipeline health` "
            "warns when that is more than 26 h ago. Without it the one that `market-pipeline "
            "backup` touches, if there is a backup_folder."
        ),
    )
