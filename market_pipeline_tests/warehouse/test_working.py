from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerContext

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from market_pipeline.errors import MachineError, PublishError, WarehouseBusyError
from market_pipeline.machine import in_our_words
from market_pipeline.memory import allocated_bytes
from market_pipeline.warehouse import working, working_file
from market_pipeline.warehouse.file_views import text
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.locks import holding
from market_pipeline.warehouse.tables import Column
from market_pipeline.warehouse.working import (
    count_rows,
    delete_rows,
    ensure_table,
    find_rows,
    read_columns,
    read_day,
    read_rows,
    replace_rows,
    replace_rows_within,
    replaced,
)
from market_pipeline.warehouse.working_file import (
    frame_of,
    open_database,
    working_log,
    working_mark,
    writing,
)
from market_pipeline_tests.warehouse.writers import (
    DAY,
    NEXT_DAY,
    PERP,
    REPORT,
    SPOT,
    hold_for_writing,
    report,
)

BOTH = (PERP, SPOT)


def test_a_row_takes_the_memory_of_few():
    """Ten kept rows of a hundred numbers take less than 20 MB; by ten thousand rows it is 80."""
    connection = duckdb.connect(config={"threads": 1})
    query = "SELECT " + ", ".join(f"{number}::BIGINT AS n{number}" for number in range(100))
    frame_of(connection.execute(query))
    before = allocated_bytes().get("c", 0)
    kept = [frame_of(connection.execute(query)) for _ in range(10)]
    taken = allocated_bytes().get("c", 0) - before
    connection.close()

    assert [(1, 100)] * 10 == [frame.shape for frame in kept]
    assert taken < 20e6


def test_a_file_of_an_older_form_is_written_on(warehouse: Warehouse):
    """A working database that DuckDB made for readers before 1.0 keeps its rows and gets new."""
    replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))
    path = warehouse.working_database
    new, old = path.with_name("new"), path.with_name("old")
    path.rename(new)
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH {text(str(new))} AS new")
        connection.execute(f"ATTACH {text(str(old))} AS old (STORAGE_VERSION 'v1.0.0')")
        connection.execute("COPY FROM DATABASE new TO old")
        forms = connection.execute("SELECT tags['storage_version'] FROM duckdb_databases()")
        assert {("v1.0.0+",), ("v1.4.0+",)} < set(forms.fetchall())
    old.rename(path)

    replace_rows(warehouse, REPORT, NEXT_DAY, None, report([PERP], 2, NEXT_DAY))

    assert 3 == len(runs(warehouse))


def test_a_file_of_large_blocks_is_written_on(warehouse: Warehouse):
    """A working database with DuckDB's own size of block keeps it and its rows, and gets new."""
    path = warehouse.working_database
    made = []
    for own in (False, True):
        if own:
            path.unlink()
            with duckdb.connect() as connection:
                connection.execute(f"ATTACH {text(str(path))} AS own (STORAGE_VERSION 'v1.4.0')")
        replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))
        with duckdb.connect(str(path), read_only=True) as connection:
            made += connection.execute("SELECT block_size FROM pragma_database_size()").fetchall()

    assert [(65_536,), (262_144,)] == made
    assert 2 == len(runs(warehouse))


def runs(warehouse: Warehouse, **where) -> list[tuple[str, str, int]]:
    frame = read_rows(warehouse, REPORT, **where)
    return [(exchange, str(dt), run) for exchange, _, dt, run in frame.rows()]


class TestReplaceRows:
    def test_one_instrument(self, warehouse: Warehouse):
        """Replacing one instrument keeps the day's others and the other days."""
        replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))
        replace_rows(warehouse, REPORT, NEXT_DAY, None, report(BOTH, 2, NEXT_DAY))
        written = replace_rows(warehouse, REPORT, DAY, [PERP], report([PERP], 3))

        assert 1 == written
        assert [("BINANCE", "2024-08-08", 1), ("BINANCE_FUTURES", "2024-08-08", 3)] == runs(
            warehouse, day=DAY
        )
        assert 4 == len(runs(warehouse))

    def test_whole_day(self, warehouse: Warehouse):
        """Without instruments the whole day is replaced, those without new rows included."""
        replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))
        replace_rows(warehouse, REPORT, DAY, None, report([SPOT], 2))

        assert [("BINANCE", "2024-08-08", 2)] == runs(warehouse)

    def test_empty_frame(self, warehouse: Warehouse):
        """No rows for an instrument removes the old ones, however often it is done."""
        replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))
        for _ in range(2):
            assert 0 == replace_rows(warehouse, REPORT, DAY, [PERP], report([], 2))

        assert [("BINANCE", "2024-08-08", 1)] == runs(warehouse)

    def test_by_name(self, warehouse: Warehouse):
        """Columns in another order land under their own names."""
        frame = report([PERP], 1).select("run", "dt", "symbol", "exchange")
        replace_rows(warehouse, REPORT, DAY, None, frame)

        assert report([PERP], 1).equals(read_rows(warehouse, REPORT))

    @pytest.mark.parametrize(
        ("frame", "column"),
        [
            (report([PERP], 1).drop("run"), "run"),
            (report([PERP], 1).with_columns(extra=1), "extra"),
            (report([PERP], 1).cast({"run": pl.Int32}), "run"),
            (report([PERP], 1).cast({"run": pl.String}), "run"),
        ],
        ids=["missing", "unexpected", "narrower", "text"],
    )
    def test_other_columns(self, warehouse: Warehouse, frame: pl.DataFrame, column: str):
        """Columns that are not the table's are refused by name, and the old rows stay."""
        replace_rows(warehouse, REPORT, DAY, None, report([SPOT], 1))

        with pytest.raises(PublishError) as caught:
            replace_rows(warehouse, REPORT, DAY, None, frame)
        assert column == caught.value.column
        assert [("BINANCE", "2024-08-08", 1)] == runs(warehouse)

    @pytest.mark.parametrize(
        "frame",
        [
            report([PERP, SPOT], 1),
            report([PERP], 1, NEXT_DAY),
            report([PERP], 1).with_columns(symbol=pl.lit(None, pl.String)),
        ],
        ids=["instrument", "day", "null"],
    )
    def test_rows_outside(self, warehouse: Warehouse, frame: pl.DataFrame):
        """Rows that a rerun would not replace, and so double, are refused."""
        with pytest.raises(PublishError, match="another day or instrument"):
            replace_rows(warehouse, REPORT, DAY, [PERP], frame)
        assert [] == runs(warehouse)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)
_MORE = ("share", "DOUBLE"), ("words", "VARCHAR[]"), ("at", "TIMESTAMP"), ("text", "VARCHAR")
WIDER = dataclasses.replace(
    REPORT, columns=(*REPORT.columns, *(Column(name, kind, "") for name, kind in _MORE))
)
_VALUES = st.tuples(
    st.none() | st.integers(0, 9),
    st.none() | st.sampled_from([0.1, -0.0, math.nan, math.inf]),
    st.none() | st.lists(st.none() | st.text(max_size=2), max_size=2),
    st.none() | st.integers(0, 2**52).map(lambda us: EPOCH + timedelta(microseconds=us)),
    st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
_ROWS = st.lists(st.tuples(st.sampled_from([SPOT, PERP, "BINANCE:Ä", "BINANCE:B-1"]), _VALUES))


class TestReplaced:
    @settings(max_examples=30)
    @given(st.lists(_ROWS, min_size=1, max_size=4))
    def test_is_what_is_read_afterwards(self, days):
        """Replacements of any instruments by any rows are known without a look at the database."""
        connection, known = duckdb.connect(config={"threads": 1}), WIDER.empty()
        for given_rows in days:
            ids = [*{name for name, _ in given_rows}]
            records = [(*name.split(":"), DAY, *values) for name, values in given_rows]
            frame = pl.DataFrame(records, known.schema, orient="row")
            replace_rows_within(connection, WIDER, DAY, ids, frame)
            known = replaced(known, WIDER, ids, frame.select(*reversed(frame.columns)))
            read = working._read_day(connection, WIDER, DAY)
            assert_frame_equal(read, known)
            assert read.write_ndjson() == known.write_ndjson()


class TestWriting:
    def test_rolls_back(self, warehouse: Warehouse):
        """When the block raises, nothing of it stays and the lock is free again."""
        replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))
        with pytest.raises(ZeroDivisionError), writing(warehouse) as connection:
            connection.execute("DELETE FROM quality.validation_report")
            raise ZeroDivisionError

        assert 2 == len(runs(warehouse))

    @pytest.mark.parametrize("rows", [1, 50_000])
    def test_full_disk(self, warehouse: Warehouse, full_at, rows: int):
        """A commit that finds no room leaves nothing of itself, and all that was there readable."""
        replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))
        many = pl.concat([report([PERP], 2, NEXT_DAY)] * rows)
        many = many.with_columns(run=pl.int_range(pl.len()) * 7_919 % 104_729)
        room = warehouse.working_database.stat().st_size
        with full_at(room), pytest.raises(MachineError), in_our_words():
            replace_rows(warehouse, REPORT, NEXT_DAY, None, many)
        with full_at(room):
            assert 2 == len(runs(warehouse))

        assert many.height == replace_rows(warehouse, REPORT, NEXT_DAY, None, many)

    def test_locked(self, warehouse: Warehouse):
        """Who waits too long for another writer learns which lock it was."""
        with (
            holding(warehouse, "working"),
            pytest.raises(WarehouseBusyError) as caught,
        ):
            replace_rows(
                dataclasses.replace(warehouse, wait_seconds=0.1), REPORT, DAY, None, report(BOTH, 1)
            )

        assert str(warehouse.lock_file("working")) == caught.value.file

    def test_somebody_opened_the_private_file(
        self, warehouse: Warehouse, processes: ForkServerContext
    ):
        """A shell on the private file is waited for, then named; after it all goes on."""
        ours, theirs = processes.Pipe()
        shell = processes.Process(
            target=hold_for_writing, args=(warehouse.working_database, theirs)
        )
        shell.start()
        ours.recv()
        try:
            hurried = dataclasses.replace(warehouse, wait_seconds=0.2)
            with pytest.raises(WarehouseBusyError, match=rf"process {shell.pid} ") as caught:
                replace_rows(hurried, REPORT, DAY, None, report(BOTH, 1))
            assert str(warehouse.working_database) == caught.value.file
        finally:
            ours.send(None)
            shell.join(30)

        assert 2 == replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))

    def test_damaged(self, warehouse: Warehouse):
        """A file that is no database is named at once, without waiting for a lock."""
        warehouse.working_database.write_bytes(b"not a database" * 1_000)

        with pytest.raises(PublishError, match="cannot be opened") as caught:
            replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))
        assert str(warehouse.working_database) == caught.value.file


class TestTables:
    def test_nothing_written(self, warehouse: Warehouse):
        """Before the first write there is an empty frame, and reading makes no file."""
        assert report([], 1).schema == read_rows(warehouse, REPORT).schema
        assert not warehouse.working_database.exists()

    def test_new_column(self, warehouse: Warehouse):
        """A column the table did not have before is null in the older rows."""
        replace_rows(warehouse, REPORT, DAY, None, report([PERP], 1))
        extra = Column("share", "DOUBLE", "New.")
        wider = dataclasses.replace(REPORT, columns=(*REPORT.columns, extra))
        replace_rows(
            warehouse, wider, DAY, [SPOT], report([SPOT], 2).with_columns(share=pl.lit(0.5))
        )

        assert [0.5, None] == read_rows(warehouse, wider)["share"].to_list()
        assert 2 == read_rows(warehouse, REPORT).height

    def test_changed_type(self, warehouse: Warehouse):
        """A column whose type changed is refused, and the rows stay."""
        replace_rows(warehouse, REPORT, DAY, None, report([PERP], 1))
        changed = dataclasses.replace(
            REPORT, columns=(*REPORT.columns[:3], Column("run", "DOUBLE", "Changed."))
        )

        with pytest.raises(PublishError, match="another type") as caught:
            replace_rows(warehouse, changed, DAY, None, report([PERP], 2).cast({"run": pl.Float64}))
        assert ("run", "BIGINT", "DOUBLE") == (
            caught.value.column,
            caught.value.expected,
            caught.value.found,
        )
        assert [("BINANCE_FUTURES", "2024-08-08", 1)] == runs(warehouse)

    def test_every_type(self):
        """Each type that a column may declare is what DuckDB itself calls it."""
        numbers = ["BIGINT", "INTEGER", "USMALLINT", "DOUBLE", "BOOLEAN"]
        kinds = [*numbers, "VARCHAR", "DATE", "TIMESTAMP", "BIGINT[]", "DOUBLE[]", "VARCHAR[]"]
        table = dataclasses.replace(
            REPORT, columns=tuple(Column(f"c{i}", kind, "") for i, kind in enumerate(kinds))
        )
        connection = duckdb.connect()
        for _ in range(2):
            ensure_table(connection, table)

        rows = connection.execute("DESCRIBE quality.validation_report").fetchall()
        assert kinds == [row[1] for row in rows]


class TestReadDay:
    def test_one_day_of_each_table(self, warehouse: Warehouse):
        """The rows of one day by table, none of a table that was never written."""
        other = dataclasses.replace(REPORT, name="other_report")
        replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))
        replace_rows(warehouse, REPORT, NEXT_DAY, None, report([SPOT], 2, NEXT_DAY))
        found = read_day(warehouse, [REPORT, other], DAY)

        assert [(REPORT.sql_name, 2), (other.sql_name, 0)] == [
            (name, frame.height) for name, frame in found.items()
        ]
        assert found[REPORT.sql_name].equals(read_rows(warehouse, REPORT, DAY))

    def test_only_what_may_have_changed_is_read_again(self, warehouse: Warehouse, monkeypatch):
        """A replacement leaves what this process knows of other tables, and of its own nothing."""
        other = dataclasses.replace(REPORT, name="other_report")
        for table in (REPORT, other):
            replace_rows(warehouse, table, DAY, None, report(BOTH, 1))
        read, select = [], working._select

        def counted(connection, table, *rest):
            read.append(table.name)
            return select(connection, table, *rest)

        monkeypatch.setattr(working, "_select", counted)
        for run in (2, 3):
            before = read_day(warehouse, [REPORT, other], DAY)
            replace_rows(warehouse, REPORT, DAY, None, report(BOTH, run))
            after = read_day(warehouse, [REPORT, other], DAY)

            assert [{run}, {1}] == [{*rows["run"]} for rows in after.values()]
            assert before[other.sql_name] is after[other.sql_name]
        assert ["validation_report", "other_report"] + ["validation_report"] * 2 == read

    def test_what_others_commit_is_read(self, warehouse: Warehouse):
        """Whoever else changes the file, and whatever a block changes that does not say it."""
        replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))
        change = "UPDATE quality.validation_report SET run = run + 1"
        seen = []
        for _ in range(2):
            seen.append({*read_rows(warehouse, REPORT, DAY)["run"]})
            with duckdb.connect(str(warehouse.working_database)) as other:
                other.execute(change)
            seen.append({*read_rows(warehouse, REPORT, DAY)["run"]})
            with writing(warehouse) as connection:
                connection.execute(change)

        assert [{1}, {2}, {3}, {4}] == seen
        assert {5} == {*read_rows(warehouse, REPORT, DAY)["run"]}

    def test_what_waits_in_the_log_is_read(self, warehouse: Warehouse, monkeypatch):
        """States that leave commits in the log have no mark: none is taken for another."""
        replace_rows(warehouse, REPORT, DAY, None, report([PERP], 1))
        monkeypatch.setattr(working_file, "working_mark", lambda _: None)
        first = read_day(warehouse, [REPORT], DAY)[REPORT.sql_name]
        path = warehouse.working_database
        with duckdb.connect(str(path)) as other:  # as another process that writes
            other.execute(f"UPDATE {REPORT.sql_name} SET run = 2")
        second = read_day(warehouse, [REPORT], DAY)[REPORT.sql_name]

        assert [[1], [2]] == [each["run"].to_list() for each in (first, second)]

    def test_a_table_with_another_column(self, warehouse: Warehouse):
        """Rows are those of the columns that are asked for, though the table was read before."""
        replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))
        extra = Column("share", "DOUBLE", "New.")
        wider = dataclasses.replace(REPORT, columns=(*REPORT.columns, extra))
        narrow = read_rows(warehouse, REPORT, DAY)

        assert [*narrow.columns, "share"] == read_rows(warehouse, wider, DAY).columns
        assert narrow.columns == read_rows(warehouse, REPORT, DAY).columns


class TestMark:
    def test_changes_with_each_commit_only(self, warehouse: Warehouse):
        """Another one after a commit, however soon; the same after reading and after a failure."""
        marks = [working_mark(warehouse)]
        for run in range(3):
            replace_rows(warehouse, REPORT, DAY, None, report(BOTH, run))
            marks.append(working_mark(warehouse))
            read_rows(warehouse, REPORT)
            with pytest.raises(ZeroDivisionError), writing(warehouse) as connection:
                connection.execute("DELETE FROM quality.validation_report")
                raise ZeroDivisionError
            assert marks[-1] == working_mark(warehouse)

        assert (4, None) == (len(set(marks)), marks[0])

    def test_a_commit_leaves_no_log(self, warehouse: Warehouse):
        """A commit is in the file itself before anybody closes it."""
        replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))
        before = working_mark(warehouse)
        with open_database(warehouse) as connection:
            connection.execute(f"UPDATE {REPORT.sql_name} SET run = 2")
            log, after = working_log(warehouse), working_mark(warehouse)
            assert (False, False) == (log.exists() and log.stat().st_size > 0, before == after)

    def test_commits_of_a_killed_writer_are_read(self, warehouse: Warehouse):
        """What waits in a log, as of a release that wrote one, is read and moved into the file."""
        replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))
        with duckdb.connect(str(warehouse.working_database)) as other:
            other.execute("PRAGMA disable_checkpoint_on_shutdown")
            other.execute(f"UPDATE {REPORT.sql_name} SET run = 2")
        before = working_log(warehouse).stat().st_size
        found = read_rows(warehouse, REPORT)["run"].to_list()

        assert (True, [2, 2], False) == (before > 0, found, working_log(warehouse).exists())

    def test_none_while_commits_wait_in_the_log(self, warehouse: Warehouse):
        """A log that a killed writer left says that the file itself is not all there is."""
        replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))
        working_log(warehouse).touch()
        assert working_mark(warehouse) is None


class TestFindRows:
    def test_any_day(self, warehouse: Warehouse):
        """Rows with one of the values are found on every day, and of each table apart."""
        replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))
        replace_rows(warehouse, REPORT, NEXT_DAY, None, report([SPOT], 2, NEXT_DAY))
        frames = find_rows(warehouse, [REPORT, REPORT], "exchange", {"BINANCE", "KRAKEN"})

        assert [[DAY, NEXT_DAY]] * 2 == [frame["dt"].to_list() for frame in frames]
        assert [REPORT.empty().schema] * 2 == [frame.schema for frame in frames]

    def test_nothing(self, warehouse: Warehouse):
        """Without a value, or a database, there is a frame without rows for each table."""
        assert [0] == [each.height for each in find_rows(warehouse, [REPORT], "exchange", {"A"})]
        replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))
        assert [0] == [each.height for each in find_rows(warehouse, [REPORT], "exchange", [])]
        assert [0] == [each.height for each in find_rows(warehouse, [REPORT], "exchange", ["' OR"])]


class TestDeleteRows:
    OTHER = dataclasses.replace(REPORT, name="other")

    def test_days_and_instruments(self, warehouse: Warehouse):
        """Exactly the rows of the days and instruments named go, from every table named."""
        for table in (REPORT, self.OTHER):
            replace_rows(warehouse, table, DAY, None, report(BOTH, 1))
            replace_rows(warehouse, table, NEXT_DAY, None, report(BOTH, 2, NEXT_DAY))
        before = count_rows(warehouse, (REPORT, self.OTHER), NEXT_DAY)
        delete_rows(warehouse, [REPORT], {DAY: [PERP], NEXT_DAY: {SPOT}})

        assert {(DAY, PERP): 2, (DAY, SPOT): 2} == before
        assert [("BINANCE", str(DAY), 1), ("BINANCE_FUTURES", str(NEXT_DAY), 2)] == sorted(
            runs(warehouse)
        )
        assert 4 == read_rows(warehouse, self.OTHER).height

    def test_columns_of_earlier_days(self, warehouse: Warehouse):
        """Columns are read of days before one only, a frame for each table."""
        replace_rows(warehouse, REPORT, DAY, None, report(BOTH, 1))
        replace_rows(warehouse, REPORT, NEXT_DAY, None, report(BOTH, 2, NEXT_DAY))
        first, second = read_columns(warehouse, [REPORT, self.OTHER], ["run", "dt"], NEXT_DAY)

        assert ([(1, DAY), (1, DAY)], 0) == (first.rows(), second.height)

    def test_nothing_there(self, warehouse: Warehouse):
        """Where nothing was written there is nothing to count or to delete, and nothing is made."""
        delete_rows(warehouse, [REPORT], {DAY: [PERP]})
        assert ({}, False) == (
            count_rows(warehouse, [REPORT], NEXT_DAY),
            warehouse.working_database.exists(),
        )
