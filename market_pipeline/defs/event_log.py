"""The event log of `dagster_home/dagster.yaml`: Dagster's one SQLite file, opened once a process.

Dagster opens and closes the file for every event, and whoever closes it last writes its log of
changes back. A run has some hundred and fifty events: with connections that stay open each takes
half the processor time, and less than half the wall time.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cached_property

import sqlalchemy
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS, create_db_conn_string

__all__ = ["EventLog"]

_NAME = "event_log"


class EventLog(ConsolidatedSqliteEventLogStorage):
    """Dagster's consolidated event log, with connections that are used again."""

    @cached_property
    def _engine(self) -> sqlalchemy.Engine:
        return sqlalchemy.create_engine(
            create_db_conn_string(self._base_dir, _NAME),
            # The web server has a thread for each request under way: none waits for a connection.
            max_overflow=-1,
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
        )

    def run_connection(self, run_id: str | None) -> AbstractContextManager[sqlalchemy.Connection]:
        """A connection inside one transaction, for the events of a run."""
        return self._engine.begin()

    def index_connection(self) -> AbstractContextManager[sqlalchemy.Connection]:
        """A connection inside one transaction, for what is known of assets and checks."""
        return self._engine.begin()

    def dispose(self) -> None:
        """Closes the connections."""
        super().dispose()  # type: ignore[no-untyped-call]  # Dagster's own
        self._engine.dispose()
