from __future__ import annotations

import shutil
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from market_pipeline.errors import DomainError, LakeFileError, MissingDataError, SchemaError
from market_pipeline.notebook.feeds import feeds_of
from market_pipeline.sources.binance_capture import Findings
from market_pipeline_tests.sources import raw_files
from market_pipeline_tests.sources.raw_files import CLIENT_SPELLING, shard

DELTAS = pl.DataFrame(raw_files.deltas())
SNAPSHOTS = pl.DataFrame(raw_files.snapshots())


def delta_batches(rows):
    """The batches of delta rows in any form."""
    return list(feeds_of(rows).deltas(Findings()))


def snapshot_batches(rows):
    """The batches of snapshots in any form."""
    return list(feeds_of(DELTAS, rows).snapshots(Findings()))


def trade_times(rows):
    """The times of trades in any form."""
    return feeds_of(DELTAS, trades=rows).trade_times


def columns_of(rows) -> dict[str, list]:
    """All delta rows as lists."""
    batches = delta_batches(rows)
    names = ("ts_origin_ns", "ts_receipt_ns", "sequence_number", "is_bid", "price", "size")
    return {
        name: np.concatenate([getattr(batch, name) for batch in batches]).tolist() for name in names
    }


def with_value(row: int, **values) -> pl.DataFrame:
    """The delta rows with another value in one row."""
    number = pl.int_range(pl.len())
    return DELTAS.with_columns(
        **{
            name: pl.when(number == row).then(value).otherwise(name)
            for name, value in values.items()
        }
    )


class TestDeltas:
    EXPECTED = columns_of(DELTAS)

    @pytest.mark.parametrize(
        "rows",
        [
            DELTAS.lazy(),
            DELTAS.to_arrow(),
            {column.name: column.to_numpy() for column in DELTAS},
            {column.name: column.to_list() for column in DELTAS},
            DELTAS.rename({k: v for k, v in CLIENT_SPELLING.items() if k in DELTAS.columns}),
            DELTAS.with_columns(pl.from_epoch("receipt_timestamp", "ns")),
            DELTAS.with_columns(
                pl.from_epoch("timestamp", "ns").dt.replace_time_zone("UTC"),
            ),
            DELTAS.with_columns(exchange=pl.lit("BINANCE"), symbol=pl.lit("BTC-USDT"), note=1),
            pl.concat([DELTAS.head(2), DELTAS.tail(-2)], rechunk=False),
        ],
        ids=[
            "lazy frame", "Arrow table", "arrays", "lists", "client's spelling", "datetimes",
            "datetimes with a zone", "further columns", "chunks",
        ],
    )  # fmt: skip
    def test_forms(self, rows):
        """Every form of the same rows gives the same batches."""
        assert self.EXPECTED == columns_of(rows)

    def test_whole_numbers_are_floats_too(self):
        """Integer prices and narrow integers lose nothing, so they are taken."""
        rows = DELTAS.with_columns(
            pl.col("price").floor(), pl.col("sequence_number").cast(pl.Int32)
        )
        whole = rows.with_columns(pl.col("price").cast(pl.Int64))
        assert columns_of(rows) == columns_of(whole)

    def test_can_be_read_twice(self):
        """The batches begin anew each time."""
        feeds = feeds_of(DELTAS)
        assert [6, 6] == [sum(b.price.size for b in feeds.deltas(Findings())) for _ in range(2)]

    @pytest.mark.parametrize(
        ("change", "column", "found"),
        [
            ({"origin_time": pl.col("timestamp")}, "timestamp", "both"),
            ({"price": pl.col("price").cast(pl.Float32)}, "price", "float32"),
            ({"price": pl.col("price").cast(pl.String)}, "price", "object"),
            ({"side_is_bid": pl.lit(1)}, "side_is_bid", "int32"),
            ({"timestamp": pl.col("timestamp") / 1e9}, "timestamp", "float64"),
            ({"sequence_number": pl.lit(1, pl.UInt64)}, "sequence_number", "uint64"),
            (
                {"sequence_number": pl.from_epoch("timestamp", "ns")},
                "sequence_number",
                "datetime64[ns]",
            ),
        ],
    )
    def test_other_types(self, change, column, found):
        """A column that is there twice or of another type is named with what was found."""
        with pytest.raises(SchemaError) as caught:
            delta_batches(DELTAS.with_columns(**change))
        assert column == caught.value.column
        assert caught.value.found.startswith(found)

    def test_missing_columns(self):
        """A column that is missing is named with those that are there."""
        with pytest.raises(SchemaError) as caught:
            delta_batches(DELTAS.select("timestamp", "price"))
        assert ("receipt_timestamp", "columns timestamp, price") == (
            caught.value.column,
            caught.value.found,
        )

    def test_a_matrix(self):
        """An array of two dimensions is no column."""
        with pytest.raises(SchemaError, match=r"of shape \(2, 3\)"):
            delta_batches({column.name: column.to_numpy().reshape(2, 3) for column in DELTAS})

    @pytest.mark.parametrize(
        ("rows", "row", "column", "found"),
        [
            (with_value(3, price=None), 3, "price", "null"),
            (with_value(3, price=0.0), 3, "price", "0.0"),
            (with_value(4, price=float("nan")), 4, "price", "nan"),
            (with_value(0, size=-1.0), 0, "size", "-1.0"),
            (with_value(5, size=float("inf")), 5, "size", "inf"),
            (with_value(1, side_is_bid=None), 1, "side_is_bid", "null"),
            (
                {"timestamp": np.array(["NaT"], "M8[ns]")}
                | {name: DELTAS[name].head(1).to_numpy() for name in DELTAS.columns[1:]},
                0,
                "timestamp",
                "NaT",
            ),
        ],
    )
    def test_values_outside_their_domain(self, rows, row, column, found):
        """The first bad value is refused with its row, its column and what it is."""
        with pytest.raises(DomainError) as caught:
            delta_batches(rows)
        assert (row, column, found) == (caught.value.row, caught.value.column, caught.value.found)

    @pytest.mark.parametrize("column", ["exchange", "symbol"])
    def test_more_than_one_instrument(self, column):
        """Rows of two instruments would make a book of neither, so they are refused."""
        rows = DELTAS.with_columns(pl.Series(column, ["A", "B"] * 3))
        with pytest.raises(DomainError) as caught:
            delta_batches(rows)
        assert (column, "A, B") == (caught.value.column, caught.value.found)

    def test_lengths_differ(self):
        """Arrays of different lengths are refused before anything is computed."""
        arrays = {column.name: column.to_numpy() for column in DELTAS} | {"size": np.zeros(5)}
        with pytest.raises(SchemaError, match="size: 5"):
            delta_batches(arrays)

    @pytest.mark.parametrize("rows", [np.zeros((3, 6)), 7, [1, 2]])
    def test_no_table(self, rows):
        """What is no table at all is refused by the name of its type."""
        with pytest.raises(SchemaError) as caught:
            delta_batches(rows)
        assert type(rows).__name__ == caught.value.found


class TestFiles:
    @pytest.fixture
    def day(self, tmp_path: Path) -> Path:
        """A day of eleven shards, two messages each, and files that are none."""
        folder = tmp_path / "dt=2024-08-08"
        for number in range(11):
            shard(folder, number + 1, raw_files.deltas(4, first=4 * number))
        (folder / "notes.parquet").write_text("not a shard")
        (folder / "12.snappy.parquet.partial").write_text("under way")
        return folder

    def test_a_folder_is_read_by_number(self, day: Path):
        """The shards of a folder come in the order of their numbers, 2 before 10."""
        sequences = columns_of(day)["sequence_number"]
        assert (44, sorted(sequences)) == (len(sequences), sequences)

    @pytest.mark.parametrize("name", ["02.snappy.parquet", "2.parquet", "2.v1.snappy.parquet"])
    def test_a_folder_with_a_shard_twice(self, day: Path, name):
        """Two files of one number are never both read."""
        shutil.copy(day / "2.snappy.parquet", day / name)
        with pytest.raises(LakeFileError, match="the same shard"):
            columns_of(day)

    def test_the_newest_version_of_a_shard_is_read(self, day: Path):
        """Of a shard that was corrected the newest version takes the place of the others."""
        (day / "2.snappy.parquet").rename(day / "2.v2.snappy.parquet")
        (day / "2.snappy.parquet").write_text("before")
        assert 44 == len(columns_of(day)["sequence_number"])

    def test_a_list_is_read_as_given(self, day: Path):
        """Files and folders of a list are read in the order of the list."""
        two = [day / "2.snappy.parquet", str(day / "1.snappy.parquet")]
        assert [502, 502, 503, 503, 500, 500, 501, 501] == columns_of(two)["sequence_number"]

    def test_a_list_with_a_folder(self, day: Path):
        """A folder in a list stands for its shards, and each folder has numbers of its own."""
        other = shard(day.with_name("dt=2024-08-09"), 1, raw_files.deltas(4, first=44)).parent
        sequences = columns_of([day, other])["sequence_number"]
        assert (48, sorted(sequences)) == (len(sequences), sequences)

    @pytest.mark.parametrize(
        "name", ["2.snappy.parquet", "02.snappy.parquet", "2.v2.snappy.parquet"]
    )
    def test_a_list_with_a_shard_twice(self, day: Path, name):
        """Names of a list that mean one shard are never both read, and no name is read twice."""
        if not (day / name).exists():
            shutil.copy(day / "2.snappy.parquet", day / name)
        with pytest.raises(LakeFileError, match="the same shard"):
            columns_of([day / "2.snappy.parquet", day / name])

    @pytest.mark.parametrize("name", ["nowhere", "."])
    def test_nothing_there(self, tmp_path: Path, name):
        """A path without a shard is missing data, whether or not there is a folder."""
        with pytest.raises(MissingDataError) as caught:
            delta_batches(tmp_path / name)
        assert str(tmp_path / name) == caught.value.file

    def test_errors_name_the_file(self, day: Path):
        """What is wrong in a file is told with its name, its row and its column."""
        shard(day, 2, raw_files.deltas(4, price=[1.0, 2.0, -3.0, 4.0]))
        with pytest.raises(DomainError) as caught:
            columns_of(day)
        assert (2, "price") == (caught.value.row, caught.value.column)
        assert caught.value.file.endswith("/2.snappy.parquet")

    def test_a_damaged_file(self, day: Path):
        """A file that is no Parquet is told as such."""
        with pytest.raises(LakeFileError):
            columns_of(day / "notes.parquet")


class TestSnapshots:
    def test_none(self):
        """Without rows there is no snapshot."""
        assert [] == snapshot_batches(None)

    def test_frames_and_files_agree(self, tmp_path: Path):
        """The levels of a frame are those of the same rows in a file."""
        file = shard(tmp_path, 1, raw_files.snapshots())
        (of_frame,), (of_file,) = snapshot_batches(SNAPSHOTS), snapshot_batches(file)
        names = [field.name for field in fields(of_file) if field.name not in ("file", "first_row")]
        for name in names:
            np.testing.assert_array_equal(getattr(of_file, name), getattr(of_frame, name))
        assert (3, 20) == of_frame.bid_price.shape

    @pytest.mark.parametrize("nothing", [None, float("nan"), 0.0, -1.0, float("inf")])
    @pytest.mark.parametrize("part", ["price", "size"])
    def test_a_level_that_is_not_there(self, part, nothing):
        """A level without a usable price or size has price and size 0."""
        rows = SNAPSHOTS.with_columns(pl.lit(nothing, pl.Float64).alias(f"ask_19_{part}"))
        (batch,) = snapshot_batches(rows)
        assert (0.0, 0.0, 100.0 + 19) == (
            batch.ask_price[0, 19],
            batch.ask_size[0, 19],
            batch.ask_price[0, 18],
        )

    def test_any_number_of_levels(self):
        """As many levels are read as there are columns."""
        few = SNAPSHOTS.select(~pl.selectors.matches(r"_(\d\d|[3-9])_"))
        (batch,) = snapshot_batches(few)
        assert (3, 3) == batch.ask_size.shape

    @pytest.mark.parametrize(
        ("drop", "column"),
        [
            ("ask_19_price", "ask_19_price"),
            ("bid_19_price", "bid_19_price"),
            ("bid_7_size", "bid_7_size"),
            ("sequence_number", "sequence_number"),
            (pl.selectors.matches("bid|ask"), "bid_0_price"),
        ],
    )
    def test_missing_columns(self, drop, column):
        """A level that only one side has, and any other missing column, is named."""
        with pytest.raises(SchemaError) as caught:
            snapshot_batches(SNAPSHOTS.drop(drop))
        assert column == caught.value.column


class TestTrades:
    def test_only_times_are_needed(self):
        """The two times are read, in either spelling, and nothing else is asked for."""
        noon = datetime(2024, 8, 8, 12, tzinfo=UTC)
        origin, receipt = trade_times(pl.DataFrame({"origin_time": [noon], "received_time": [7]}))
        assert ([1_723_118_400_000_000_000], [7]) == (origin.tolist(), receipt.tolist())

    def test_files(self, tmp_path: Path):
        """Of a file both times are read."""
        file = shard(tmp_path, 1, raw_files.trades())
        assert [[10, 11, 12, 13], [20, 21, 22, 23]] == [t.tolist() for t in trade_times(file)]

    def test_a_null(self):
        """A null time is refused with its row."""
        with pytest.raises(DomainError) as caught:
            trade_times(pa.table({"timestamp": [1, 2], "receipt_timestamp": [1, None]}))
        assert (1, "receipt_timestamp") == (caught.value.row, caught.value.column)
