from __future__ import annotations

import os
import random
import signal
import stat
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.context import ForkServerContext
from pathlib import Path

import duckdb
import polars as pl
import pytest

from market_pipeline.errors import MachineError, PublishError
from market_pipeline.machine import in_our_words
from market_pipeline.warehouse import publish as publish_module
from market_pipeline.warehouse.catalogue import connect, refresh
from market_pipeline.warehouse.delta import commit_file
from market_pipeline.warehouse.layout import GROUP_FOLDER, PRIVATE_UMASK, Warehouse
from market_pipeline.warehouse.publish import publish, vacuum
from market_pipeline.warehouse.read import current_files, scan
from market_pipeline.warehouse.staging import sweep_staging
from market_pipeline.warehouse.working import read_rows, replace_rows
from market_pipeline.warehouse.working_file import working_mark
from market_pipeline_tests.warehouse.writers import (
    BBO,
    DAY,
    PERP,
    REPORT,
    SPOT,
    TABLES,
    publish_run,
    publish_until_killed,
    report,
    rows_of,
    stage,
)

KILLS = 20
PARTS = "SELECT exchange, count(*) AS n, min(run) AS low, max(run) AS high"


def check_whole(parts: list[tuple[str, int, int, int]]) -> int:
    """Fail unless both instruments are there, whole, and of one and the same run."""
    assert ["BINANCE", "BINANCE_FUTURES"] == [exchange for exchange, *_ in parts]
    ((rows, low, high),) = {(rows, low, high) for _, rows, low, high in parts}
    assert (rows_of(low), low) == (rows, high)
    return low


def read_by_polars(warehouse: Warehouse) -> int:
    frame = (
        scan(warehouse, BBO)
        .group_by("exchange")
        .agg(pl.len(), pl.col("run").min().alias("low"), pl.col("run").max().alias("high"))
    )
    return check_whole(frame.sort("exchange").collect().rows())


def read_by_duckdb(warehouse: Warehouse) -> int:
    files = [str(path) for path in current_files(warehouse, BBO)]
    query = f"{PARTS} FROM read_parquet($1, hive_partitioning=false) GROUP BY ALL ORDER BY ALL"
    return check_whole(duckdb.connect().execute(query, [files]).fetchall())


def read_by_catalogue(warehouse: Warehouse) -> int:
    connection = connect(warehouse.data_dir)
    small = connection.execute("SELECT run FROM quality.validation_report").fetchall()
    assert (2, 1) == (len(small), len(set(small)))
    return check_whole(
        connection.execute(f"{PARTS} FROM books.bbo GROUP BY ALL ORDER BY ALL").fetchall()
    )


class Reader(threading.Thread):
    """Reads over and over, and keeps what it saw or what went wrong."""

    def __init__(self, read: Callable[[Warehouse], int], warehouse: Warehouse) -> None:
        super().__init__(daemon=True)
        self._read, self._warehouse = read, warehouse
        self.ended = threading.Event()
        self.seen: list[int] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.ended.is_set():
                self.seen.append(self._read(self._warehouse))
                time.sleep(0.005)  # leave the writer some of the two cores
        except BaseException as error:
            self.error = error


@pytest.mark.slow
def test_killed_at_any_moment(warehouse: Warehouse, processes: ForkServerContext):
    """Under kill -9 at random moments readers see whole runs only, and never an older one again."""
    publish_run(warehouse, 0)
    moments = random.Random(20240808)
    readers = [
        Reader(read, warehouse) for read in (read_by_polars, read_by_duckdb, read_by_catalogue)
    ]
    for reader in readers:
        reader.start()
    try:
        for kill in range(KILLS):
            ours, theirs = processes.Pipe()
            writer = processes.Process(
                target=publish_until_killed,
                args=(warehouse.data_dir, 1 + 1_000 * kill, theirs),
                daemon=True,
            )
            writer.start()
            ours.recv()
            time.sleep(moments.uniform(0.0, 0.3))
            writer.kill()
            writer.join(30)
            assert writer.exitcode == -signal.SIGKILL, "it ended before it was killed"
            if kill % 5 == 4:  # whatever the killed one held is free at once
                publish_run(warehouse, 1_000 * kill + 999)
    finally:
        for reader in readers:
            reader.ended.set()
        for reader in readers:
            reader.join(30)

    assert [None] * len(readers) == [reader.error for reader in readers]
    for reader in readers:
        assert reader.seen == sorted(reader.seen)
        assert 1 < len(set(reader.seen))

    # The next run publishes all, and what the killed ones left behind can go.
    last = 1_000 * KILLS + 1
    publish_run(warehouse, last)
    assert [last] * 3 == [
        read(warehouse) for read in (read_by_polars, read_by_duckdb, read_by_catalogue)
    ]
    assert [last, last] == read_rows(warehouse, REPORT)["run"].to_list()
    sweep_staging(warehouse, timedelta(seconds=-1))
    vacuum(warehouse, BBO, retention=timedelta(0))
    assert [] == list(warehouse.staging_dir.iterdir())
    assert {warehouse.catalogue, warehouse.catalogue_log} == set(warehouse.warehouse_dir.iterdir())
    assert set(current_files(warehouse, BBO)) == set(
        warehouse.table_dir(BBO).glob("p_day=*/*/*.parquet")
    )


def test_killed_between_move_and_commit(warehouse: Warehouse):
    """A file that was moved in without its commit is unseen, and used when the run comes again."""
    publish(warehouse, BBO, DAY, [stage(warehouse, name, 1) for name in (PERP, SPOT)])
    (current, _) = current_files(warehouse, BBO)
    staged = stage(warehouse, SPOT, 2)
    staged.path.rename(current.with_name(f"{staged.sha256}.parquet"))

    assert 1 == read_by_polars(warehouse)
    assert 2 == publish(warehouse, BBO, DAY, [stage(warehouse, name, 2) for name in (PERP, SPOT)])
    assert 2 == read_by_polars(warehouse)
    assert [] == list(warehouse.staging_dir.iterdir())


@pytest.mark.parametrize("size", [0, 4_096, 8_192, 12_288])
def test_the_first_commit_of_small_tables_is_cut_short(warehouse: Warehouse, full_at, size: int):
    """Wherever the making of the working database ends, the next commit finds none, or one."""
    with full_at(size), pytest.raises((PublishError, MachineError)), in_our_words():
        replace_rows(warehouse, REPORT, DAY, None, report([PERP], 1))

    assert 0 == read_rows(warehouse, REPORT).height
    assert 1 == replace_rows(warehouse, REPORT, DAY, None, report([PERP], 2))
    assert [2] == read_rows(warehouse, REPORT)["run"].to_list()


def test_small_tables_of_before_are_put_back(warehouse: Warehouse):
    """A commit upon an older file is taken for none that is lost, though DuckDB counts the same."""
    replace_rows(warehouse, REPORT, DAY, None, report([PERP], 1))
    older = warehouse.working_database.read_bytes()
    marks = []
    for run in (2, 3):
        warehouse.working_database.write_bytes(older)
        replace_rows(warehouse, REPORT, DAY, None, report([PERP], run))
        marks.append(working_mark(warehouse))

    assert marks[0] != marks[1]


def killed_after_the_commit(data_dir: Path, run: int) -> None:
    """Publish a run, but end as by a kill once its commit is there, before it is shared."""
    os.umask(PRIVATE_UMASK)
    publish_module.settle_log = lambda folder: os.kill(os.getpid(), signal.SIGKILL)
    publish_run(Warehouse(data_dir), run)


def test_killed_before_the_commit_is_shared(warehouse: Warehouse, processes: ForkServerContext):
    """What it leaves closed to a group of readers, the next refresh of the catalogue opens."""
    warehouse.prepare()
    for folder in (warehouse.tables_dir, warehouse.warehouse_dir):
        folder.chmod(0o700 | GROUP_FOLDER)
    log = warehouse.table_dir(BBO) / "_delta_log"
    left_closed = (log.parents[1], log.parent, log)
    for made in left_closed:
        made.mkdir(mode=0o700)  # by one that was killed before it shared them
    publish_run(warehouse, 0)
    assert {GROUP_FOLDER} == {each.stat().st_mode & GROUP_FOLDER for each in left_closed}
    writer = processes.Process(target=killed_after_the_commit, args=(warehouse.data_dir, 1))
    writer.start()
    writer.join(60)
    assert writer.exitcode == -signal.SIGKILL

    commit = commit_file(warehouse, BBO, 2)
    left = commit.stat().st_mode
    refresh(warehouse, TABLES)
    assert (0o600, 0o640) == (stat.S_IMODE(left), stat.S_IMODE(commit.stat().st_mode))
    assert 1 == read_by_polars(warehouse)
