"""What a converter gives becomes raw files that the reader of the vendor's files takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from market_pipeline.errors import SchemaError
from market_pipeline.sources import raw_writer
from market_pipeline.sources.batches import (
    MARKET,
    OUTSIDE_MARKET,
    UNMARKED,
    DeltaBatch,
    SnapshotBatch,
    Trades,
)
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, open_shard, read_deltas
from market_pipeline.sources.crypto_lake_snapshots import read_snapshots
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline.sources.memory_limits import MAX_LEVELS
from market_pipeline.sources.raw_writer import RawWriter


def deltas(rows: int, first: int = 0) -> DeltaBatch:
    number = np.arange(first, first + rows, dtype=np.int64)
    return DeltaBatch(
        file=Path("any"),
        first_row=first,
        ts_origin_ns=number + 10,
        ts_receipt_ns=number + 20,
        sequence_number=number,
        is_bid=number % 2 == 0,
        price=100.0 + number,
        size=number / 2,
        gap_rows=np.flatnonzero(number % 7 == 3),
        recovered_rows=np.flatnonzero(number % 7 == 5),
    )


def snapshots(levels: int, number: int) -> SnapshotBatch:
    away = np.arange(1, levels + 1, dtype=np.float64)[None]
    at = np.array([number], np.int64)
    return SnapshotBatch(Path("any"), 0, at, at, 5_000 - away, away, 5_000 + away, away)


def trades(*prices: float) -> Trades:
    price = np.array(prices)
    times = np.arange(price.size, dtype=np.int64)
    return Trades(times, times, price, price, price > 1)


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_how_rows_are_given_changes_no_byte(tmp_path, monkeypatch, cut):
    """Batches of any size give the same file, and losses come back in their rows."""
    monkeypatch.setattr(raw_writer, "_ROW_GROUP_ROWS", 16)
    for name, size in (("whole", 100), ("cut", cut)):
        with RawWriter(tmp_path / name, "test") as out:
            for first in range(0, 100, size):
                out.deltas(deltas(min(size, 100 - first), first))
    whole, other = (tmp_path / n / "book_delta_v2/1.snappy.parquet" for n in ("whole", "cut"))
    assert whole.read_bytes() == other.read_bytes()
    assert [16] * 6 + [4] == [
        pq.ParquetFile(whole).metadata.row_group(group).num_rows for group in range(7)
    ]
    (batch,) = read_deltas([whole])
    assert list(range(3, 100, 7)) == batch.gap_rows.tolist()
    assert list(range(5, 100, 7)) == batch.recovered_rows.tolist()


def test_nothing_is_left_over(tmp_path, monkeypatch):
    """Rows that fill their row groups leave none to write at the end."""
    monkeypatch.setattr(raw_writer, "_ROW_GROUP_ROWS", 16)
    with RawWriter(tmp_path, "test") as out:
        out.deltas(deltas(32, 0))
    written = pq.ParquetFile(tmp_path / "book_delta_v2/1.snappy.parquet").metadata
    assert (2, 32) == (written.num_row_groups, written.num_rows)


def test_another_depth_begins_another_shard(tmp_path):
    """Shallow snapshots are filled up to the vendor's 20 levels, too deep ones are cut."""
    with RawWriter(tmp_path, "test") as out:
        for number, levels in enumerate((3, 20, 25, 25, MAX_LEVELS + 5, 20)):
            out.snapshots(snapshots(levels, number))
    files = sorted((tmp_path / "book").iterdir())
    read = list(read_snapshots(files, with_origin=True))
    assert [(2, 20), (2, 25), (1, MAX_LEVELS), (1, 20)] == [each.bid_price.shape for each in read]
    assert [0, 1, 2, 3, 4, 5] == [n for each in read for n in each.sequence_number.tolist()]
    assert [3, 20] == np.count_nonzero(read[0].bid_size, axis=1).tolist()
    assert [0, 1] == read[0].ts_origin_ns.tolist()


def test_trades_without_ids_are_numbered_through_the_day(tmp_path):
    """The second batch goes on where the first one ended."""
    with RawWriter(tmp_path, "test") as out:
        out.trades(trades(1.0, 2.0))
        out.trades(trades(3.0))
    rows = pl.read_parquet(tmp_path / "trades/1.snappy.parquet")
    assert ([1, 2, 3], ["sell", "buy", "buy"]) == (rows["id"].to_list(), rows["side"].to_list())


def test_marks_come_back(tmp_path):
    """Each mark is read as it was given; trades with and without marks lie in shards apart."""
    marks = np.array([MARKET, OUTSIDE_MARKET, UNMARKED], np.int8)
    with RawWriter(tmp_path, "test") as out:
        out.trades(replace(trades(1.0, 2.0, 3.0), mark=marks))
        out.trades(trades(4.0))
    files = [tmp_path / f"trades/{number}.snappy.parquet" for number in (1, 2)]

    assert [True, False, None] == pl.read_parquet(files[0])["is_market"].to_list()
    assert [*marks.tolist(), UNMARKED] == read_trades(files).mark.tolist()
    assert [1, 2, 3, 4] == read_trades(files, with_ids=True).id.tolist()
    assert read_trades(files[1:]).mark is None


def test_notes_are_counted_by_kind_with_their_first_place(tmp_path):
    """What was noted zero times is no note."""
    with RawWriter(tmp_path, "test") as out:
        out.note("b", "row 7", 2)
        out.note("a", "row 1")
        out.note("b", "row 9")
        out.note("c", "nowhere", 0)
    assert ["1 x a; first: row 1", "3 x b; first: row 7"] == out.notes


def test_only_a_converter_may_write_more_than_the_vendor(tmp_path):
    """The same columns in a file that names no converter are refused as unexpected."""
    with RawWriter(tmp_path, "test") as out:
        out.deltas(deltas(3))
        out.snapshots(snapshots(25, 1))
    for table in (DELTAS, SNAPSHOTS):
        file = tmp_path / table.name / "1.snappy.parquet"
        parquet, _ = open_shard(file, table)
        parquet.close()
        pq.write_table(pq.read_table(file).replace_schema_metadata(), file)
        with pytest.raises(SchemaError, match=r"unexpected: (lost_before|bid_20_price)"):
            open_shard(file, table)
