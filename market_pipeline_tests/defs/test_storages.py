"""The storages of runs and ticks whose connections stay open."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier

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

from market_pipeline_tests.defs.workspace import forks

FILES = ("history/runs.db", "schedules/schedules.db")
ALL_FILES = (*FILES, "event_log.db")


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


def used(instance: dg.DagsterInstance, name: str) -> tuple[int, int, int]:
    """Writes to all three files; how many such runs, sensors and events there are."""
    instance.add_run(dg.DagsterRun(name))
    instance.update_instigator_state(switched_on())
    instance.report_engine_event(name, dg.DagsterRun(name, run_id=name))
    runs = instance.get_runs(dg.RunsFilter(job_name=name))
    return len(runs), len(instance.all_instigator_state()), len(instance.all_logs(name))


@pytest.mark.parametrize("left", [None, b""])
@pytest.mark.parametrize("file", ALL_FILES)
def test_a_file_that_is_gone_is_made_again(home, file, left):
    """A process makes tables again where somebody removed the file, or a kill left it empty."""
    (home / file).unlink()
    if left is not None:
        (home / file).write_bytes(left)
    with dg.DagsterInstance.get() as again:
        again.add_instigator_state(switched_on())
        assert (1, 1, 1) == used(again, "again")


def started(function: Callable[..., None], *arguments: object) -> BaseProcess:
    """A process of its own, which calls a function in the environment of this one."""
    process = forks().Process(target=_call, args=(dict(os.environ), function, arguments))
    process.start()
    return process


def _call(environment: dict[str, str], function: Callable[..., None], arguments: tuple) -> None:
    os.environ.clear()
    os.environ.update(environment)
    function(*arguments)


def die_before_making(table: str) -> None:
    def die(_: object, __: object, statement: str, *___: object) -> None:
        if f"CREATE TABLE {table} " in statement:
            os._exit(9)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", die)
    dg.DagsterInstance.get()


@pytest.mark.usefixtures("dagster_home")
@pytest.mark.parametrize("table", ["event_logs", "pending_steps"])
def test_a_kill_while_tables_are_made(table):
    """What a kill leaves of the first start the next process completes."""
    killed = started(die_before_making, table)
    killed.join()
    assert 9 == killed.exitcode
    with dg.DagsterInstance.get() as instance:
        instance.add_instigator_state(switched_on())
        assert (1, 1, 1) == used(instance, "next")


def add_a_run(all_ready: Barrier) -> None:
    all_ready.wait()
    dg.DagsterInstance.get().add_run(dg.DagsterRun("first"))


@pytest.mark.usefixtures("dagster_home")
def test_processes_that_are_first_at_once():
    """One makes the tables of a new home, and the others wait for it."""
    all_ready = forks().Barrier(3)
    processes = [started(add_a_run, all_ready) for _ in range(3)]
    for each in processes:
        each.join()
    assert [0, 0, 0] == [each.exitcode for each in processes]
    with dg.DagsterInstance.get() as instance:
        assert 3 == instance.get_runs_count()


def test_what_is_open_follows_the_file(home):
    """An instance writes where all others do after the files were removed and made again."""
    with dg.DagsterInstance.get() as instance:
        instance.add_instigator_state(switched_on())
        used(instance, "before")
        for file in ALL_FILES:
            for each in (home / file).parent.glob("*.db*"):
                each.unlink()
        with dg.DagsterInstance.get() as other:
            other.add_instigator_state(switched_on())
            assert (1, 1, 1) == used(instance, "after")
            assert 1 == len(other.get_runs()) == len(other.all_logs("after"))


@pytest.mark.usefixtures("home")
def test_what_a_fork_writes_stays():
    """A fork opens the files itself: who closes a file last removes what it has written there."""
    with dg.DagsterInstance.get() as instance:
        instance.add_instigator_state(switched_on())
        used(instance, "parent")
        of_fork, of_parent = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            used(instance, "first")
            os.write(of_fork[1], b"-")
            os.read(of_parent[0], 1)
            os._exit(used(instance, "second") != (1, 1, 1))
        os.read(of_fork[0], 1)
    os.write(of_parent[1], b"-")
    assert 0 == os.waitpid(child, 0)[1]
    with dg.DagsterInstance.get() as again:
        assert (3, 1) == (again.get_runs_count(), len(again.all_logs("second")))


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
