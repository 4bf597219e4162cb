"""The other two of Dagster's databases in `dagster_home/dagster.yaml`: runs, and schedules' ticks.

Both are Dagster's own, below the folders they have without configuration; no secret is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from dagster._core.storage.runs.sqlite import SqliteRunStorage
from dagster._core.storage.schedules.sqlite import SqliteScheduleStorage
from dagster._serdes import ConfigurableClassData

from market_pipeline.config.env_copies import note_copies
from market_pipeline.defs.scrubbed_writes import scrub_writes

__all__ = ["RunStorage", "ScheduleStorage"]


class RunStorage(SqliteRunStorage):
    """Dagster's runs, their config and tags: `DAGSTER_HOME/history/runs.db`."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> RunStorage:
        """The storage below the folder `base_dir`."""
        # Every process of Dagster begins with it, also the one that starts all others.
        note_copies()
        return cls.from_local(str(Path(config_value["base_dir"]) / "history"), inst_data)

    @contextmanager
    def connect(self) -> Iterator[sqlalchemy.Connection]:
        """A connection inside one transaction, through which no known secret is written."""
        with super().connect() as connection:
            scrub_writes(connection, guess=False)
            yield connection


class ScheduleStorage(SqliteScheduleStorage):
    """Dagster's sensors and schedules, and their ticks: `DAGSTER_HOME/schedules/schedules.db`."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> ScheduleStorage:
        """The storage below the folder `base_dir`."""
        made = cls.from_local(str(Path(config_value["base_dir"]) / "schedules"), inst_data)
        assert isinstance(made, cls)
        return made

    @contextmanager
    def connect(self) -> Iterator[sqlalchemy.Connection]:
        """A connection inside one transaction, through which no secret is written."""
        with super().connect() as connection:
            scrub_writes(connection)
            yield connection
