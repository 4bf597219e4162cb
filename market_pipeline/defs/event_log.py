"""The event log of `dagster_home/dagster.yaml`: Dagster's one SQLite file, opened once a process.

Dagster opens and closes the file for every event, and whoever closes it last writes its log of
changes back; it asks before many of them which tables and columns there are; and what one event
changes it commits in up to three pieces. A run has some two hundred events: with connections that
stay open, tables that are asked for once and a transaction for each event they take a third of the
processor time. No secret is written.

What a run says and how it ends goes to the log of the process too, so that it stands between the
lines of what its steps called.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from threading import local

import sqlalchemy
from dagster import DagsterEventType, EventLogEntry
from dagster._core.execution.plan.inputs import StepInputData
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._serdes import ConfigurableClassData

from market_pipeline.config.settings import usable_settings
from market_pipeline.defs.databases import has_tables, made_by_one, open_engine
from market_pipeline.telemetry.logs import process_log

__all__ = ["EventLog"]

_MILESTONES = {
    DagsterEventType.RUN_START,
    DagsterEventType.RUN_SUCCESS,
    DagsterEventType.RUN_CANCELED,
    DagsterEventType.STEP_START,
    DagsterEventType.STEP_SUCCESS,
}
"""Dagster logs them, as all that is no failure, for debugging only."""
_GIVEN = {DagsterEventType.LOADED_INPUT, DagsterEventType.STEP_INPUT}
"""That a step was given an input: two events for each, a third of all that a run has."""


_MADE_LAST = "SELECT count(*) FROM alembic_version"
"""Dagster makes this table last, and does not commit the revision that it notes there."""


class _Held(local):
    """The connection whose transaction a thread is in."""

    connection: sqlalchemy.Connection | None = None


class EventLog(ConsolidatedSqliteEventLogStorage):
    """Dagster's consolidated event log, with connections that are used again."""

    _has_later_columns = False

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        with made_by_one(Path(base_dir)):
            super().__init__(base_dir, inst_data)
            # Dagster takes a file for complete that is there: one that a kill left empty, too.
            if not has_tables(Path(base_dir) / "event_log.db", _MADE_LAST):
                self._init_db()  # type: ignore[no-untyped-call]  # Dagster's own

    @cached_property
    def _engine(self) -> sqlalchemy.Engine:
        engine = open_engine(self._conn_string)
        # The daemon and the web server import no code of ours but this.
        process_log.begin(usable_settings()[0], process_log.DAGSTER)
        return engine

    @cached_property
    def _held(self) -> _Held:
        return _Held()

    @cached_property
    def _tables(self) -> set[str]:
        return set()

    @contextmanager
    def _transaction(self) -> Iterator[sqlalchemy.Connection]:
        """A connection inside one transaction: the one that this thread is in, or one of its own.

        What is inside another ends with that: all of it is kept, or nothing.
        """
        if self._held.connection is not None:
            yield self._held.connection
            return
        with self._engine.begin() as connection:
            self._held.connection = connection
            try:
                yield connection
            finally:
                self._held.connection = None

    def run_connection(self, run_id: str | None) -> AbstractContextManager[sqlalchemy.Connection]:
        """A connection inside one transaction, for the events of a run."""
        return self._transaction()

    def index_connection(self) -> AbstractContextManager[sqlalchemy.Connection]:
        """A connection inside one transaction, for what is known of assets and checks."""
        return self._transaction()

    def store_event(self, event: EventLogEntry) -> None:
        """Keeps an event, and what it tells of assets and checks, in one transaction.

        Not that a step was given an input, where it has no metadata: Dagster reads it only to show
        it, and an input that cannot be read or is of a wrong type fails the step.
        """
        if not _says_nothing(event):
            with self._transaction():
                super().store_event(event)
        _note(event)

    def has_table(self, table_name: str) -> bool:
        """Whether a table is there; none ever goes."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def _has_asset_key_index_cols_on_connection(self, conn: sqlalchemy.Connection) -> bool:
        """Whether the table of assets has its later columns; none ever goes."""
        if not self._has_later_columns:
            self._has_later_columns = super()._has_asset_key_index_cols_on_connection(conn)
        return self._has_later_columns

    def dispose(self) -> None:
        """Closes the connections."""
        super().dispose()  # type: ignore[no-untyped-call]  # Dagster's own
        self._engine.dispose()


def _says_nothing(event: EventLogEntry) -> bool:
    of_dagster = event.dagster_event
    if of_dagster is None or of_dagster.event_type not in _GIVEN:
        return False
    given = of_dagster.event_specific_data
    details = given.type_check_data if isinstance(given, StepInputData) else given
    return not any(getattr(details, name, None) for name in ("metadata", "description"))


def _note(event: EventLogEntry) -> None:
    """Has the log say it, too; of Dagster's own events what failed, and the milestones."""
    level, error = int(event.level), event.error_info
    of_dagster = event.dagster_event
    if of_dagster is not None:
        error = getattr(of_dagster.event_specific_data, "error", None) or error
        if of_dagster.event_type in _MILESTONES:
            level = logging.INFO
    process_log.note(
        level,
        "dagster",
        event.message,
        error=error.to_string() if error else "",
        run=event.run_id,
        step=event.step_key or "",
    )
