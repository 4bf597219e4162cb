from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import duckdb
import pytest

from market_pipeline.errors import PublishError, WarehouseBusyError
from market_pipeline.warehouse._seal import check_seal, seal
from market_pipeline.warehouse.catalogue import connect, refresh
from market_pipeline.warehouse.layout import PRIVATE_FILE, Warehouse
from market_pipeline.warehouse.working import replace_rows
from market_pipeline_tests.warehouse.writers import (
    DAY,
    PERP,
    REPORT,
    TABLES,
    hold_for_writing,
    report,
)

RUN = "SELECT run FROM quality.validation_report"
CHANGE = "UPDATE quality.validation_report SET run = 99"
WRITES = (
    CHANGE,
    "DROP TABLE quality.validation_report",
    "CREATE TABLE scratch AS SELECT i, repeat(i::VARCHAR, 9) AS t FROM range(1_000_000) AS r(i)",
)


def publish_run(warehouse: Warehouse, run: int) -> None:
    """A small table and the catalogue."""
    replace_rows(warehouse, REPORT, DAY, None, report([PERP], run))
    refresh(warehouse, TABLES)


def shown(warehouse: Warehouse) -> list[Any]:
    """What `connect` and a plain DuckDB show."""
    with connect(warehouse.data_dir) as ours:
        found = ours.execute(RUN).fetchall()
    return [found, read_plainly(warehouse.catalogue)]


def read_plainly(database: Path) -> list[Any]:
    with duckdb.connect(str(database), read_only=True) as plain:
        return plain.execute(RUN).fetchall()


def told(shell: Connection, statement: str) -> str:
    """What a shell answers."""
    shell.send(statement)
    answer: str = shell.recv()
    return answer


class Shells:
    """Plain DuckDB shells in processes of their own."""

    def __init__(self, processes: ForkServerContext) -> None:
        self.processes = processes

    @contextmanager
    def on(self, database: Path, *, killed: bool = False) -> Iterator[Connection]:
        """A shell that has a file open for writing; it is closed or killed at the end."""
        ours, theirs = self.processes.Pipe()
        shell = self.processes.Process(target=hold_for_writing, args=(database, theirs))
        shell.start()
        theirs.close()
        assert "" == ours.recv()
        try:
            yield ours
            if not killed:
                ours.send(None)
                shell.join(30)
        finally:
            shell.kill()
            shell.join(30)
            ours.close()


@pytest.fixture
def shells(processes: ForkServerContext) -> Shells:
    return Shells(processes)


@pytest.fixture
def published(warehouse: Warehouse) -> Warehouse:
    publish_run(warehouse, 1)
    return warehouse


@pytest.mark.slow
class TestAWriter:
    @pytest.mark.parametrize("killed", [False, True])
    def test_before_and_after_a_publish(self, published: Warehouse, shells: Shells, killed: bool):
        """No statement of a writer is committed, it learns why, and readers see what is there."""
        with shells.on(published.catalogue, killed=killed) as shell:
            told_before = [told(shell, statement) for statement in WRITES]
            publish_run(published, 2)
            told_after = [told(shell, statement) for statement in WRITES]
            told(shell, "CHECKPOINT")
            while_open = shown(published)

        assert all(str(published.catalogue_log) in each for each in [*told_before, *told_after])
        assert [[(2,)], [(2,)]] == while_open
        assert [[(2,)], [(2,)]] == shown(published)

    @pytest.mark.parametrize("killed", [False, True])
    def test_without_a_publish(self, published: Warehouse, shells: Shells, killed: bool):
        """The catalogue that a writer had open shows what was published, until the next one too."""
        with shells.on(published.catalogue, killed=killed) as shell:
            answer = told(shell, CHANGE)
            with pytest.raises(WarehouseBusyError, match="open for writing"):
                connect(published.data_dir)
        before = shown(published)
        publish_run(published, 2)

        assert str(published.catalogue_log) in answer
        assert [[(1,)], [(1,)]] == before
        assert [[(2,)], [(2,)]] == shown(published)

    def test_a_transaction_over_a_publish(self, published: Warehouse, shells: Shells):
        """What was begun on the old file is not committed into the new one."""
        with shells.on(published.catalogue) as shell:
            begun = [told(shell, "BEGIN"), told(shell, CHANGE)]
            publish_run(published, 2)
            answer = told(shell, "COMMIT")

        assert ["", ""] == begun
        assert str(published.catalogue_log) in answer
        assert [[(2,)], [(2,)]] == shown(published)

    def test_by_a_symbolic_link(self, published: Warehouse, shells: Shells, tmp_path: Path):
        """A link elsewhere to the catalogue is no way around."""
        link = tmp_path / "mine.duckdb"
        link.symlink_to(published.catalogue)
        with shells.on(link) as shell:
            answer = told(shell, CHANGE)

        assert str(published.catalogue_log) in answer
        assert [[(1,)], [(1,)]] == shown(published)

    def test_by_a_hard_link(
        self,
        published: Warehouse,
        shells: Shells,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ):
        """What came by another name of the file is refused, then set aside whole, with a word."""
        link = tmp_path / "mine.duckdb"
        os.link(published.catalogue, link)
        with shells.on(link) as shell:
            answer = told(shell, CHANGE)
        with pytest.raises(PublishError, match="not as it was published") as caught:
            connect(published.data_dir)
        with caplog.at_level(logging.WARNING):
            publish_run(published, 2)
        (kept,) = published.set_aside_dir.iterdir()

        assert "" == answer
        assert str(published.set_aside_dir) in str(caught.value)
        assert [[(2,)], [(2,)]] == shown(published)
        assert [(99,)] == read_plainly(kept)
        assert str(kept) in caplog.text


class TestALog:
    def test_of_a_writer_that_was_killed(
        self, published: Warehouse, shells: Shells, caplog: pytest.LogCaptureFixture
    ):
        """Without the seal there is a log; no reader replays it, and it is kept with its file."""
        published.catalogue_log.unlink()
        with shells.on(published.catalogue, killed=True) as shell:
            answer = told(shell, CHANGE)
        with pytest.raises(PublishError, match="not as it was published"):
            connect(published.data_dir)
        with caplog.at_level(logging.WARNING):
            publish_run(published, 2)
        kept, log = sorted(published.set_aside_dir.iterdir())

        assert ("", f"{kept.name}.wal") == (answer, log.name)
        assert [[(2,)], [(2,)]] == shown(published)
        assert [(99,)] == read_plainly(kept)
        assert str(kept) in caplog.text

    def test_of_a_writer_that_goes_on(self, published: Warehouse, shells: Shells):
        """A log that was open already when the seal came is written where nobody reads it."""
        published.catalogue_log.unlink()
        with shells.on(published.catalogue) as shell:
            before = told(shell, CHANGE)
            publish_run(published, 2)
            after = told(shell, CHANGE)
            while_open = shown(published)
            told(shell, "CHECKPOINT")

        assert ("", "") == (before, after)
        assert [[(2,)], [(2,)]] == while_open
        assert [(2,)] == read_plainly(published.catalogue)

    def test_that_is_no_log(self, published: Warehouse):
        """A file of anything at its place is set aside too."""
        published.catalogue_log.unlink()
        published.catalogue_log.write_bytes(b"no log" * 1_000)
        refresh(published, TABLES)

        assert [[(1,)], [(1,)]] == shown(published)
        assert 2 == len(list(published.set_aside_dir.iterdir()))


class TestSeal:
    def test_killed_before_the_swap(self, published: Warehouse, tmp_path: Path):
        """A refresh that ends between sealing and swapping leaves a catalogue that is sealed."""
        before = check_seal(published)
        coming = tmp_path / "coming.duckdb"
        coming.write_bytes(b"finished")
        seal(published, coming)

        assert before == check_seal(published)
        assert [[(1,)], [(1,)]] == shown(published)

    def test_of_a_release_before(self, published: Warehouse):
        """A catalogue made before there were seals is replaced, and nothing is set aside."""
        published.catalogue_log.unlink()
        published.catalogue.chmod(PRIVATE_FILE)
        with pytest.raises(PublishError, match="not as it was published"):
            connect(published.data_dir)
        refresh(published, TABLES)

        assert [[(1,)], [(1,)]] == shown(published)
        assert not published.set_aside_dir.exists()

    def test_somebody_removed_the_catalogue(self, published: Warehouse):
        """The seal of a catalogue that is gone is replaced with the next one's."""
        published.catalogue.unlink()
        refresh(published, TABLES)

        assert [[(1,)], [(1,)]] == shown(published)
        assert not published.set_aside_dir.exists()
