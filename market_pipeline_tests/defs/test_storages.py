"""The storages of runs and ticks whose connections stay open."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import dagster as dg
import pytest
import sqlalchemy
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus
from dagster._core.storage.runs.sqlite import SqliteRunStorage, sqlite_run_storage
from dagster._core.storage.schedules.sqlite import SqliteScheduleStorage, sqlite_schedule_storage

FILES = ("history/runs.db", "schedules/schedules.db")


@pytest.fixture
def home(dagster_home):
    """`DAGSTER_HOME` with an instance that was opened before."""
    with dg.DagsterInstance.get():
        return dagster_home


def switched_on() -> InstigatorState:
    """A sensor's state, as the daemon writes and reads it at every tick."""
    location = GrpcServerCodeLocationOrigin("localhost", 1, location_name="market_pipeline")
    origin = RemoteInstigatorOrigin(
        RemoteRepositoryOrigin(location, "__repository__"), "golden_books"
    )
    return InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING)


def test_tables_are_looked_for_once(home, monkeypatch):
    """Every tick makes an instance: no further one of a process loads Dagster's migrations."""

    def look(*_: object) -> None:
        raise AssertionError("looked again")

    for module in (sqlite_run_storage, sqlite_schedule_storage):
        monkeypatch.setattr(module, "check_alembic_revision", look)
    with dg.DagsterInstance.get() as again:
        again.add_run(dg.DagsterRun("daily_books"))
        again.add_instigator_state(switched_on())
        assert (1, 1) == (again.get_runs_count(), len(again.all_instigator_state()))


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_gone_is_made_again(home, file):
    """A process that found all tables makes them again where somebody removed the file."""
    (home / file).unlink()
    with dg.DagsterInstance.get() as again:
        assert (0, []) == (again.get_runs_count(), [*again.all_instigator_state()])
    assert (home / file).exists()


@pytest.mark.usefixtures("home")
def test_a_file_is_opened_once():
    """All that an instance reads and writes of runs and ticks goes through one connection each."""
    with dg.DagsterInstance.get() as instance:
        opened, used = [], []
        for storage in (instance._run_storage, instance.schedule_storage):
            sqlalchemy.event.listen(storage._engine, "connect", lambda *_: opened.append(1))
            sqlalchemy.event.listen(storage._engine, "checkout", lambda *_: used.append(1))
        state = switched_on()
        instance.add_instigator_state(state)
        for _ in range(3):
            instance.get_instigator_state(state.instigator_origin_id, state.selector_id)
            instance.update_instigator_state(state)
            instance.get_runs(limit=1)
        assert (2, True) == (len(opened), len(used) > 9)


def test_dagsters_own_storages_read_what_ours_wrote(home):
    """The files are Dagster's, and nobody is kept out of them between two statements."""
    with dg.DagsterInstance.get() as instance:
        instance.add_run(dg.DagsterRun("daily_books"))
        instance.add_instigator_state(switched_on())
        runs = SqliteRunStorage.from_local(str(home / "history"))
        schedules = SqliteScheduleStorage.from_local(str(home / "schedules"))
        assert (1, 1) == (runs.get_runs_count(), len(schedules.all_instigator_state()))
        for file in FILES:
            with closing(sqlite3.connect(home / file, timeout=0)) as other:
                other.execute("BEGIN EXCLUSIVE")
                assert other.in_transaction
