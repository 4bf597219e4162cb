"""Files of the same bytes, looked for over all that was ever registered."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import polars as pl

from market_pipeline.config.instruments import Instrument
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay
from market_pipeline.stages.raw.same_bytes import RegisteredFile, SameBytes, same_bytes
from market_pipeline.stages.validation.lookups import Lookups
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.manifest import RAW_BOOK_DELTAS, RAW_TRADES
from market_pipeline.warehouse.tables import Table
from market_pipeline.warehouse.working import replace_rows
from market_pipeline_tests.stages.days import BTC, DAY, ETH

BEFORE = DAY - timedelta(days=1)


def row(of: Instrument, path: str, sha256: str, shard: int = 1, **changes: object) -> dict:
    """A registered file of five rows."""
    return {
        "exchange": of.venue,
        "symbol": of.symbol,
        "dt": DAY,
        "status": "usable",
        "shard": shard,
        "path": path,
        "bytes": 9,
        "sha256": sha256,
        "rows": 5,
        **changes,
    }


def frame(table: Table, *rows: dict) -> pl.DataFrame:
    blank = dict.fromkeys(column.name for column in table.columns)
    return table.frame([blank | each for each in rows])


def raw(deltas: list[dict], trades: list[dict] | None = None) -> RegisteredDay:
    lake = Path("lake")
    objects = [RawObjects(lake, frame(RAW_BOOK_DELTAS, *deltas))]
    objects += [RawObjects(lake, frame(RAW_TRADES, *each)) for each in ([], trades or [])]
    return RegisteredDay(DAY, lake, *objects)


def registered(
    of: Instrument, path: str, table: str = "book_delta_v2", day: date = DAY
) -> RegisteredFile:
    return RegisteredFile(of.venue, of.symbol, day, table, path)


def pairs(day: RegisteredDay, warehouse: Warehouse) -> list[SameBytes]:
    """What is found of BTC."""
    return same_bytes(day, BTC, Lookups(day, warehouse).registered)


class TestSameBytes:
    def test_of_another_instrument_and_day(self, warehouse: Warehouse):
        """Each place where the bytes stand is told, of whatever day and instrument, in order."""
        rows = [row(ETH, "eth", "aa"), row(BTC, "btc", "aa")]
        replace_rows(warehouse, RAW_BOOK_DELTAS, DAY, None, frame(RAW_BOOK_DELTAS, *rows))
        old = frame(RAW_BOOK_DELTAS, row(BTC, "old", "aa", dt=BEFORE))
        replace_rows(warehouse, RAW_BOOK_DELTAS, BEFORE, None, old)
        found = pairs(raw(rows), warehouse)

        own = registered(BTC, "btc")
        assert [
            SameBytes(own, registered(BTC, "old", day=BEFORE), "aa"),
            SameBytes(own, registered(ETH, "eth"), "aa"),
        ] == found
        assert not any(pair.is_same_table for pair in found)

    def test_in_another_table(self, warehouse: Warehouse):
        """Deltas in the folder of the trades are told of both."""
        deltas, trades = [row(BTC, "d", "aa")], [row(BTC, "t", "aa")]
        replace_rows(warehouse, RAW_BOOK_DELTAS, DAY, None, frame(RAW_BOOK_DELTAS, *deltas))
        replace_rows(warehouse, RAW_TRADES, DAY, None, frame(RAW_TRADES, *trades))
        found = pairs(raw(deltas, trades), warehouse)

        delta, trade = registered(BTC, "d"), registered(BTC, "t", "trades")
        assert [SameBytes(delta, trade, "aa"), SameBytes(trade, delta, "aa")] == found

    def test_twice_in_a_table(self, warehouse: Warehouse):
        """All but the first are told, each with the first; nothing needs to be published for it."""
        rows = [row(BTC, str(n), "aa" if n != 2 else "bb", shard=n) for n in range(1, 5)]
        found = pairs(raw(rows), warehouse)

        first = registered(BTC, "1")
        assert [SameBytes(registered(BTC, n), first, "aa") for n in "34"] == found
        assert all(pair.is_same_table for pair in found)

    def test_the_same_rows_in_other_bytes(self, warehouse: Warehouse):
        """A copy compressed again is recognised by its number of rows and its two times."""
        times = {"first_ts_receipt_ns": 7, "last_ts_receipt_ns": 9}
        rows = [
            row(BTC, "1", "aa", **times),
            row(BTC, "2", "bb", 2, **times),
            row(BTC, "3", "cc", 3, **times | {"rows": 6}),
            row(BTC, "4", "dd", 4, **times | {"last_ts_receipt_ns": 7}),
            row(BTC, "5", "ee", 5, **times | {"last_ts_receipt_ns": 7}),
            row(BTC, "6", "ff", 6),
            row(BTC, "7", "gg", 7),
        ]
        copy = SameBytes(registered(BTC, "2"), registered(BTC, "1"), "bb", is_same_file=False)

        assert [copy] == pairs(raw(rows), warehouse)

    def test_a_vendors_file_under_two_names(self, warehouse: Warehouse):
        """The files that a converter was given are compared by their own hashes, once a day."""
        made_from = ["ee  captures/a.gz", "ff  captures/b.gz", "ee  captures/c.gz"]
        rows = [
            row(BTC, "1", "aa", made_from=made_from),
            row(BTC, "2", "bb", 2, made_from=made_from),
        ]
        copy = SameBytes(registered(BTC, "captures/c.gz"), registered(BTC, "captures/a.gz"), "ee")

        assert [copy] == pairs(raw(rows), warehouse)

    def test_files_that_are_alike_for_other_reasons(self, warehouse: Warehouse):
        """Empty files, unreadable ones and objects that are not there say nothing."""
        rows = [
            row(BTC, "a", "aa", rows=0),
            row(BTC, "b", "aa", 2, rows=0),
            row(BTC, "c", "bb", 3, status="unusable", rows=None),
            row(BTC, "d", "bb", 4, status="missing", rows=None),
        ]
        others = [each | {"symbol": ETH.symbol} for each in rows]
        replace_rows(warehouse, RAW_BOOK_DELTAS, DAY, None, frame(RAW_BOOK_DELTAS, *rows, *others))

        assert [] == pairs(raw(rows), warehouse)

    def test_registered_again(self, warehouse: Warehouse):
        """A day that was registered before is not a second place of itself."""
        rows = [row(BTC, "a", "aa")]
        replace_rows(warehouse, RAW_BOOK_DELTAS, DAY, None, frame(RAW_BOOK_DELTAS, *rows))

        assert [] == pairs(raw(rows), warehouse)
