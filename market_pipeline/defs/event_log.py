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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from threading import local
from typing import Any

import sqlalchemy
from dagster import AssetKey, DagsterEventType, EventLogEntry, EventLogRecord
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


_NEWEST_TAG = """
SELECT value FROM asset_event_tags
WHERE key = ? AND event_id = (
    SELECT max(id) FROM event_logs
    WHERE asset_key = ? AND dagster_event_type = ? AND partition = ?
) AND NOT EXISTS (SELECT 1 FROM asset_keys WHERE asset_key = ? AND asset_details IS NOT NULL)
"""
"""Of an asset that was never wiped, which its details would say."""


class _Held(local):
    """The connection whose transaction a thread is in."""

    connection: sqlalchemy.Connection | None = None


class EventLog(ConsolidatedSqliteEventLogStorage):
    """Dagster's consolidated event log, with connections that are used again."""

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

    @cached_property
    def _columns(self) -> set[str]:
        return set()

    @cached_property
    def _newest(self) -> dict[AssetKey, tuple[str, EventLogRecord]]:
        return {}

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

    def _has_asset_key_col_on_connection(
        self, conn: sqlalchemy.Connection, column_name: str
    ) -> bool:
        """Whether the table of assets has a column; none ever goes."""
        if column_name not in self._columns:
            if not super()._has_asset_key_col_on_connection(conn, column_name):
                return False
            self._columns.add(column_name)
        return True

    def get_latest_tags_by_partition(
        self,
        asset_key: AssetKey,
        event_type: DagsterEventType,
        tag_keys: Sequence[str],
        asset_partitions: Sequence[str] | None = None,
        before_cursor: int | None = None,
        after_cursor: int | None = None,
    ) -> Mapping[str, Mapping[str, str]]:
        """By partition, the tags of the newest event, of which each step asks for each input.

        Dagster's own answers what is not asked of one partition and one tag, or has no answer.
        """
        partitions = asset_partitions or ()
        if len(partitions) == len(tag_keys) == 1 and before_cursor is after_cursor is None:
            (tag,), (partition,), asset = tag_keys, partitions, asset_key.to_string()
            wanted = (tag, asset, event_type.value, partition, asset)
            with self.index_connection() as connection:
                found = connection.exec_driver_sql(_NEWEST_TAG, wanted).scalar()
            if found is not None:
                return {partition: {tag: found}}
        return super().get_latest_tags_by_partition(
            asset_key, event_type, tag_keys, asset_partitions, before_cursor, after_cursor
        )

    def _get_asset_entry_values(
        self, event: EventLogEntry, event_id: int, has_asset_key_index_cols: bool
    ) -> dict[str, Any]:
        """What the table of assets is to have of an event."""
        values = super()._get_asset_entry_values(event, event_id, has_asset_key_index_cols)
        of_dagster = event.dagster_event
        if "last_materialization" in values and of_dagster and of_dagster.asset_key:
            as_kept = values["last_materialization"], EventLogRecord(event_id, event)
            self._newest[of_dagster.asset_key] = as_kept
        return values

    def _get_latest_materialization_records(
        self, raw_asset_rows: Iterable[Any]
    ) -> Mapping[AssetKey, EventLogRecord | None]:
        """By asset, its newest materialization: what this process wrote as it is, the rest read.

        Each step asks for those of all its inputs, which have what the UI shows of them.
        """
        found: dict[AssetKey, EventLogRecord | None] = {}
        others = []
        for row in raw_asset_rows:
            asset = AssetKey.from_db_string(row["asset_key"])
            text, record = self._newest.get(asset, ("", None)) if asset else ("", None)
            # One with details was wiped once, and what came before that counts no more.
            if asset and text == row["last_materialization"] and row["asset_details"] is None:
                found[asset] = record
            else:
                others.append(row)
        if others:
            found |= super()._get_latest_materialization_records(others)
        return found

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
