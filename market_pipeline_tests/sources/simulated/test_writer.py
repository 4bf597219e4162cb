import os

import numpy as np
import pyarrow.parquet as pq
import pytest

from market_pipeline.sources.simulated import simulate
from market_pipeline_tests.sources.simulated.days import DAY, folder, instrument, read

TABLES = ("book_delta_v2", "book", "trades")


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A day of about 25,000 messages in one shard, with its truth beside the raw tables."""
    root = tmp_path_factory.mktemp("lake")
    simulate(root, [instrument()], DAY, DAY, messages_per_day=25_000, truth=root)
    return root


class TestFormat:
    @pytest.mark.parametrize(
        ("table", "columns"),
        [
            (
                "book_delta_v2",
                "timestamp int64, receipt_timestamp int64, sequence_number int64, "
                "side_is_bid bool, price double, size double",
            ),
            (
                "trades",
                "side string, amount double, price double, id int64, timestamp int64, "
                "receipt_timestamp int64",
            ),
            (
                "book",
                "timestamp int64, receipt_timestamp int64, sequence_number int64, "
                + ", ".join(
                    f"{side}_{rank}_{part} double"
                    for side in ("bid", "ask")
                    for rank in range(20)
                    for part in ("price", "size")
                ),
            ),
        ],
    )
    def test_columns_are_the_vendors(self, lake, table, columns):
        """Columns, their order and their types are those of Crypto Lake's files."""
        file = pq.ParquetFile(folder(lake, table) / "1.snappy.parquet")
        found = ", ".join(f"{field.name} {field.type}" for field in file.schema_arrow)

        assert columns == found
        assert file.metadata.row_group(0).column(0).compression == "SNAPPY"

    @pytest.mark.parametrize("table", [*TABLES, "reference_bbo"])
    def test_schema_equals_the_sample_files(self, lake, sample_data, table):
        """Real sample files of each table have the same Arrow schema."""
        place = "exchange=BINANCE_FUTURES/symbol=BTC-USDT-PERP/dt=2024-08-08/1.snappy.parquet"
        root = "truth" if table == "reference_bbo" else "lake"
        real = pq.read_schema(sample_data / root / table / place)
        simulated = pq.read_schema(folder(lake, table) / "1.snappy.parquet")

        assert real.equals(simulated, check_metadata=True)

    def test_row_groups_are_bounded(self, lake):
        """Deltas come in row groups of 100,000 rows, the last one shorter."""
        metadata = pq.ParquetFile(folder(lake, "book_delta_v2") / "1.snappy.parquet").metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]

        assert [100_000] * (len(sizes) - 1) == sizes[:-1]
        assert len(sizes) > 1
        assert 0 < sizes[-1] <= 100_000


class TestTimes:
    @pytest.mark.parametrize("table", TABLES)
    @pytest.mark.parametrize("column", ["timestamp", "receipt_timestamp"])
    def test_are_rounded_to_256_ns(self, lake, table, column):
        """Times went through float64 seconds and are whole multiples of 256 ns."""
        times_ns = read(lake, table)[column].to_numpy()

        assert not np.any(times_ns % 256)

    @pytest.mark.parametrize("table", TABLES)
    def test_origin_is_whole_milliseconds_before_rounding(self, lake, table):
        """Every origin time is the float64 rounding of a whole millisecond."""
        times_ns = read(lake, table)["timestamp"].to_numpy()
        milliseconds = np.round(times_ns / 1e6)

        assert np.array_equal((milliseconds / 1e3 * 1e9).astype(np.int64), times_ns)


class TestValues:
    @pytest.mark.parametrize(
        ("table", "column", "scale"),
        [
            ("book_delta_v2", "price", 10),
            ("book_delta_v2", "size", 1_000),
            ("trades", "price", 10),
            ("trades", "amount", 1_000),
            ("book", "bid_19_price", 10),
        ],
    )
    def test_are_the_doubles_nearest_to_the_decimals(self, lake, table, column, scale):
        """A value is exactly what its decimal text would be read as."""
        values = read(lake, table)[column].to_numpy()

        assert np.array_equal(np.round(values * scale) / scale, values)


class TestShards:
    def test_eleven_shards_join_to_the_same_day(self, lake, tmp_path):
        """Read in the order of their numbers, eleven shards are the one-shard day."""
        simulate(tmp_path, [instrument()], DAY, DAY, messages_per_day=25_000, shards=11)

        for table in TABLES:
            assert {f"{shard}.snappy.parquet" for shard in range(1, 12)} == {
                file.name for file in folder(tmp_path, table).iterdir()
            }
            assert read(lake, table).equals(read(tmp_path, table))

    def test_text_order_is_not_the_order(self, tmp_path):
        """With eleven shards the order of file names is not the order of time."""
        simulate(tmp_path, [instrument()], DAY, DAY, messages_per_day=5_000, shards=11)
        firsts = [
            pq.read_table(file, partitioning=None)["receipt_timestamp"][0].as_py()
            for file in sorted(folder(tmp_path, "book_delta_v2").iterdir())
        ]

        assert sorted(firsts) != firsts

    def test_no_message_spans_two_shards(self, tmp_path):
        """The sequence numbers of two shards are disjoint."""
        simulate(tmp_path, [instrument()], DAY, DAY, messages_per_day=5_000, shards=4)
        sequences = [
            set(pq.read_table(file, partitioning=None)["sequence_number"].to_pylist())
            for file in folder(tmp_path, "book_delta_v2").iterdir()
        ]

        assert sum(len(part) for part in sequences) == len(set.union(*sequences))

    def test_every_shard_is_there(self, tmp_path):
        """A shard of hours without a message is a file without a row."""
        simulate(tmp_path, [instrument()], DAY, DAY, messages_per_day=24, shards=200)
        rows = [
            pq.ParquetFile(file).metadata.num_rows
            for file in folder(tmp_path, "book_delta_v2").iterdir()
        ]

        assert len(rows) == 200
        assert min(rows) == 0


def test_modes(tmp_path):
    """A simulated lake is its owner's alone, whatever the umask."""
    before = os.umask(0)
    try:
        simulate(tmp_path / "new" / "lake", [instrument()], DAY, DAY, messages_per_day=200)
    finally:
        os.umask(before)
    found = {path.stat().st_mode & 0o777: path.is_dir() for path in (tmp_path / "new").rglob("*")}

    assert {0o700: True, 0o600: False} == found
