from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
from contextlib import closing
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from market_pipeline.errors import MissingDataError, PublishError, WarehouseBusyError
from market_pipeline.warehouse._seal import seal
from market_pipeline.warehouse.catalogue import FILES_SCHEMA, connect, is_current, refresh
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.locks import holding
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.read import current_files
from market_pipeline.warehouse.staging import StagedWriter
from market_pipeline.warehouse.tables import Column, View
from market_pipeline.warehouse.working import read_rows, replace_rows
from market_pipeline.warehouse.working_file import writing
from market_pipeline_tests.warehouse.writers import (
    BBO,
    DAY,
    NEXT_DAY,
    PERP,
    REPORT,
    SPOT,
    TABLES,
    batch,
    publish_run,
    report,
    rows_of,
    stage,
)

LATER = date(2025, 1, 1)
COUNT = "SELECT count(*), min(run), max(run) FROM books.bbo"


def plain_shell(path: Path, query: str) -> str:
    """What another process prints that opens the file with DuckDB alone, to read."""
    code = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True);"
        "print(c.execute(sys.argv[2]).fetchall())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), query], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


class TestRefresh:
    def test_full_disk(self, warehouse: Warehouse, full_at):
        """Where a new catalogue finds no room the old one stays, and the refresh fails."""
        refresh(warehouse, TABLES)
        before = warehouse.catalogue.read_bytes()
        with full_at(len(before) // 2), pytest.raises(OSError, match="File too large"):
            refresh(warehouse, TABLES)
        assert before == warehouse.catalogue.read_bytes()

    def test_a_small_table_that_became_a_big_one(self, warehouse: Warehouse):
        """What a release before kept in the working database makes room for the view of files."""
        small = dataclasses.replace(BBO, storage="duckdb")
        refresh(warehouse, [small, REPORT])
        refresh(warehouse, TABLES)
        with connect(warehouse.data_dir) as connection:
            assert [(0,)] == connection.execute("SELECT count(*) FROM books.bbo").fetchall()

    def test_before_anything_was_published(self, warehouse: Warehouse):
        """Every table is there, typed, described and empty, also in a plain DuckDB shell."""
        refresh(warehouse, TABLES)
        connection = connect(warehouse.data_dir)
        described = connection.execute(
            "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() "
            f"WHERE database_name = 'market' AND schema_name <> '{FILES_SCHEMA}' AND NOT internal "
            "ORDER BY table_name, column_index"
        ).fetchall()

        view = connection.execute(
            "SELECT comment FROM duckdb_views() WHERE view_name = 'bbo'"
        ).fetchall()
        connection.close()

        assert [
            (table.name, column.name, column.type, column.description)
            for table in TABLES
            for column in table.columns
        ] == described
        assert [(BBO.description,)] == view
        assert "[(0, None, None)]" == plain_shell(warehouse.catalogue, COUNT)

    def test_shows_what_is_published(self, warehouse: Warehouse):
        """Views hold the current files' rows with the declared types, tables the small rows."""
        publish_run(warehouse, 1)
        publish_run(warehouse, 2)
        connection = connect(warehouse.data_dir)

        assert [(2 * rows_of(2), 2, 2)] == connection.execute(COUNT).fetchall()
        assert [(2, 2)] == connection.execute(
            "SELECT count(*), min(run) FROM quality.validation_report"
        ).fetchall()
        assert [("USMALLINT", 65_535)] == connection.execute(
            "SELECT DISTINCT typeof(flags), max(flags) FROM books.bbo GROUP BY ALL"
            " ORDER BY 2 DESC LIMIT 1"
        ).fetchall()
        connection.close()
        assert f"[({2 * rows_of(2)}, 2, 2)]" == plain_shell(warehouse.catalogue, COUNT)

    @pytest.mark.parametrize("folder", ["data", "é it's 100=1"])
    @pytest.mark.parametrize("other", [NEXT_DAY, LATER])
    def test_a_query_of_a_day_opens_no_other_days_files(
        self, tmp_path: Path, folder: str, other: date
    ):
        """What the files of another day hold, of the same half-year or another, does not matter."""
        warehouse = Warehouse(tmp_path / folder)
        publish(warehouse, BBO, DAY, [stage(warehouse, SPOT, 1)])
        publish(warehouse, BBO, other, [stage(warehouse, SPOT, 2, other)])
        refresh(warehouse, TABLES)
        for file in current_files(warehouse, BBO, other):
            file.write_bytes(b"no Parquet")
        with connect(warehouse.data_dir) as connection:
            of_a_day = f"{COUNT} WHERE dt = DATE '{DAY}'"
            assert (rows_of(1), 1, 1) == connection.execute(of_a_day).fetchone()
            until = f"{COUNT} WHERE dt < DATE '{NEXT_DAY}' AND symbol = 'BTC-USDT'"
            assert (rows_of(1), 1, 1) == connection.execute(until).fetchone()
            with pytest.raises(duckdb.Error, match="Parquet"):
                connection.execute(COUNT)

    @pytest.mark.parametrize("days", ["", "WHERE dt = DATE '2024-08-09'"])
    def test_asof_joins(self, warehouse: Warehouse, days: str):
        """They find what they find in the files themselves, of all days and of one."""
        for day, run in ((DAY, 1), (NEXT_DAY, 2)):
            both = [stage(warehouse, name, run, day, rows=3_000) for name in (PERP, SPOT)]
            publish(warehouse, BBO, day, both)
        refresh(warehouse, TABLES)
        query = """
            SELECT count(*), sum(quote.bid_price), count(DISTINCT quote.run), min(quote.dt)
            FROM (FROM {rows} {days}) AS moment ASOF JOIN (FROM {rows} {days}) AS quote
            ON moment.symbol = quote.symbol AND moment.dt = quote.dt
            AND moment.bid_price + 0.25 >= quote.bid_price
        """
        files = [str(file) for file in current_files(warehouse, BBO)]
        with connect(warehouse.data_dir) as connection:
            found = connection.execute(query.format(rows="books.bbo", days=days)).fetchone()
            connection.execute(
                "CREATE TEMP TABLE plain AS FROM read_parquet($1, hive_partitioning=false)", [files]
            )
            expected = connection.execute(query.format(rows="plain", days=days)).fetchone()
        assert expected == found
        assert found[0] == (6_000 if days else 12_000)

    def test_a_data_folder_whose_name_gives_a_column(self, tmp_path: Path):
        """What stands in the path above the table says nothing about its rows."""
        warehouse = Warehouse(tmp_path / "dt=2020-01-01" / "symbol=OTHER")
        publish(warehouse, BBO, DAY, [stage(warehouse, SPOT, 1)])
        refresh(warehouse, TABLES)
        with connect(warehouse.data_dir) as connection:
            rows = connection.execute("SELECT DISTINCT symbol, dt FROM books.bbo").fetchall()
        assert [("BTC-USDT", DAY)] == rows

    def test_extra_views(self, warehouse: Warehouse):
        """More views are made in order, in schemas of their own if need be."""
        publish_run(warehouse, 1)
        refresh(
            warehouse,
            TABLES,
            [
                View("lake", "spot", "", (), "SELECT * FROM books.bbo WHERE exchange = 'BINANCE'"),
                View("lake", "spot_rows", "", (), "SELECT count(*) AS n FROM lake.spot"),
            ],
        )

        query = "SELECT n FROM lake.spot_rows"
        assert [(rows_of(1),)] == connect(warehouse.data_dir).execute(query).fetchall()

    def test_a_view_that_is_no_longer_asked_for(self, warehouse: Warehouse):
        """Only the views that were given last are there, by their last SQL."""
        first = View("lake", "first", "", (), "SELECT 1 AS n")
        refresh(warehouse, TABLES, [first, View("lake", "second", "", (), "SELECT 2 AS n")])
        refresh(warehouse, TABLES, [View("lake", "second", "", (), "SELECT 3 AS n")])
        found = connect(warehouse.data_dir).execute(
            "SELECT view_name FROM duckdb_views() WHERE schema_name = 'lake'"
        )

        assert [("second",)] == found.fetchall()
        assert [(3,)] == connect(warehouse.data_dir).execute("FROM lake.second").fetchall()

    def test_what_stays_is_written_once(self, warehouse: Warehouse):
        """A refresh writes no description again: the working database stays as it was."""
        publish_run(warehouse, 1)
        before = warehouse.working_database.stat().st_mtime_ns
        publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1, rows=1)])
        refresh(warehouse, TABLES)

        assert before == warehouse.working_database.stat().st_mtime_ns
        assert rows_of(1) + 1 == connect(warehouse.data_dir).execute(COUNT).fetchone()[0]

    def test_wrong_view(self, warehouse: Warehouse):
        """A view whose SQL is wrong is named; the old catalogue stays and nothing is left over."""
        publish_run(warehouse, 1)

        with pytest.raises(PublishError, match=r"lake\.wrong"):
            wrong = View("lake", "wrong", "", (), "SELECT nonsense FROM books.bbo")
            refresh(warehouse, TABLES, [wrong])
        assert rows_of(1) * 2 == connect(warehouse.data_dir).execute(COUNT).fetchone()[0]
        assert {warehouse.catalogue, warehouse.catalogue_log} == set(
            warehouse.warehouse_dir.iterdir()
        )

    def test_open_readers_keep_their_state(self, warehouse: Warehouse):
        """Who has the catalogue open goes on with what it showed; a new connection sees the new."""
        publish_run(warehouse, 1)
        early = connect(warehouse.data_dir)
        pending = early.execute("SELECT run FROM books.bbo")
        publish_run(warehouse, 2)
        late = connect(warehouse.data_dir)

        assert {(1,)} == set(pending.fetchall())
        assert [(2 * rows_of(1), 1, 1)] == early.execute(COUNT).fetchall()
        assert [(2 * rows_of(2), 2, 2)] == late.execute(COUNT).fetchall()

    def test_while_a_writer_is_at_work(self, warehouse: Warehouse):
        """Neither an open transaction nor held locks keep a reader from the catalogue."""
        publish_run(warehouse, 1)
        with (
            holding(warehouse, BBO.sql_name),
            holding(warehouse, "catalogue"),
            writing(warehouse) as connection,
        ):
            connection.execute("DELETE FROM quality.validation_report")

            query = "SELECT count(*) FROM quality.validation_report"
            assert [(2,)] == connect(warehouse.data_dir).execute(query).fetchall()
            assert "[(2,)]" == plain_shell(warehouse.catalogue, query)

    def test_new_column(self, warehouse: Warehouse):
        """A column the big table did not have before is null for the older days."""
        publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1, rows=2)])
        extra = Column("skew_ms", "DOUBLE", "New.")
        wider = dataclasses.replace(BBO, columns=(*BBO.columns, extra))
        query = "SELECT skew_ms, count(*) FROM books.bbo GROUP BY ALL ORDER BY ALL"
        refresh(warehouse, [wider])
        before = connect(warehouse.data_dir).execute(query).fetchall()
        with StagedWriter(warehouse, wider, PERP) as writer:
            rows = batch(PERP, NEXT_DAY, 2, rows=1)
            writer.write(rows.append_column("skew_ms", pa.array([0.5])))
        publish(warehouse, wider, NEXT_DAY, [writer.staged])
        refresh(warehouse, [wider])
        after = connect(warehouse.data_dir).execute(query).fetchall()
        publish(warehouse, wider, NEXT_DAY, [], withdrawn=[PERP])
        refresh(warehouse, [wider])

        assert [(None, 2)] == before
        assert [(0.5, 1), (None, 2)] == after
        assert [(None, 2)] == connect(warehouse.data_dir).execute(query).fetchall()

    def test_commits_a_killed_writer_left_in_the_log(self, warehouse: Warehouse):
        """Rows committed just before a kill, still beside the file, are in the catalogue."""
        replace_rows(warehouse, REPORT, DAY, None, report([PERP], 1))
        code = (
            "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]);"
            "c.execute('UPDATE quality.validation_report SET run = 9'); os.kill(os.getpid(), 9)"
        )
        subprocess.run([sys.executable, "-c", code, str(warehouse.working_database)], check=False)
        assert warehouse.working_database.with_suffix(".duckdb.wal").exists()
        refresh(warehouse, TABLES)

        query = "SELECT run FROM quality.validation_report"
        assert [(9,)] == connect(warehouse.data_dir).execute(query).fetchall()

    def test_locked(self, warehouse: Warehouse):
        """Who waits too long for another refresh learns which lock it was."""
        with holding(warehouse, "catalogue"), pytest.raises(WarehouseBusyError) as caught:
            refresh(dataclasses.replace(warehouse, wait_seconds=0.1), TABLES)

        assert str(warehouse.lock_file("catalogue")) == caught.value.file


class TestIsCurrent:
    VIEW = View("lake", "spot", "", (), "SELECT 1 AS n")

    def is_current(self, warehouse: Warehouse, views: tuple[View, ...] = ()) -> bool:
        with closing(connect(warehouse.data_dir)) as connection:
            return is_current(connection, warehouse, TABLES, views)

    @pytest.mark.parametrize("publishes", [False, True])
    def test_until_something_is_published(self, warehouse: Warehouse, publishes: bool):
        """It is after a refresh, and no more after a publish of a big or a small table."""
        if publishes:
            publish_run(warehouse, 1)
        else:
            refresh(warehouse, TABLES)
        read_rows(warehouse, REPORT)
        states = [self.is_current(warehouse)]
        publish(warehouse, BBO, DAY, [stage(warehouse, SPOT, 2)])
        states.append(self.is_current(warehouse))
        refresh(warehouse, TABLES)
        states.append(self.is_current(warehouse))
        replace_rows(warehouse, REPORT, DAY, None, report([PERP], 3))
        states.append(self.is_current(warehouse))
        refresh(warehouse, TABLES)
        states.append(self.is_current(warehouse))

        assert [True, False, True, False, True] == states

    def test_until_other_things_are_asked_for(self, warehouse: Warehouse):
        """One of other tables or views, as a release before made it, is not."""
        refresh(warehouse, TABLES)

        assert [True, False] == [self.is_current(warehouse, each) for each in ((), (self.VIEW,))]

    def test_until_it_is_moved(self, tmp_path: Path):
        """One whose files lie elsewhere now is not."""
        before = Warehouse(tmp_path / "before")
        publish_run(before, 1)
        moved = Warehouse(before.data_dir.rename(tmp_path / "moved"))

        assert not self.is_current(moved)


class TestConnect:
    def test_nothing_there(self, tmp_path: Path):
        """Without a catalogue the error names the file, and nothing is made."""
        with pytest.raises(MissingDataError, match="no catalogue yet") as caught:
            connect(tmp_path / "data")

        assert str(tmp_path / "data/warehouse/market.duckdb") == caught.value.file
        assert [] == list(tmp_path.iterdir())

    def test_no_file(self, warehouse: Warehouse):
        """A folder in the catalogue's place is called that, and not a catalogue that is missing."""
        warehouse.catalogue.mkdir(parents=True)
        with pytest.raises(PublishError, match="no file lies in the catalogue's place"):
            connect(warehouse.data_dir)

    def test_read_only(self, warehouse: Warehouse):
        """Nothing in the catalogue can be changed through it."""
        publish_run(warehouse, 1)

        with pytest.raises(duckdb.InvalidInputException, match="read-only"):
            connect(warehouse.data_dir).execute("DELETE FROM quality.validation_report")

    def test_cursor(self, warehouse: Warehouse):
        """A cursor finds the tables under the database's name."""
        publish_run(warehouse, 1)
        cursor = connect(str(warehouse.data_dir)).cursor()

        assert [(2,)] == cursor.execute(
            "SELECT count(DISTINCT exchange) FROM market.books.bbo"
        ).fetchall()

    def test_damaged(self, warehouse: Warehouse):
        """A file that is no database is named at once."""
        warehouse.catalogue.write_bytes(b"not a database" * 1_000)
        seal(warehouse, warehouse.catalogue)

        with pytest.raises(PublishError, match="cannot be opened"):
            connect(warehouse.data_dir)

    @pytest.mark.parametrize("name", ["a b", "é", "*[x]", "it's", "-;:#&=+"])
    def test_folder_names(self, tmp_path: Path, name: str):
        """The data folder may hold spaces, quotes and what elsewhere is a pattern."""
        warehouse = Warehouse(tmp_path / name)
        publish(warehouse, BBO, DAY, [stage(warehouse, SPOT, 1)])
        refresh(warehouse, TABLES)

        assert rows_of(1) == connect(warehouse.data_dir).execute(COUNT).fetchone()[0]

    @pytest.mark.parametrize("of_another", [False, True])
    def test_what_memory_does_not_hold(
        self, warehouse: Warehouse, tmp_path: Path, monkeypatch, of_another: bool
    ):
        """It lies in a folder that is closed to others, and not in the current one."""
        refresh(warehouse, TABLES)
        (tmp_path / "temporary").mkdir()
        (tmp_path / "current").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        monkeypatch.chdir(tmp_path / "current")
        usual = tmp_path / f"temporary/market-pipeline-{os.geteuid()}"
        if of_another:
            usual.mkdir()
            usual.chmod(0o777)
        with connect(warehouse.data_dir) as connection:
            connection.execute("SET memory_limit = '20MB'; SET threads = 1")
            connection.execute(
                "CREATE TEMP TABLE large AS SELECT range, md5(range::VARCHAR) FROM range(500000)"
            )
            (spilt,) = {path.parent for path in (tmp_path / "temporary").rglob("*.tmp")}
            assert (0o700, of_another) == (
                spilt.parent.stat().st_mode & 0o777,
                spilt.parent != usual,
            )
        assert ([], False) == ([*(tmp_path / "current").iterdir()], spilt.exists())
