from __future__ import annotations

from dataclasses import fields
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.errors import DomainError, LakeFileError, SchemaError
from market_pipeline.sources import crypto_lake, crypto_lake_snapshots, parquet
from market_pipeline.sources.crypto_lake import (
    DELTAS,
    SNAPSHOTS,
    TRADES,
    RawTable,
    count_deltas,
    day_folder,
    day_shards,
    open_shard,
    read_deltas,
    read_times,
)
from market_pipeline.sources.crypto_lake_snapshots import read_snapshots
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline_tests.sources.raw_files import (
    CLIENT_SPELLING,
    deltas,
    recast,
    shard,
    snapshots,
    trades,
)

DAY = date(2024, 8, 8)

READERS = {
    DELTAS.name: (deltas, lambda files: list(read_deltas(files))),
    SNAPSHOTS.name: (snapshots, lambda files: list(read_snapshots(files))),
    TRADES.name: (trades, read_trades),
}


def columns_of(found: object) -> list[list]:
    """The arrays of a reader's answer, by column, as lists."""
    batches = found if isinstance(found, list) else [found]
    return [
        value.tolist()
        for batch in batches
        for value in (getattr(batch, each.name) for each in fields(batch))
        if isinstance(value, np.ndarray)
    ]


def parts(error: Exception) -> tuple[object, ...]:
    """What an error says about the place: row, column, expected, found."""
    return tuple(getattr(error, name) for name in ("row", "column", "expected", "found"))


class TestDayShards:
    def test_in_the_order_of_their_numbers(self, tmp_path: Path):
        """Twelve shards come as 1, 2, 3 to 12, and not as text sorts them: 1, 10, 11, 12, 2."""
        folder = day_folder(tmp_path, DELTAS, "BINANCE", "BTC-USDT", DAY)
        for number in (11, 2, 10, 1, 3, 12, 5, 4, 9, 6, 8, 7):
            shard(folder, number, deltas(2, 2 * number))
        shards = day_shards(tmp_path, DELTAS, "BINANCE", "BTC-USDT", DAY)
        batches = list(read_deltas(shards))

        assert [f"{n}.snappy.parquet" for n in range(1, 13)] == [each.name for each in shards]
        assert [500 + n for n in range(1, 13)] == [b.sequence_number[0] for b in batches]
        assert folder / "12.snappy.parquet" == batches[-1].file

    def test_layout(self, tmp_path: Path):
        """Exchange, symbol and day are hive folders below the table's folder."""
        assert tmp_path / "book/exchange=BINANCE/symbol=BTC-USDT/dt=2024-08-08" == day_folder(
            tmp_path, SNAPSHOTS, "BINANCE", "BTC-USDT", DAY
        )

    def test_other_files_are_no_shards(self, tmp_path: Path):
        """A download under way, a checksum or a stranger's file is not read."""
        folder = day_folder(tmp_path, TRADES, "BINANCE", "BTC-USDT", DAY)
        only = shard(folder, 1, trades())
        for name in ("2.snappy.parquet.partial", "1.snappy.parquet.md5", "x.parquet", "_SUCCESS"):
            (folder / name).write_bytes(b"")

        assert [only] == day_shards(tmp_path, TRADES, "BINANCE", "BTC-USDT", DAY)

    @pytest.mark.parametrize("exists", [True, False])
    def test_nothing_there(self, tmp_path: Path, exists):
        """An empty folder and a missing one hold no shard."""
        if exists:
            day_folder(tmp_path, DELTAS, "BINANCE", "BTC-USDT", DAY).mkdir(parents=True)

        assert [] == day_shards(tmp_path, DELTAS, "BINANCE", "BTC-USDT", DAY)


class TestSchema:
    @pytest.mark.parametrize("table", READERS)
    def test_both_spellings_read_the_same(self, tmp_path: Path, table):
        """The vendor's raw names and those of its client give the same values."""
        rows, read = READERS[table]
        renamed = rows().rename_columns([CLIENT_SPELLING.get(n, n) for n in rows().column_names])
        raw = read([shard(tmp_path / "raw", 1, rows())])
        client = read([shard(tmp_path / "client", 1, renamed)])

        assert set(CLIENT_SPELLING.values()) & set(renamed.column_names)
        assert columns_of(raw) == columns_of(client)

    def test_order_of_columns_is_free(self, tmp_path: Path):
        """Columns are found by name: reversed, they give the same rows."""
        names = deltas().column_names[::-1]
        (batch,) = read_deltas([shard(tmp_path, 1, deltas().select(names))])

        assert deltas()["price"].to_pylist() == batch.price.tolist()

    def test_large_string(self, tmp_path: Path):
        """A side written as large_string, as Polars writes it, is read like a string."""
        rows = recast(trades(), "side", pa.large_string())

        assert [True, False, True, False] == read_trades([shard(tmp_path, 1, rows)]).is_buy.tolist()

    @pytest.mark.parametrize("table", [DELTAS, SNAPSHOTS, TRADES], ids=lambda table: table.name)
    def test_missing_column(self, tmp_path: Path, table: RawTable):
        """A missing column is named, with the file and the columns that should be there."""
        rows, read = READERS[table.name]
        name = list(table.columns)[-1]
        path = shard(tmp_path, 1, rows().drop_columns([name]))
        with pytest.raises(SchemaError) as caught:
            read([path])
        columns = f"columns {', '.join(table.columns)}"

        assert (None, name, columns, f"missing: {name}; unexpected: none") == parts(caught.value)
        assert str(path) == caught.value.file
        assert str(caught.value) == (
            f"The {table.name} file does not have the columns of its table (file={path}, "
            f"column={name}, expected={columns}, found=missing: {name}; unexpected: none). "
            "Fetch the file again, or check that it lies in the right table's folder."
        )

    def test_unexpected_column(self, tmp_path: Path):
        """A column nobody knows is refused, because the file may be of another table."""
        path = shard(tmp_path, 1, deltas().append_column("U", deltas()["size"]))
        with pytest.raises(SchemaError) as caught:
            list(read_deltas([path]))

        assert ("U", "missing: none; unexpected: U") == (caught.value.column, caught.value.found)

    def test_file_of_another_table(self, tmp_path: Path):
        """Trades among the deltas are refused, both sides of the difference named."""
        path = shard(tmp_path, 1, trades())
        with pytest.raises(SchemaError, match=r"book_delta_v2 file does not have the columns"):
            open_shard(path, DELTAS)
        with pytest.raises(SchemaError) as caught:
            open_shard(path, DELTAS)

        assert caught.value.found == (
            "missing: sequence_number, side_is_bid, size; unexpected: side, amount, id"
        )

    def test_both_spellings_in_one_file(self, tmp_path: Path):
        """A column that is there in both spellings is refused: nobody knows which one is meant."""
        rows = deltas().append_column("origin_time", deltas()["timestamp"])
        path = shard(tmp_path, 1, rows)
        with pytest.raises(SchemaError, match="origin_time"):
            open_shard(path, DELTAS)

    @pytest.mark.parametrize(
        ("table", "name", "kind"),
        [
            (DELTAS, "price", pa.float32()),
            (DELTAS, "timestamp", pa.timestamp("ns")),
            (DELTAS, "side_is_bid", pa.int8()),
            (SNAPSHOTS, "bid_0_price", pa.string()),
            (TRADES, "id", pa.int32()),
        ],
    )
    def test_wrong_type(self, tmp_path: Path, table: RawTable, name, kind):
        """A column of another type is refused with the type it should have; nothing is cast."""
        rows, read = READERS[table.name]
        path = shard(tmp_path, 1, recast(rows(), name, kind))
        with pytest.raises(SchemaError) as caught:
            read([path])

        assert (None, name, table.columns[name], str(kind)) == parts(caught.value)
        assert f"A column of the {table.name} file has another type" in str(caught.value)

    def test_wrong_type_in_the_client_s_spelling(self, tmp_path: Path):
        """The column is named as the file spells it."""
        rows = recast(deltas(), "timestamp", pa.timestamp("ns"))
        names = [CLIENT_SPELLING.get(name, name) for name in rows.column_names]
        with pytest.raises(SchemaError) as caught:
            open_shard(shard(tmp_path, 1, rows.rename_columns(names)), DELTAS)

        assert ("origin_time", "int64", "timestamp[ns]") == parts(caught.value)[1:]


class TestDamage:
    @pytest.mark.parametrize("table", READERS)
    @pytest.mark.parametrize("share", [0.6, 0.0])
    def test_truncated(self, tmp_path: Path, table, share):
        """A file cut off, or of no byte at all, is named with its size and what to do."""
        rows, read = READERS[table]
        path = shard(tmp_path, 1, rows())
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        size = path.stat().st_size
        with pytest.raises(LakeFileError) as caught:
            read([path])

        assert (str(path), "a complete Parquet file") == (caught.value.file, caught.value.expected)
        assert caught.value.found.startswith(f"{size} bytes: ")
        assert f"The {table} file cannot be read as Parquet (file={path}" in str(caught.value)
        assert str(caught.value).endswith(
            "Fetch the file from the vendor again, then rerun this day."
        )

    def test_no_parquet(self, tmp_path: Path):
        """A web page that was saved in place of the file is refused."""
        path = tmp_path / "1.snappy.parquet"
        path.write_text("<html>403 Forbidden</html>")
        with pytest.raises(LakeFileError, match="cannot be read as Parquet"):
            list(read_deltas([path]))

    def test_removed(self, tmp_path: Path):
        """A file that somebody removed since it was listed is refused as any other is."""
        path = tmp_path / "1.snappy.parquet"
        with pytest.raises(LakeFileError, match="No such file") as caught:
            list(read_deltas([path]))
        assert str(path) == caught.value.file

    def test_damaged_inside(self, tmp_path: Path):
        """Bytes lost in the second row group are found when it is read, and the row is told."""
        rows = deltas(4_000)
        path = shard(tmp_path, 1, rows, row_group_size=2_000, use_dictionary=False)
        group = pq.read_metadata(path).row_group(1)
        begin = group.column(4).data_page_offset
        with path.open("r+b") as file:
            file.seek(begin)
            file.write(b"\xff" * 4_000)
        with pytest.raises(LakeFileError, match="damaged inside") as caught:
            list(read_deltas([path]))

        assert ("4000 readable rows", str(path)) == (caught.value.expected, caught.value.file)
        assert caught.value.row in {0, 2_000}


class TestDeltas:
    def test_values(self, tmp_path: Path):
        """Every column comes as the vendor wrote it, with the file and the place of the row."""
        path = shard(tmp_path, 1, deltas())
        (batch,) = read_deltas([path])

        assert (path, 0) == (batch.file, batch.first_row)
        assert deltas()["timestamp"].to_pylist() == batch.ts_origin_ns.tolist()
        assert deltas()["receipt_timestamp"].to_pylist() == batch.ts_receipt_ns.tolist()
        assert [500, 500, 501, 501, 502, 502] == batch.sequence_number.tolist()
        assert [True, False] * 3 == batch.is_bid.tolist()
        assert deltas()["price"].to_pylist() == batch.price.tolist()
        assert deltas()["size"].to_pylist() == batch.size.tolist()

    def test_batches_are_bounded_and_count_their_rows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """Row groups come in pieces that know where they begin; the next shard counts anew."""
        monkeypatch.setattr(crypto_lake, "_BATCH_ROWS", 4)
        files = [
            shard(tmp_path, 1, deltas(10), row_group_size=2),
            shard(tmp_path, 2, deltas(3, 10)),
        ]
        batches = list(read_deltas(files))
        told = [(batch.file.name[0], batch.first_row, batch.price.size) for batch in batches]

        assert [("1", 0, 4), ("1", 4, 4), ("1", 8, 2), ("2", 0, 3)] == told
        assert (
            deltas(13)["price"].to_pylist()
            == np.concatenate([batch.price for batch in batches]).tolist()
        )

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(st.integers(0, 12), min_size=1, max_size=3),
        st.integers(1, 5),
        st.integers(1, 5),
        st.integers(0, 40),
        st.booleans(),
        st.integers(1, 6),
    )
    def test_rows_are_the_same_however_they_are_read(
        self, tmp_path_factory, sizes, group, rows, skip, streamed, at_once
    ):
        """Any row groups, cuts, batches, streaming and start give exactly the rows from there."""
        folder = tmp_path_factory.mktemp("shards")
        files, first = [], 0
        for number, size in enumerate(sizes, start=1):
            sides = np.arange(first, first + size) % 3 == 0
            rows_of_file = deltas(size, first, side_is_bid=sides)
            files.append(shard(folder, number, rows_of_file, row_group_size=group))
            first += size
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(crypto_lake, "_BATCH_ROWS", rows)
            patch.setattr(parquet, "ROW_GROUP_BYTES", 0 if streamed else 1 << 20)
            patch.setattr(parquet, "PIECE_BYTES", at_once * len(DELTAS.columns) * 8)
            batches = list(read_deltas(files, skip))
            counted = count_deltas(files)
        expected = deltas(first)["price"].to_pylist()[skip:]

        assert [price for batch in batches for price in batch.price.tolist()] == expected
        sides = [side for batch in batches for side in batch.is_bid.tolist()]
        assert [row % 3 == 0 for row in range(first)][skip:] == sides
        groups = sum(-(-size // group) for size in sizes)
        assert (counted.rows, counted.streamed_row_groups) == (first, groups if streamed else 0)
        largest = max((batch.price.size for batch in batches), default=0) if skip == 0 else 0
        assert counted.bytes_in_flight >= largest * len(DELTAS.columns) * 8

    def test_a_message_may_go_on_in_the_next_shard(self, tmp_path: Path):
        """Rows of one message keep their key across shards: it ends where the key changes."""
        files = [shard(tmp_path, 1, deltas(3)), shard(tmp_path, 2, deltas(3, 3))]
        first, second = read_deltas(files)

        assert first.sequence_number[-1] == second.sequence_number[0] == 501
        assert first.ts_receipt_ns[-1] == second.ts_receipt_ns[0]

    def test_no_row(self, tmp_path: Path):
        """A shard without a row gives no batch and no error."""
        assert [] == list(read_deltas([shard(tmp_path, 1, deltas(0))]))

    def test_no_file(self):
        """A day without files gives no batch."""
        assert [] == list(read_deltas([]))

    @pytest.mark.parametrize("name", list(DELTAS.columns))
    def test_null(self, tmp_path: Path, name):
        """A null is refused with its row in the file, in whatever batch it lies."""
        values = deltas()[name].to_pylist()
        values[4] = None
        rows = deltas(**{name: pa.array(values, deltas()[name].type)})
        path = shard(tmp_path, 1, rows)
        with pytest.raises(DomainError) as caught:
            list(read_deltas([path]))

        assert (4, name, f"a value of type {DELTAS.columns[name]}", "null") == parts(caught.value)
        assert str(path) == caught.value.file

    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("price", 0.0, "a finite number above 0"),
            ("price", -1.5, "a finite number above 0"),
            ("price", float("nan"), "a finite number above 0"),
            ("price", float("inf"), "a finite number above 0"),
            ("size", -0.001, "a finite number, at least 0"),
            ("size", float("nan"), "a finite number, at least 0"),
        ],
    )
    def test_outside_the_domain(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name, value, expected
    ):
        """A price not above 0, a negative size and what is not finite are refused and located."""
        monkeypatch.setattr(crypto_lake, "_BATCH_ROWS", 2)
        values = deltas()[name].to_pylist()
        values[3] = value
        path = shard(tmp_path, 1, deltas(**{name: values}))
        with pytest.raises(DomainError) as caught:
            list(read_deltas([path]))

        assert (3, name, expected, repr(value)) == parts(caught.value)
        assert str(caught.value) == (
            f"A {name} is outside its domain (file={path}, row=3, column={name}, "
            f"expected={expected}, found={value!r}). The day is set aside; report the row to the "
            "vendor or fetch the file again."
        )

    def test_size_zero_is_a_removal(self, tmp_path: Path):
        """A size of 0 is in its domain."""
        (batch,) = read_deltas([shard(tmp_path, 1, deltas(2, size=[0.0, 0.0]))])

        assert [0.0, 0.0] == batch.size.tolist()

    def test_times_alone(self, tmp_path: Path):
        """The times can be read without the rest, equal to those of the whole rows."""
        files = [shard(tmp_path, 1, deltas(3)), shard(tmp_path, 2, deltas(3, 3))]
        times = [[column.tolist() for column in part] for part in read_times(files)]

        assert times == [
            [b.ts_origin_ns.tolist(), b.ts_receipt_ns.tolist(), b.sequence_number.tolist()]
            for b in read_deltas(files)
        ]


class TestSnapshots:
    def test_levels(self, tmp_path: Path):
        """Prices and sizes come as one row of 20 levels a side, the best first."""
        (batch,) = read_snapshots([shard(tmp_path, 1, snapshots())])

        assert [500, 501, 502] == batch.sequence_number.tolist()
        assert [20, 21, 22] == batch.ts_receipt_ns.tolist()
        assert (3, 20) == batch.bid_price.shape
        assert [99.0 - level for level in range(20)] == batch.bid_price[1].tolist()
        assert [101.0 + level for level in range(20)] == batch.ask_price[1].tolist()
        assert [1.0 + level for level in range(20)] == batch.bid_size[2].tolist()

    @pytest.mark.parametrize("part", ["price", "size"])
    @pytest.mark.parametrize("value", [float("nan"), None, 0.0, float("inf"), -1.0])
    def test_a_level_that_is_not_there(self, tmp_path: Path, part, value):
        """A level whose price or size is NaN, null or not above 0 has price and size 0."""
        column = pa.array([1.0, value, 1.0], pa.float64())
        rows = snapshots(**{f"ask_19_{part}": column})
        (batch,) = read_snapshots([shard(tmp_path, 1, rows)])

        assert (0.0, 0.0) == (batch.ask_price[1, 19], batch.ask_size[1, 19])
        assert 59 == np.count_nonzero(batch.ask_size)
        assert 60 == np.count_nonzero(batch.bid_size)

    @pytest.mark.parametrize("name", ["receipt_timestamp", "sequence_number"])
    def test_null_key(self, tmp_path: Path, name):
        """A snapshot without its time or sequence number is refused."""
        rows = snapshots(**{name: pa.array([1, None, 3], pa.int64())})
        with pytest.raises(DomainError) as caught:
            list(read_snapshots([shard(tmp_path, 1, rows)]))

        assert (1, name, "a value of type int64", "null") == parts(caught.value)

    def test_batches_are_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """A large row group comes in pieces that know where they begin."""
        monkeypatch.setattr(crypto_lake_snapshots, "_BATCH_ROWS", 2)
        monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 0)
        batches = read_snapshots([shard(tmp_path, 1, snapshots(5))])

        assert [(0, 2), (2, 2), (4, 1)] == [(b.first_row, len(b.bid_size)) for b in batches]
