from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path

import duckdb
import pytest

from market_pipeline.warehouse import file_views
from market_pipeline.warehouse.catalogue import connect, refresh
from market_pipeline.warehouse.delta import delta_table
from market_pipeline.warehouse.file_views import FILES_SCHEMA, shown_files
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.publish import publish, withdraw
from market_pipeline.warehouse.read import current_files
from market_pipeline_tests.warehouse.writers import (
    BBO,
    DAY,
    NEXT_DAY,
    PERP,
    SPOT,
    TABLES,
    publish_run,
    rows_of,
    stage,
)

EARLIER, LATER = date(2023, 1, 1), date(2025, 1, 1)


def put(warehouse: Warehouse, run: int, day: date = DAY, *names: str) -> None:
    """Publish a run of instruments, and refresh."""
    publish(warehouse, BBO, day, [stage(warehouse, name, run, day) for name in names or (SPOT,)])
    refresh(warehouse, TABLES)


def shown(warehouse: Warehouse) -> list[tuple[date, str, int, int]]:
    """By day and venue, how many rows the catalogue shows and of which run."""
    with closing(connect(warehouse.data_dir)) as connection:
        return connection.execute(
            "SELECT dt, exchange, max(run), count(*) FROM books.bbo GROUP BY ALL ORDER BY ALL"
        ).fetchall()


def half_years(warehouse: Warehouse) -> list[str]:
    """Those of the top of book."""
    with closing(connect(warehouse.data_dir)) as connection:
        query = f"SELECT half_years FROM {FILES_SCHEMA}.versions WHERE table_name = 'books.bbo'"
        ((found,),) = connection.execute(query).fetchall()
    return found


@pytest.fixture
def logs_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables whose whole log was read for the views."""
    read: list[str] = []

    def noting(warehouse: Warehouse, table: file_views.Table) -> object:
        read.append(table.sql_name)
        return delta_table(warehouse, table)

    monkeypatch.setattr(file_views, "delta_table", noting)
    return read


class TestWhatIsShown:
    def test_files_are_named_once(self, warehouse: Warehouse):
        """Each in the list of its half-year; views hold no file's name."""
        publish_run(warehouse, 1)
        put(warehouse, 2, LATER)
        with closing(connect(warehouse.data_dir)) as connection:
            (named,) = connection.execute(
                "SELECT sum(len(string_split(sql, '.parquet')) - 1) FROM duckdb_views()"
            ).fetchone()
            lists = [
                connection.execute(f"SELECT {FILES_SCHEMA}.books_bbo_{span}_paths()").fetchone()[0]
                for span in half_years(warehouse)
            ]
        folder = warehouse.table_dir(BBO)
        files = [str(file.relative_to(folder)) for file in current_files(warehouse, BBO)]

        assert (0, ["2024_2", "2025_1"]) == (named, half_years(warehouse))
        assert sorted(files) == "\n".join(lists).split("\n")

    def test_files_of_a_day(self, warehouse: Warehouse):
        """An instrument's day has the files that are published of it; others have none."""
        put(warehouse, 1, DAY, SPOT, PERP)
        put(warehouse, 2, LATER)
        asked = [
            (DAY, SPOT),
            (DAY, PERP),
            (LATER, SPOT),
            (NEXT_DAY, SPOT),
            (date(2023, 1, 1), SPOT),
        ]
        with closing(connect(warehouse.data_dir)) as connection:
            found = [shown_files(connection, warehouse, BBO, *each) for each in asked]

        assert [current_files(warehouse, BBO, day, [name]) for day, name in asked] == found
        assert [1, 1, 1, 0, 0] == [len(files) for files in found]

    def test_version(self, warehouse: Warehouse):
        """The catalogue says which version of a big table it shows."""
        versions = []
        for run in (1, 2):
            put(warehouse, run)
            with closing(connect(warehouse.data_dir)) as connection:
                query = f"SELECT table_name, delta_version FROM {FILES_SCHEMA}.versions"
                versions += connection.execute(query).fetchall()
        newest = delta_table(warehouse, BBO).version()

        assert [("books.bbo", newest - 1), ("books.bbo", newest)] == versions

    def test_private(self, warehouse: Warehouse):
        """What is kept between refreshes is its owner's alone."""
        put(warehouse, 1)

        assert 0o600 == warehouse.file_views.stat().st_mode & 0o777


class TestChanges:
    def test_only_newer_commits_are_read(self, warehouse: Warehouse, logs_read: list[str]):
        """A whole log is read once; replaced, added and withdrawn days show all the same."""
        put(warehouse, 1, DAY, SPOT, PERP)
        logs_read.clear()
        put(warehouse, 2)
        put(warehouse, 3, NEXT_DAY)
        put(warehouse, 4, LATER)

        spot, perp = SPOT.split(":")[0], PERP.split(":")[0]
        first = [(DAY, spot, 2, rows_of(2)), (DAY, perp, 1, rows_of(1))]
        later = [(NEXT_DAY, spot, 3, rows_of(3)), (LATER, spot, 4, rows_of(4))]
        assert [*first, *later] == shown(warehouse)
        assert ["2024_2", "2025_1"] == half_years(warehouse)

        withdraw(warehouse, BBO, {LATER: [SPOT], DAY: [PERP]})
        refresh(warehouse, TABLES)
        assert [first[0], later[0]] == shown(warehouse)
        assert ["2024_2"] == half_years(warehouse)

        withdraw(warehouse, BBO, {DAY: [SPOT], NEXT_DAY: [SPOT]})
        refresh(warehouse, TABLES)
        assert ([], []) == (shown(warehouse), half_years(warehouse))

        put(warehouse, 5)
        assert [(DAY, spot, 5, rows_of(5))] == shown(warehouse)
        assert [] == logs_read

    def test_other_lists_stay(self, warehouse: Warehouse):
        """Only the lists of half-years whose files changed are written."""
        put(warehouse, 1)
        put(warehouse, 2, LATER)
        with duckdb.connect(str(warehouse.file_views)) as kept:
            kept.execute(
                f"CREATE OR REPLACE MACRO {FILES_SCHEMA}.books_bbo_2024_2_paths() AS 'as it was'"
            )
        put(warehouse, 3, LATER)

        with duckdb.connect(str(warehouse.file_views)) as kept:
            query = f"SELECT {FILES_SCHEMA}.books_bbo_2024_2_paths()"
            assert [("as it was",)] == kept.execute(query).fetchall()

    def test_several_publishes(self, warehouse: Warehouse):
        """A refresh shows all commits since the last one, a file that came and went not at all."""
        put(warehouse, 1)
        for run in (2, 3):
            publish(warehouse, BBO, DAY, [stage(warehouse, SPOT, run)])
            publish(warehouse, BBO, LATER, [stage(warehouse, PERP, run, LATER)])
        withdraw(warehouse, BBO, {LATER: [PERP]})
        refresh(warehouse, TABLES)

        assert [(DAY, "BINANCE", 3, rows_of(3))] == shown(warehouse)


def lose(warehouse: Warehouse) -> None:
    warehouse.file_views.unlink()


def damage(warehouse: Warehouse) -> None:
    content = warehouse.file_views.read_bytes()
    warehouse.file_views.write_bytes(content[:5_000] + b"damage" * 100 + content[5_600:])


def cut_short(warehouse: Warehouse) -> None:
    content = warehouse.file_views.read_bytes()
    warehouse.file_views.write_bytes(content[: len(content) // 2])


def overwrite(warehouse: Warehouse) -> None:
    warehouse.file_views.write_bytes(b"no database" * 1_000)


def empty(warehouse: Warehouse) -> None:
    warehouse.file_views.write_bytes(b"")


def make_by_other_code(warehouse: Warehouse) -> None:
    with duckdb.connect(str(warehouse.file_views)) as kept:
        kept.execute(
            f"CREATE OR REPLACE VIEW {FILES_SCHEMA}.versions AS SELECT * "
            f"REPLACE ('other' AS made_by) FROM (FROM (VALUES ('books.bbo', 1, '', '', "
            "['2024_2'])) AS shown(table_name, delta_version, commit_sha256, made_by, half_years))"
        )


class TestAnew:
    @pytest.mark.parametrize(
        "harm", [lose, damage, cut_short, overwrite, empty, make_by_other_code]
    )
    def test_what_is_kept_is_no_good(
        self, warehouse: Warehouse, harm: Callable[[Warehouse], None], logs_read: list[str]
    ):
        """Where what is kept is lost, damaged or of another release it is made from the tables."""
        put(warehouse, 1)
        harm(warehouse)
        publish(warehouse, BBO, NEXT_DAY, [stage(warehouse, SPOT, 2, NEXT_DAY)])
        logs_read.clear()
        refresh(warehouse, TABLES)
        both = [(DAY, "BINANCE", 1, rows_of(1)), (NEXT_DAY, "BINANCE", 2, rows_of(2))]

        assert both == shown(warehouse)
        assert ["books.bbo"] == logs_read

        put(warehouse, 3)
        assert [(DAY, "BINANCE", 3, rows_of(3)), both[1]] == shown(warehouse)
        assert ["books.bbo"] == logs_read

    def test_a_table_that_was_begun_afresh(self, warehouse: Warehouse):
        """Of a table that was moved away and has as many new commits none of the old is shown."""
        put(warehouse, 1)
        put(warehouse, 2)
        shutil.rmtree(warehouse.table_dir(BBO))
        for run in range(3, 8):
            publish(warehouse, BBO, LATER, [stage(warehouse, PERP, run, LATER)])
        refresh(warehouse, TABLES)

        assert [(LATER, "BINANCE_FUTURES", 7, rows_of(7))] == shown(warehouse)

    def test_a_table_that_was_moved_away(self, warehouse: Warehouse):
        """It is shown empty."""
        put(warehouse, 1)
        shutil.rmtree(warehouse.table_dir(BBO))
        refresh(warehouse, TABLES)

        assert [] == shown(warehouse)

    def test_commits_that_expired(self, warehouse: Warehouse):
        """Where the commit that is shown is not there any more the log's checkpoint is read."""
        put(warehouse, 1)
        put(warehouse, 2, NEXT_DAY)
        publish(warehouse, BBO, LATER, [stage(warehouse, SPOT, 3, LATER)])
        delta = delta_table(warehouse, BBO)
        delta.create_checkpoint()
        log = warehouse.table_dir(BBO) / "_delta_log"
        for commit in sorted(log.glob("*.json")):
            commit.unlink()
        refresh(warehouse, TABLES)
        refresh(warehouse, TABLES)

        assert [1, 2, 3] == [run for _, _, run, _ in shown(warehouse)]

    def test_a_data_folder_that_was_moved(self, tmp_path: Path):
        """Its catalogue names the files where they are now."""
        before = Warehouse(tmp_path / "before")
        put(before, 1)
        moved = Warehouse(before.data_dir.rename(tmp_path / "moved"))
        refresh(moved, TABLES)

        assert [(DAY, "BINANCE", 1, rows_of(1))] == shown(moved)
