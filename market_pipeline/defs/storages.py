"""The other two of Dagster's databases in `dagster_home/dagster.yaml`: runs, and schedules' ticks.

Both are Dagster's own, below the folders they have without configuration; no secret is written.

Dagster makes an instance for every tick of a sensor, and looks in each whether the files have their
tables, for which it loads the scripts of all its migrations; and it opens and closes a file for
every statement. That was half of what a daemon at rest takes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import sqlalchemy
from dagster._core.storage.runs.sqlite import SqliteRunStorage
from dagster._core.storage.schedules.sqlite import SqliteScheduleStorage
from dagster._core.storage.sqlite import create_db_conn_string
from dagster._serdes import ConfigurableClassData

from market_pipeline.config.env_copies import note_copies
from market_pipeline.defs.databases import has_tables, made_by_one, open_engine

__all__ = ["RunStorage", "ScheduleStorage"]

_Storage = TypeVar("_Storage", "RunStorage", "ScheduleStorage")
_REVISION = "SELECT version_num FROM alembic_version"
"""Dagster notes it when the tables are made."""
_LATER = " LEFT JOIN instance_info"
"""The one table of the runs that came without a revision."""


def _opened(
    kind: type[_Storage],
    folder: Path,
    name: str,
    query: str,
    inst_data: ConfigurableClassData | None,
) -> _Storage:
    """The storage in `folder`, whose tables Dagster makes where they are not all there."""
    with made_by_one(folder):
        if not has_tables(folder / f"{name}.db", query):
            kind.from_local(str(folder), inst_data)
    return kind(create_db_conn_string(str(folder), name), inst_data)


class _StaysOpen:
    """Connections to one file that are used again, each inside one transaction at a time."""

    _conn_string: str
    _guess: ClassVar[bool] = True

    @cached_property
    def _engine(self) -> sqlalchemy.Engine:
        engine = open_engine(self._conn_string, guess=self._guess)
        # An instance disposes of its runs, and not of its schedules.
        weakref.finalize(self, engine.dispose)
        return engine

    @contextmanager
    def connect(self) -> Iterator[sqlalchemy.Connection]:
        """A connection inside one transaction, through which no secret is written."""
        with self._engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        """Closes the connections."""
        self._engine.dispose()


class RunStorage(_StaysOpen, SqliteRunStorage):
    """Dagster's runs, their config and tags: `DAGSTER_HOME/history/runs.db`."""

    _guess = False

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> RunStorage:
        """The storage below the folder `base_dir`."""
        # Every process of Dagster begins with it, also the one that starts all others.
        note_copies()
        folder = Path(config_value["base_dir"]) / "history"
        return _opened(cls, folder, "runs", _REVISION + _LATER, inst_data)


class ScheduleStorage(_StaysOpen, SqliteScheduleStorage):
    """Dagster's sensors and schedules, and their ticks: `DAGSTER_HOME/schedules/schedules.db`."""

    @cached_property
    def _found(self) -> set[str]:
        return set()

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> ScheduleStorage:
        """The storage below the folder `base_dir`."""
        folder = Path(config_value["base_dir"]) / "schedules"
        return _opened(cls, folder, "schedules", _REVISION, inst_data)

    def has_instigators_table(self) -> bool:
        """Whether the table of what is on and off is there; it never goes."""
        return self._remembered("", super().has_instigators_table)

    def has_built_index(self, migration_name: str) -> bool:
        """Whether what a migration adds is there; it never goes."""
        return self._remembered(migration_name, partial(super().has_built_index, migration_name))

    def _remembered(self, name: str, is_there: Callable[[], bool]) -> bool:
        if name not in self._found and is_there():
            self._found.add(name)
        return name in self._found
