from __future__ import annotations

import errno
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import MachineError, PublishError, WarehouseBusyError
from market_pipeline.tables import TABLES, refresh_catalogue
from market_pipeline.warehouse import working
from market_pipeline.warehouse.catalogue import FILES_SCHEMA, connect
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import LINEAGE, MadeOf
from market_pipeline.warehouse.locks import holding
from market_pipeline.warehouse.staging import StagedFile, StagedWriter
from market_pipeline_tests.catalogues import drawn_working

DAY, NEXT_DAY = date(2024, 8, 8), date(2024, 8, 9)
BBO, RAW = TABLES["book_bbo"], TABLES["raw_trades"]


@pytest.fixture
def warehouse(folder: Path) -> Warehouse:
    """An empty warehouse where the settings point."""
    return drawn_working(folder / "data")


@pytest.fixture
def small(warehouse: Warehouse):
    """The manager of the small tables, as a run makes it."""
    from market_pipeline.defs.io_managers import SmallTablesIOManager

    manager = SmallTablesIOManager(
        data_dir=str(warehouse.data_dir), database=str(warehouse.working_database)
    )
    return manager.create_io_manager(dg.build_init_resource_context())


@pytest.fixture
def big(warehouse: Warehouse):
    """The manager of the big tables."""
    from market_pipeline.defs.io_managers import DuckDBLakeIOManager

    return DuckDBLakeIOManager(data_dir=str(warehouse.data_dir))


def output(name: str, warehouse: Warehouse, day: date = DAY) -> dg.OutputContext:
    """The context in which a run hands a day of an asset to its manager."""
    return dg.build_output_context(
        asset_key=name,
        partition_key=day.isoformat(),
        definition_metadata={"schema": TABLES[name].schema, "partition_expr": "dt"},
        resource_config={
            "data_dir": str(warehouse.data_dir),
            "database": str(warehouse.working_database),
        },
        asset_partitions_def=daily(),
    )


def load(manager, name: str, warehouse: Warehouse, day: date = DAY):
    """What a later asset is given of a day."""
    with (
        output(name, warehouse, day) as upstream,
        dg.build_input_context(
            asset_key=name,
            partition_key=day.isoformat(),
            upstream_output=upstream,
            resource_config=upstream.resource_config,
            asset_partitions_def=daily(),
            asset_partition_key_range=dg.PartitionKeyRange(str(day), str(day)),
            dagster_type=dg.PythonObjectDagsterType(pl.DataFrame),
        ) as context,
    ):
        return manager.load_input(context)


def daily() -> dg.DailyPartitionsDefinition:
    return dg.DailyPartitionsDefinition(start_date="2024-07-01")


def rows(symbols: list[str], size: int, day: date = DAY, **columns) -> pl.DataFrame:
    """Manifest rows of some symbols of BINANCE."""
    schema = pl.from_arrow(RAW.arrow_schema.empty_table()).schema
    values = [
        {"exchange": "BINANCE", "symbol": symbol, "dt": day, "status": "usable", "bytes": size}
        | columns
        for symbol in symbols
    ]
    return pl.from_dicts([dict.fromkeys(schema.names()) | value for value in values], schema=schema)


def staged(
    warehouse: Warehouse, instrument: Instrument, sequence: int, day: date = DAY
) -> StagedFile:
    """One row of books.bbo of an instrument, staged."""
    values = dict.fromkeys(BBO.arrow_schema.names, 1) | {
        "exchange": instrument.venue,
        "symbol": instrument.symbol,
        "dt": day,
        "sequence_number": sequence,
        "flags": 0,
    }
    frame = pl.from_arrow(BBO.arrow_schema.empty_table())
    with StagedWriter(warehouse, BBO, instrument.id) as writer:
        writer.write(pl.from_dicts([values], schema=frame.schema).to_arrow())
    return writer.staged


def published(warehouse: Warehouse, query: str) -> list[tuple]:
    with connect(warehouse.data_dir) as connection:
        return connection.execute(query).fetchall()


class TestSmallTables:
    @pytest.fixture
    def store(self, small, warehouse: Warehouse):
        """Stores rows for some instruments as a run does."""
        from market_pipeline.defs.io_managers import PartitionRows

        def handle(frame: pl.DataFrame, instruments, day: date = DAY) -> dict:
            with output("raw_trades", warehouse, day) as context:
                small.handle_output(context, PartitionRows(frame, instruments))
                return context.get_logged_metadata()

        return handle

    def test_rows_are_published_and_read_back(self, small, store, warehouse, instruments):
        """Stored rows come back as a frame, and are in the catalogue at once."""
        frame = rows(["BTC-USDT", "ETH-USDT"], 7)
        store(frame, instruments)

        assert frame.equals(load(small, "raw_trades", warehouse))
        assert [(2, 14)] == published(warehouse, "SELECT count(*), sum(bytes) FROM lake.raw_trades")

    def test_only_the_instruments_of_the_run_are_replaced(self, store, warehouse, instruments):
        """A run of one instrument keeps the rows of the other, and of other days."""
        first, second = instruments
        store(rows(["BTC-USDT", "ETH-USDT"], 1), instruments)
        store(rows(["BTC-USDT"], 2, NEXT_DAY), [first], NEXT_DAY)
        store(rows(["ETH-USDT"], 3), [second])

        assert [("BTC-USDT", 8, 1), ("BTC-USDT", 9, 2), ("ETH-USDT", 8, 3)] == published(
            warehouse, "SELECT symbol, day(dt), bytes FROM lake.raw_trades ORDER BY ALL"
        )

    def test_an_instrument_without_rows_is_emptied(self, store, warehouse, instruments):
        """No row for an instrument of the run removes what it had."""
        store(rows(["BTC-USDT", "ETH-USDT"], 1), instruments)
        store(rows(["ETH-USDT"], 2), instruments)

        assert [("ETH-USDT", 2)] == published(
            warehouse, "SELECT symbol, bytes FROM lake.raw_trades"
        )

    def test_columns_are_matched_by_name(self, store, warehouse, instruments):
        """Reordered columns keep their meaning; the stock manager would swap them silently."""
        frame = rows(["BTC-USDT"], 5, path="a/path", sha256="a hash")
        store(frame.select(frame.columns[::-1]), instruments)

        assert [("a/path", "a hash", 5)] == published(
            warehouse, "SELECT path, sha256, bytes FROM lake.raw_trades"
        )

    def test_what_does_not_fit_is_refused(self, store, warehouse, instruments):
        """Rows of another shape, day or instrument are refused, and the old ones stay."""
        store(rows(["BTC-USDT"], 1), instruments)
        good = rows(["BTC-USDT"], 2)
        texts = {
            "missing ['bytes'], unexpected []": good.drop("bytes"),
            "unexpected ['size']": good.rename({"bytes": "size"}),
            "found=int32": good.cast({"bytes": pl.Int32}),
            "found=2024-08-09 of BINANCE:BTC-USDT": good.with_columns(dt=pl.lit(NEXT_DAY)),
            "found=2024-08-08 of BINANCE:X": good.with_columns(symbol=pl.lit("X")),
        }
        for text, frame in texts.items():
            with pytest.raises(PublishError, match=re.escape(text)):
                store(frame, instruments)

        assert [(1,)] == published(warehouse, "SELECT bytes FROM lake.raw_trades")

    def test_the_inputs_of_a_step_are_read_at_once(
        self, small, store, warehouse, instruments, monkeypatch
    ):
        """All small tables of a day are read at once, and what others changed since again."""
        opened, writing = [], working.writing
        monkeypatch.setattr(working, "writing", lambda *of: opened.append(1) or writing(*of))
        seen = []
        for size in (1, 2):
            working.replace_rows(warehouse, RAW, DAY, None, rows(["BTC-USDT"], size))
            opened.clear()
            load(small, "validation_report", warehouse)
            frame = load(small, "raw_trades", warehouse)
            seen.append((frame["bytes"].to_list(), len(opened)))
        load(small, "raw_trades", warehouse, NEXT_DAY)

        assert [([1], 1), ([2], 1)] == seen
        assert 2 == len(opened)

    def test_what_a_step_publishes_is_not_read_again(
        self, small, store, warehouse, instruments, monkeypatch
    ):
        """A later step is given what is published of the day, also of instruments of other runs."""
        load(small, "raw_trades", warehouse)
        monkeypatch.setattr(working, "writing", None)
        store(rows(["BTC-USDT", "ETH-USDT"], 1), instruments)
        store(rows(["ETH-USDT"], 2), instruments[1:])

        assert [1, 2] == load(small, "raw_trades", warehouse)["bytes"].to_list()

    def test_what_was_read_of_another_day_is_not_read_again(
        self, small, store, warehouse, instruments, monkeypatch
    ):
        """To publish a day leaves what is known of the day beside it, until that one changes."""
        working.replace_rows(warehouse, RAW, NEXT_DAY, None, rows(["BTC-USDT"], 1, NEXT_DAY))
        load(small, "raw_trades", warehouse, NEXT_DAY)
        opened, writing = [], working.writing
        monkeypatch.setattr(working, "writing", lambda *of: opened.append(1) or writing(*of))
        store(rows(["BTC-USDT"], 2), instruments)
        known = load(small, "raw_trades", warehouse, NEXT_DAY)["bytes"].to_list()
        assert ([1], []) == (known, opened)
        working.replace_rows(warehouse, RAW, NEXT_DAY, None, rows(["BTC-USDT"], 3, NEXT_DAY))

        assert [3] == load(small, "raw_trades", warehouse, NEXT_DAY)["bytes"].to_list()

    def test_outputs_of_a_step_are_published_together(self, small, warehouse, instruments):
        """The first publishes the rows of all or is refused with them; the others say what is."""
        from market_pipeline.defs.io_managers import PartitionRows, published_together

        def handle(name: str, what: object) -> dict:
            with output(name, warehouse) as context:
                small.handle_output(context, what)
                return {name: each.value for name, each in context.get_logged_metadata().items()}

        def outputs(day_of_second: date) -> dict:
            first, second = rows(["BTC-USDT"], 1), rows(["BTC-USDT"], 2, day_of_second)
            of_each = {"raw_trades": first, "raw_funding": second}
            return published_together(
                {name: PartitionRows(frame, instruments) for name, frame in of_each.items()}
            )

        made = outputs(DAY)
        query = "SELECT asset, bytes FROM lake.manifest ORDER BY ALL"
        with pytest.raises(PublishError):
            handle("raw_trades", outputs(NEXT_DAY)["raw_trades"])
        assert [] == published(warehouse, query)
        handle("raw_trades", made["raw_trades"])
        together = published(warehouse, query)
        shown = handle("raw_funding", made["raw_funding"])

        assert [("raw_funding", 2), ("raw_trades", 1)] == together == published(warehouse, query)
        assert (1, "lake.raw_funding") == (
            shown["dagster/partition_row_count"],
            shown["dagster/table_name"],
        )
        assert [(2,)] == published(warehouse, f"SELECT bytes FROM ({shown['Query']})")

    def test_nothing_stored_yet(self, small, warehouse):
        """A day that was never stored is an empty frame with the columns and types of the table."""
        frame = load(small, "validation_report", warehouse)
        expected = pl.from_arrow(TABLES["validation_report"].arrow_schema.empty_table())

        assert (0, expected.schema) == (frame.height, frame.schema)

    def test_a_busy_warehouse(self, store, warehouse, instruments, monkeypatch):
        """Who waits longer than the setting learns who is in the way, and nothing is changed."""
        store(rows(["BTC-USDT"], 1), instruments)
        monkeypatch.setenv("PIPELINE_LOCK_TIMEOUT_SECONDS", "0.1")
        with (
            holding(warehouse, "working"),
            pytest.raises(WarehouseBusyError, match=r"working was in use .* 0\.1 s") as caught,
        ):
            store(rows(["BTC-USDT"], 2), instruments)

        assert str(warehouse.lock_file("working")) == caught.value.file
        assert [(1,)] == published(warehouse, "SELECT bytes FROM lake.raw_trades")

    def test_metadata(self, store, instruments):
        """The number of rows stored is told to Dagster."""
        told = store(rows(["BTC-USDT"], 1), instruments)

        assert 1 == told["dagster/partition_row_count"].value


class TestBigTables:
    @pytest.fixture
    def store(self, big, warehouse: Warehouse):
        """Publishes staged files as a run does; returns what was told to Dagster."""
        from market_pipeline.defs.io_managers import PartitionFiles

        def handle(files, withdrawn=(), day: date = DAY) -> dict:
            with output("book_bbo", warehouse, day) as context:
                big.handle_output(context, PartitionFiles(files, withdrawn))
                return {name: each.value for name, each in context.get_logged_metadata().items()}

        return handle

    def test_files_are_published_and_read_back(self, big, store, warehouse, instruments):
        """Published files come back by instrument, and are in the catalogue at once."""
        store([staged(warehouse, each, n) for n, each in enumerate(instruments)])
        found = load(big, "book_bbo", warehouse)

        assert [[0], [1]] == [
            found.of(each.id).collect()["sequence_number"].to_list() for each in instruments
        ]
        assert [(0,), (1,)] == published(
            warehouse, "SELECT sequence_number FROM books.bbo ORDER BY ALL"
        )

    def test_others_are_kept_and_the_withdrawn_go(self, store, warehouse, instruments):
        """One commit replaces an instrument, withdraws another and keeps the other days."""
        first, second = instruments
        store([staged(warehouse, each, 1) for each in instruments])
        store([staged(warehouse, second, 2, NEXT_DAY)], day=NEXT_DAY)
        told = store([staged(warehouse, first, 3)], withdrawn=[second.id])

        assert [("BTC-USDT", 8, 3), ("ETH-USDT", 9, 2)] == published(
            warehouse, "SELECT symbol, day(dt), sequence_number FROM books.bbo ORDER BY ALL"
        )
        assert (3, "books.bbo") == (told["delta_version"], told["dagster/table_name"])

    def test_the_query_in_the_metadata_runs(self, store, warehouse, instruments):
        """The query that is shown to the user returns the day's rows."""
        told = store([staged(warehouse, instruments[0], 4)])
        found = published(warehouse, told["query"])

        assert [("BINANCE", "BTC-USDT", DAY)] == [row[:3] for row in found]

    def test_nothing_published_yet(self, big, warehouse):
        """Of a day that was never published there are the columns of the table, and no row."""
        frame = load(big, "book_bbo", warehouse).of("BINANCE:BTC-USDT").collect()

        assert (0, BBO.arrow_schema.names) == (frame.height, frame.columns)

    def test_every_instrument_failed(self, store, warehouse, instruments):
        """A day without any file withdraws all; before a first publish there is nothing to do."""
        before = store([], withdrawn=[each.id for each in instruments])
        store([staged(warehouse, each, 1) for each in instruments])
        store([], withdrawn=[each.id for each in instruments])

        assert -1 == before["delta_version"]
        assert [(0,)] == published(warehouse, "SELECT count(*) FROM books.bbo")


def both_managers(warehouse: Warehouse):
    """Those of the big and of the small tables, as a run is given them."""
    from market_pipeline.defs.io_managers import DuckDBLakeIOManager, SmallTablesIOManager

    place = {"data_dir": str(warehouse.data_dir)}
    database = str(warehouse.working_database)
    return DuckDBLakeIOManager(**place), SmallTablesIOManager(**place, database=database)


def test_a_run_shows_all_it_published_at_once(warehouse: Warehouse, instruments, monkeypatch):
    """The catalogue changes once, at the end of a run, however many tables it published."""
    from market_pipeline.defs import _one_switch
    from market_pipeline.defs.io_managers import PartitionFiles, PartitionRows

    lake, rows_of_tables = both_managers(warehouse)
    query = "SELECT (SELECT count(*) FROM books.bbo), (SELECT count(*) FROM lake.raw_trades)"
    run, refreshed = dg.build_init_resource_context(), []

    def refresh(of: Warehouse) -> None:
        refreshed.append(of)
        refresh_catalogue(of)

    monkeypatch.setattr(_one_switch, "refresh_catalogue", refresh)
    with lake.yield_for_execution(run) as big, rows_of_tables.yield_for_execution(run) as small:
        for name, manager, what in (
            ("raw_trades", small, PartitionRows(rows(["BTC-USDT", "ETH-USDT"], 7), instruments)),
            ("book_bbo", big, PartitionFiles([staged(warehouse, instruments[0], 1)])),
        ):
            with output(name, warehouse) as context:
                manager.handle_output(context, what)
        during = published(warehouse, query)
    after = published(warehouse, query)

    assert ([(0, 0)], [(1, 2)], [warehouse]) == (during, after, refreshed)


def test_no_run_publishes_what_it_could_not_show(warehouse: Warehouse, instruments, monkeypatch):
    """Where the folder of the catalogue may not be written to, the first step fails."""
    from market_pipeline.defs import _one_switch
    from market_pipeline.defs.io_managers import PartitionRows

    def read_only(*, dir: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(dir))

    _, manager = both_managers(warehouse)
    monkeypatch.setattr(_one_switch, "TemporaryFile", read_only)
    with (
        manager.yield_for_execution(dg.build_init_resource_context()) as small,
        output("raw_trades", warehouse) as context,
        pytest.raises(MachineError, match="read-only disk"),
    ):
        small.handle_output(context, PartitionRows(rows(["BTC-USDT"], 7), instruments))
    assert 0 == working.read_rows(warehouse, RAW).height


def test_what_files_were_made_of_is_recorded_by_the_end_of_a_run(
    warehouse: Warehouse, instruments, monkeypatch
):
    """With the next small table that is written, not with one that fails, or as the run ends."""
    from market_pipeline.defs.io_managers import PartitionFiles, PartitionRows

    lake, rows_of_tables = both_managers(warehouse)
    run, found = dg.build_init_resource_context(), []
    made_of = {each.id: MadeOf((), {}) for each in instruments}
    bbo, next_bbo = (
        PartitionFiles([staged(warehouse, instruments[0], 1, day)], (), made_of)
        for day in (DAY, NEXT_DAY)
    )
    raw = PartitionRows(rows(["BTC-USDT", "ETH-USDT"], 7), instruments, made_of)
    wrong = PartitionRows(rows(["BTC-USDT"], 7, NEXT_DAY), instruments, made_of)

    def look() -> None:
        recorded = working.read_rows(warehouse, LINEAGE).sort("output_table", "dt", "symbol")
        found.append([*recorded.select("output_table", "symbol", pl.col("dt").dt.day()).rows()])

    with lake.yield_for_execution(run) as big, rows_of_tables.yield_for_execution(run) as small:
        for name, manager, what, day in (
            ("book_bbo", big, bbo, DAY),
            ("raw_trades", small, wrong, DAY),
            ("raw_trades", small, raw, DAY),
            ("book_bbo", big, next_bbo, NEXT_DAY),
        ):
            with output(name, warehouse, day) as context, suppress(PublishError):
                manager.handle_output(context, what)
            look()
    look()

    first = [
        ("books.bbo", "BTC-USDT", 8),
        ("lake.raw_trades", "BTC-USDT", 8),
        ("lake.raw_trades", "ETH-USDT", 8),
    ]
    assert [[], [], first, first] == found[:4]
    assert [first[0], ("books.bbo", "BTC-USDT", 9), *first[1:]] == found[4]


def test_two_runs_in_one_process(small, big, warehouse: Warehouse, instruments, monkeypatch):
    """Of two that write a small table at once both publish, the second after the first."""
    from market_pipeline.defs import _one_switch, io_managers

    writing, replace_rows = _one_switch.writing, io_managers.replace_rows_within
    second, waits = [], threading.Event()

    def publish(day: date) -> None:
        with output("raw_trades", warehouse, day) as context:
            made = io_managers.PartitionRows(rows(["BTC-USDT"], 7, day), instruments)
            small.handle_output(context, made)

    def asked(*arguments):
        if second:
            waits.set()
        return writing(*arguments)

    def replaced(*arguments):
        if not second:
            second.append(pool.submit(publish, NEXT_DAY))
            assert waits.wait(60)
        return replace_rows(*arguments)

    monkeypatch.setattr(_one_switch, "writing", asked)
    monkeypatch.setattr(io_managers, "replace_rows_within", replaced)
    run = dg.build_init_resource_context()
    with big.yield_for_execution(run), ThreadPoolExecutor(1) as pool:
        publish(DAY)
    second[0].result()
    assert [DAY, NEXT_DAY] == sorted(working.read_rows(warehouse, RAW)["dt"])


def test_the_catalogue_is_there_before_anything_is_published(warehouse: Warehouse):
    """The package's own connect makes an empty catalogue, which a plain DuckDB opens too."""
    import market_pipeline

    with market_pipeline.connect(warehouse.data_dir) as connection:
        tables = connection.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables() "
            "WHERE database_name = 'market' UNION ALL SELECT schema_name || '.' || view_name "
            "FROM duckdb_views() WHERE database_name = 'market' AND NOT internal "
            "AND schema_name <> ?",
            [FILES_SCHEMA],
        ).fetchall()
    with duckdb.connect(str(warehouse.catalogue), read_only=True) as plain:
        counts = [plain.execute(f"SELECT count(*) FROM {name}").fetchone() for (name,) in tables]
        described = plain.execute("DESCRIBE books.bbo").fetchall()

    assert {table.sql_name for table in TABLES.values()} < {name for (name,) in tables}
    assert {(0,)} == set(counts)
    assert [column.name for column in BBO.columns] == [name for name, *_ in described]
