from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from market_pipeline.sources.simulated import simulate
from market_pipeline.tables import TABLES, open_catalogue
from market_pipeline.warehouse.delta import delta_table
from market_pipeline.warehouse.publish import vacuum
from market_pipeline.warehouse.read import current_files
from market_pipeline.warehouse.staging import sweep_staging
from market_pipeline_tests.defs.workspace import (
    NOT_ASKED_FOR,
    Finished,
    Running,
    Workspace,
    days_arguments,
    raw_file,
)
from market_pipeline_tests.sources.simulated.days import DAY, NEXT_DAY, instrument

pytestmark = pytest.mark.slow

BIG = tuple(table for table in TABLES.values() if table.storage == "delta")
SYMBOLS = ("ONE-USD", "TWO-USD")
SMALL = {"messages_per_day": 3_000, "snapshot_interval_s": 20.0}
QUICK = {"PIPELINE_CHECKPOINT_SECONDS": "21600", "PIPELINE_DEPTH_INTERVAL_MS": "60000"}
BOOKS = """
SELECT symbol, count(*)::BIGINT, sum(sequence_number)::VARCHAR FROM books.bbo
WHERE dt = DATE '2025-03-03' GROUP BY ALL ORDER BY ALL
"""
JOINED = """
SELECT count(*), count(report.condition) FROM books.bbo
LEFT JOIN quality.validation_report AS report USING (exchange, symbol, dt)
"""


@dataclass(frozen=True)
class Version:
    """A state of the raw day, and what an undisturbed run makes of it.

    Attributes:
        lake: Where the raw day lies.
        published: The digest of each table's partition.
        books: What the query BOOKS returns.
    """

    lake: Path
    published: dict[str, str]
    books: list[list[Any]]


def rows(path: Path, query: str) -> list[list[Any]]:
    """What a plain DuckDB, opened afresh and read-only, returns."""
    with duckdb.connect(str(path), read_only=True) as connection:
        return [list(row) for row in connection.execute(query).fetchall()]


def read_over_and_over(catalogue: str, stop: str) -> None:
    """Reads until told to stop, and prints what each reading saw; runs in a process of its own."""
    seen: list[list[Any]] = []
    joins = [0, 0]
    while not Path(stop).exists():
        found = rows(Path(catalogue), BOOKS)
        if not seen or seen[-1] != found:
            seen.append(found)
        ((all_rows, with_report),) = rows(Path(catalogue), JOINED)
        joins[all_rows != with_report] += 1
        time.sleep(0.5)
    json.dump({"seen": seen, "whole": joins[0], "torn": joins[1]}, sys.stdout)


@contextmanager
def reader(workspace: Workspace) -> Iterator[list[dict[str, Any]]]:
    """Another process that reads the catalogue all the while; what it saw is there at the end."""
    stop = workspace.root / "stop"
    stop.unlink(missing_ok=True)
    running = workspace.call(read_over_and_over, str(workspace.warehouse.catalogue), str(stop))
    said: list[dict[str, Any]] = []
    try:
        yield said
    finally:
        stop.touch()
        finished = running.finish()
    assert (0, "") == (finished.exit_code, finished.errors)
    said.append(json.loads(finished.output))


@pytest.fixture(scope="module")
def lakes(tmp_path_factory) -> tuple[Path, Path]:
    """Two days of two instruments, as delivered first and as the vendor corrected them."""
    root = tmp_path_factory.mktemp("lakes")
    for name, seed in (("first", 7), ("corrected", 8)):
        markets = [instrument(symbol, seed=seed) for symbol in SYMBOLS]
        simulate(root / name, markets, DAY, NEXT_DAY, **SMALL)
    return root / "first", root / "corrected"


def pipeline(root: Path, lake: Path) -> Workspace:
    made = Workspace(root, lake, more=QUICK)
    made.configure(*(instrument(symbol) for symbol in SYMBOLS))
    return made


@pytest.fixture(scope="module")
def together(tmp_path_factory, lakes) -> tuple[Workspace, list[Running]]:
    """Runs of two different days of the corrected delivery, started at once in a fresh folder."""
    fresh = pipeline(tmp_path_factory.mktemp("together"), lakes[1])
    return fresh, [fresh.start(*days_arguments(day)) for day in (DAY, NEXT_DAY)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, lakes) -> Workspace:
    """A pipeline that has the first delivery published after `versions`."""
    return pipeline(tmp_path_factory.mktemp("durable"), lakes[0])


@pytest.fixture(scope="module")
def versions(workspace: Workspace, together) -> tuple[Version, Version]:
    """What runs that nobody kills make of both deliveries."""
    fresh, running = together
    finished = workspace.run_days(DAY)
    assert "" == finished.errors
    for each in running:
        each.finish()
    first, corrected = (
        Version(made.lake, made.published(DAY), rows(made.warehouse.catalogue, BOOKS))
        for made in (workspace, fresh)
    )
    same = {name for name in TABLES if first.published[name] == corrected.published[name]}
    assert NOT_ASKED_FOR == same
    return first, corrected


def messages(lake: Path, symbol: str, day: date) -> int:
    """How many messages the raw deltas of a day hold."""
    raw = pl.read_parquet(raw_file(lake, "book_delta_v2", symbol, day), hive_partitioning=False)
    return raw.select(pl.struct("sequence_number", "receipt_timestamp").n_unique()).item()


Sign = Callable[[], bool]


def moments(workspace: Workspace) -> list[Callable[[], Sign]]:
    """When to kill: at three points of the write path, and at three that are left to chance.

    Each is called just before the run starts and returns what tells that its moment has come.
    """
    warehouse = workspace.warehouse
    log = warehouse.working_database.with_suffix(".duckdb.wal")

    def commits() -> int:
        return len(list((warehouse.table_dir(TABLES["book_bbo"]) / "_delta_log").glob("*.json")))

    def staging() -> Sign:
        return lambda: any(warehouse.staging_dir.glob("books.bbo-*.partial"))

    def writing_rows() -> Sign:
        return log.exists

    def committed() -> Sign:
        before = commits()
        return lambda: commits() > before

    def some_time_after(publishes: int, wait: float) -> Callable[[], Sign]:
        """Seconds after so many of the publishes, each of which writes rows."""

        def begin() -> Sign:
            seen: dict[int, float] = {}

            def come() -> bool:
                now = warehouse.working_database.stat().st_mtime_ns
                seen.setdefault(now, time.monotonic())
                last = max(seen.values())
                return len(seen) > publishes and time.monotonic() > last + wait

            return come

        return begin

    chance = random.Random(20250303)
    by_chance = [(chance.randint(1, 7), chance.uniform(0.0, 0.2)) for _ in range(3)]
    return [staging, writing_rows, committed, *(some_time_after(*each) for each in by_chance)]


@dataclass(frozen=True)
class Kill:
    """What was there after one kill.

    Attributes:
        exit_code: -9, unless the run had ended before its moment came.
        published: The digest of each table's partition.
        behind: What a plain DuckDB read at once.
        books: What it read after the next command.
        rerun: How the rerun ended, if there was one, and what was published and read after it.
    """

    exit_code: int | None
    published: dict[str, str]
    behind: list[list[Any]]
    books: list[list[Any]]
    rerun: tuple[Finished, dict[str, str], list[list[Any]]] | None


@pytest.fixture(scope="module")
def kills(workspace: Workspace, versions: tuple[Version, Version]) -> tuple[list[Kill], Any]:
    """Runs towards one version and the other in turn, each killed; the last one is run again.

    Also what another process saw that read the catalogue all the while.
    """
    catalogue, made = workspace.warehouse.catalogue, []
    with reader(workspace) as said:
        for number, moment in enumerate(moments(workspace)):
            # The first delivery is there, so the first run is towards the corrected one.
            workspace.lake = versions[(number + 1) % 2].lake
            sign = moment()
            running = workspace.start(*days_arguments(DAY))
            running.until(sign)
            code = running.kill().exit_code
            found, behind = workspace.published(DAY), rows(catalogue, BOOKS)
            # What the killed run published the next command shows.
            open_catalogue(workspace.data_dir).close()
            books, rerun = rows(catalogue, BOOKS), None
            if number == 5:
                finished = workspace.run_days(DAY)
                rerun = (finished, workspace.published(DAY), rows(catalogue, BOOKS))
            made.append(Kill(code, found, behind, books, rerun))
    return made, said[0]


def test_killed_at_any_moment(kills, versions: tuple[Version, Version]):
    """After kill -9 the day of each table is the old one or the new one, whole."""
    made, _ = kills
    neither = [
        (number, name)
        for number, kill in enumerate(made)
        for name in TABLES
        if kill.published[name] not in {version.published[name] for version in versions}
    ]

    assert [] == neither
    assert [] == [kill.behind for kill in made if kill.behind not in [v.books for v in versions]]
    assert [-9] * 6 == [kill.exit_code for kill in made]


def test_the_next_command_shows_what_was_published(kills, versions: tuple[Version, Version]):
    """After a kill the catalogue shows the books that are published once a reader asked for it."""
    made, _ = kills
    expected = [
        version.books
        for kill in made
        for version in versions
        if kill.published["book_bbo"] == version.published["book_bbo"]
    ]

    assert expected == [kill.books for kill in made]


def test_kills_hit_the_write_path(kills, versions: tuple[Version, Version]):
    """Some kill left tables of both versions: it came between two publishes, and no table tore."""
    made, _ = kills
    mixed = [
        {
            kill.published[name] == versions[0].published[name]
            for name in TABLES
            if name not in NOT_ASKED_FOR
        }
        for kill in made
    ]

    assert {True, False} in mixed


def test_a_rerun_completes_what_was_killed(kills, versions: tuple[Version, Version]):
    """Run again after six kills, the day is what an undisturbed run makes, to the byte."""
    made, _ = kills
    (rerun,) = [kill.rerun for kill in made if kill.rerun]
    finished, published, books = rerun

    assert "" == finished.errors
    assert versions[0].published == published
    assert versions[0].books == books


def test_a_reader_sees_whole_partitions_only(kills, versions: tuple[Version, Version]):
    """SQL from another process never fails and never sees half a day, also under kills."""
    _, said = kills

    assert [] == [seen for seen in said["seen"] if seen not in [v.books for v in versions]]
    assert 1 < len(said["seen"])
    assert (True, 0) == (said["whole"] > 10, said["torn"])


def test_nothing_partial_is_left(workspace: Workspace, kills, versions: tuple[Version, Version]):
    """Of what killed runs leave, nothing is in a reader's way, and the sweep takes it all."""
    assert kills
    warehouse = workspace.warehouse
    sweep_staging(warehouse, timedelta(0))
    for table in BIG:
        vacuum(warehouse, table, retention=timedelta(0))

    assert versions[0].published == workspace.published(DAY)
    assert [] == list(warehouse.staging_dir.iterdir())
    assert {warehouse.catalogue, warehouse.catalogue_log} == set(warehouse.warehouse_dir.iterdir())
    assert not warehouse.working_database.with_suffix(".duckdb.wal").exists()
    for table in BIG:
        on_disk = set(warehouse.table_dir(table).glob("p_day=*/*/*.parquet"))
        assert set(current_files(warehouse, table)) == on_disk
    assert versions[0].books == rows(warehouse.catalogue, BOOKS)


def histories(workspace: Workspace) -> list[int]:
    """The version of each Delta table."""
    found = [delta_table(workspace.warehouse, table) for table in BIG]
    return [-1 if delta is None else delta.version() for delta in found]


def assert_whole(workspace: Workspace) -> None:
    """Both days of both instruments are there, every message once."""
    counted = workspace.sql(
        "SELECT symbol, dt, count(*) FROM books.bbo GROUP BY ALL ORDER BY ALL"
    ).rows()
    validated = workspace.sql(
        "SELECT symbol, dt, messages FROM quality.validation_report ORDER BY ALL"
    ).rows()
    expected = [
        (symbol, day, messages(workspace.lake, symbol, day))
        for symbol in SYMBOLS
        for day in (DAY, NEXT_DAY)
    ]

    assert expected == counted
    assert expected == validated


def test_two_days_at_once(together, versions: tuple[Version, Version]):
    """Two runs of different days both succeed, also as the first ones in a fresh folder."""
    fresh, running = together
    finished = [each.finish() for each in running]

    assert ["", ""] == [each.errors for each in finished]
    assert {each.exit_code for each in finished} <= {0, 1}
    assert_whole(fresh)
    assert versions[1].published == fresh.published(DAY)


def test_one_day_twice_at_once(together, versions: tuple[Version, Version]):
    """Two runs of the same day both succeed, and the day is there once, with the same bytes.

    A shell that somebody left open on the catalogue is in nobody's way.
    """
    fresh, _ = together
    before = histories(fresh)
    with duckdb.connect(str(fresh.warehouse.catalogue)) as shell:
        running = [fresh.start(*days_arguments(DAY)) for _ in range(2)]
        finished = [each.finish() for each in running]
        shell_sees = shell.execute(BOOKS).fetchall()

    assert ["", ""] == [each.errors for each in finished]
    assert {each.exit_code for each in finished} <= {0, 1}
    assert_whole(fresh)
    assert before == histories(fresh)
    assert versions[1].published == fresh.published(DAY)
    assert versions[1].books == [list(row) for row in shell_sees]


def open_instance() -> None:
    """Opens DAGSTER_HOME as the verb `run` does; runs in processes of its own."""
    from market_pipeline.cli.days import dagster_instance

    with dagster_instance() as instance:
        instance.get_runs(limit=1)


def test_two_first_runs_share_a_dagster_home(tmp_path: Path, lakes):
    """Processes that open a fresh DAGSTER_HOME at once all succeed, and so does the next one."""
    fresh = pipeline(tmp_path / "fresh", lakes[0])
    running = [fresh.call(open_instance) for _ in range(4)]
    finished = [each.finish() for each in running]

    assert [""] * 4 == [each.errors for each in finished]
    assert "" == fresh.call(open_instance).finish().errors
