from __future__ import annotations

from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from market_pipeline.books.tables import BBO, CHECKPOINTS, REBUILDS
from market_pipeline.errors import PublishError
from market_pipeline.metrics.tables import BOOK_METRICS
from market_pipeline.tables import refresh_catalogue
from market_pipeline.warehouse.catalogue import connect
from market_pipeline.warehouse.chain import Link, read_chain
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import (
    NOT_FETCHED,
    Input,
    MadeOf,
    lineage_row,
    record_lineage,
)
from market_pipeline.warehouse.manifest import RAW_BOOK_DELTAS
from market_pipeline.warehouse.tables import Table
from market_pipeline.warehouse.working import replace_rows
from market_pipeline.warehouse.working_file import writing
from market_pipeline_tests.catalogues import drawn_working

DAY, DAY_BEFORE = date(2024, 8, 8), date(2024, 8, 7)
BTC = "BINANCE:BTC-USDT"
PATH, URI = "deltas/1.parquet", "s3://lake/deltas/1.parquet"
OLD, NEW = (
    MadeOf((Input("lake.raw_book_deltas", DAY, PATH, "old", URI),), {"tick": "0.1"}),
    MadeOf((Input("lake.raw_book_deltas", DAY, PATH, "new", URI),), {"tick": "0.1"}),
)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """One raw object is registered, with the hash `new`."""
    made = drawn_working(tmp_path)
    row = {"exchange": "BINANCE", "symbol": "BTC-USDT", "dt": DAY, "status": "usable", "shard": 1}
    row |= {"path": PATH, "sha256": "new", "uri": URI, "made_from": ["ff  days/btc.csv.gz"]}
    replace_rows(made, RAW_BOOK_DELTAS, DAY, [BTC], RAW_BOOK_DELTAS.frame([row]))
    return made


def chain(
    warehouse: Warehouse, *rows: tuple[Table, MadeOf, str], day: date = DAY
) -> dict[str, Link]:
    """Records what tables were made of, and reads it back by table."""
    with writing(warehouse) as connection:
        for table, made_of, sha256 in rows:
            row = lineage_row(table, day, BTC, made_of, sha256)
            record_lineage(connection, {(table.sql_name, day, BTC): row})
    refresh_catalogue(warehouse)
    with closing(connect(warehouse.data_dir)) as connection:
        return {link.table: link for link in read_chain(connection, BTC, DAY)}


def of(table: str, sha256: str, day: date = DAY) -> MadeOf:
    """Made of one table's part."""
    return MadeOf((Input(table, day, None, sha256),), {})


def states(link: Link) -> list[tuple[str, Any]]:
    return [(each.state, each.sha256_now) for each in link.inputs]


def test_back_to_the_object(warehouse: Warehouse):
    """A raw object is named with hash, path and uri, and with what a converter made it from."""
    (told,) = chain(warehouse, (BBO, NEW, "b"))["books.bbo"].inputs

    assert (PATH, URI, "new", "there") == (told.path, told.uri, told.sha256, told.state)
    assert ("ff  days/btc.csv.gz",) == told.vendor_files


def test_one_table_of_two_was_published(warehouse: Warehouse):
    """After a run of `book_bbo` alone the record of the rebuild still names the older bytes."""
    found = chain(warehouse, (BBO, NEW, "b"), (REBUILDS, OLD, "r"))

    assert (True, False) == tuple(
        found[name].is_up_to_date for name in ("books.bbo", "books.rebuilds")
    )
    assert [("replaced", "new")] == states(found["books.rebuilds"])


def test_what_follows_from_an_older_table(warehouse: Warehouse):
    """A table that was made of an older state of another says so, and what is there now."""
    found = chain(warehouse, (BBO, NEW, "b2"), (BOOK_METRICS, of("books.bbo", "b1"), "m"))

    assert ["metrics.book_metrics", "books.bbo"] == list(found)
    assert [("replaced", "b2")] == states(found["metrics.book_metrics"])


def test_gone(warehouse: Warehouse):
    """An input that is published no more, or registered no more, is gone."""
    other = MadeOf((Input("lake.raw_book_deltas", DAY, "deltas/2.parquet", "x"),), {})
    found = chain(warehouse, (BBO, other, "b"), (BOOK_METRICS, of("books.depth", "d"), "m"))

    assert [("gone", None)] == states(found["books.bbo"])
    assert [("gone", None)] == states(found["metrics.book_metrics"])


def test_not_fetched(warehouse: Warehouse):
    """An object that could not be fetched is told as such."""
    found = chain(warehouse, (BBO, MadeOf((Input("t", DAY, None, NOT_FETCHED, URI),), {}), "b"))

    assert [("not fetched", None)] == states(found["books.bbo"])


def test_the_day_before(warehouse: Warehouse):
    """An input of the day before is compared with that day's, and that day's link is not told."""
    chain(warehouse, (CHECKPOINTS, NEW, "c0"), day=DAY_BEFORE)
    found = chain(
        warehouse,
        (CHECKPOINTS, NEW, "c1"),
        (BBO, of("books.checkpoints", "c0", DAY_BEFORE), "b"),
    )

    assert {"books.bbo", "books.checkpoints"} == set(found)
    assert [("there", None)] == states(found["books.bbo"])


def test_json(warehouse: Warehouse):
    """As JSON values a link has its parameters as an object and its inputs one by one."""
    told = chain(warehouse, (BBO, NEW, "b"))["books.bbo"].as_json()

    assert ({"tick": "0.1"}, f"{DAY}", URI) == (
        told["parameters"],
        told["inputs"][0]["day"],
        told["inputs"][0]["uri"],
    )


def test_a_catalogue_from_before(warehouse: Warehouse):
    """A catalogue without the table tells nothing, and what is no id is refused."""
    refresh_catalogue(warehouse)
    with closing(connect(warehouse.data_dir)) as connection:
        with pytest.raises(PublishError, match="no instrument id"):
            read_chain(connection, "BTC", DAY)
        connection.execute("USE memory")

        assert [] == read_chain(connection, BTC, DAY)
