"""The event log of `dagster_home/dagster.yaml`: Dagster's one SQLite file, opened once a process.

Dagster opens and closes the file for every event, and whoever closes it last writes its log of
changes back; it asks before many of them which tables and columns there are; and what one event
changes it commits in up to three pieces. A run has some two hundred events: with connections that
stay open, tables that are asked for once and a transaction for each event they take a third of the
processor time. No secret is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from threading import local

import sqlalchemy
from dagster import EventLogEntry
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS, create_db_conn_string

from market_pipeline.defs.scrubbed_writes import scrub_writes

__all__ = ["EventLog"]

_NAME = "event_log"


class _Held(local):
    """The connection whose transaction a thread is in."""

    connection: sqlalchemy.Connection | None = None


class EventLog(ConsolidatedSqliteEventLogStorage):
    """Dagster's consolidated event log, with connections that are used again."""

    _has_later_columns = False

    @cached_property
    def _engine(self) -> sqlalchemy.Engine:
        engine = sqlalchemy.create_engine(
            create_db_conn_string(self._base_dir, _NAME),
            # The web server has a thread for each request under way: none waits for a connection.
            max_overflow=-1,
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
        )
        scrub_writes(engine)
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
        """Keeps an event, and what it tells of assets and checks, in one transaction."""
        with self._transaction():
            super().store_event(event)

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
