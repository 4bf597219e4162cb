"""The event log whose connections stay open."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage

from market_pipeline.defs.event_log import EventLog


@dg.asset
def price() -> int:
    """An asset with an event or two."""
    return 1


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance on disk with our event log, as dagster_home/dagster.yaml asks for it."""
    storage = {
        "module": "market_pipeline.defs.event_log",
        "class": "EventLog",
        "config": {"base_dir": str(tmp_path)},
    }
    with dg.DagsterInstance.local_temp(str(tmp_path), {"event_log_storage": storage}) as made:
        yield made


def stored(storage: ConsolidatedSqliteEventLogStorage, run_id: str) -> list[str]:
    return [each.event_log_entry.message for each in storage.get_records_for_run(run_id).records]


class TestEventLog:
    def test_a_run_opens_the_file_once(self, instance):
        """All events of a run, each in a transaction of its own, go through one connection."""
        log = instance.event_log_storage
        assert isinstance(log, EventLog)
        opened, used = [], []
        sqlalchemy.event.listen(log._engine, "connect", lambda *_: opened.append(1))
        sqlalchemy.event.listen(log._engine, "checkout", lambda *_: used.append(1))
        assert dg.materialize([price], instance=instance).success
        assert (True, True) == (len(opened) <= 1, len(used) > 9)

    def test_dagsters_own_log_reads_what_it_wrote(self, instance, tmp_path):
        """The file is Dagster's: its own class reads every event from it."""
        run_id = dg.materialize([price], instance=instance).run_id
        own = ConsolidatedSqliteEventLogStorage(str(tmp_path))
        ours = stored(instance.event_log_storage, run_id)
        assert (ours, True) == (stored(own, run_id), len(ours) > 5)

    def test_keeps_nobody_out_between_events(self, instance, tmp_path):
        """A connection that stays open has no transaction: another process may lock the file."""
        dg.materialize([price], instance=instance)
        with closing(sqlite3.connect(tmp_path / "event_log.db", timeout=0)) as other:
            other.execute("BEGIN EXCLUSIVE")
            assert other.in_transaction

    def test_a_failed_transaction_leaves_nothing(self, instance):
        """What raises inside a transaction is rolled back, and the connection is used again."""
        log = instance.event_log_storage
        count = "SELECT count(*) FROM event_logs"

        def fail() -> None:
            with log.index_connection() as connection:
                connection.exec_driver_sql("DELETE FROM event_logs")
                raise RuntimeError

        dg.materialize([price], instance=instance)
        with log.index_connection() as connection:
            before = connection.exec_driver_sql(count).scalar()
        with pytest.raises(RuntimeError):
            fail()
        with log.index_connection() as connection:
            assert (before, True) == (connection.exec_driver_sql(count).scalar(), before > 0)

    def test_disposing_closes_the_file(self, instance):
        """Nothing stays open behind an instance that ended."""
        log = instance.event_log_storage
        dg.materialize([price], instance=instance)
        opened = log._engine.pool.checkedin()
        log.dispose()
        assert (1, 0) == (opened, log._engine.pool.checkedin())
