from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from market_pipeline.errors import LakeFileError, MissingDataError
from market_pipeline.security.stored import stored_digest
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, day_folder
from market_pipeline.stages.raw import register as stage
from market_pipeline.stages.raw.objects import has_data
from market_pipeline_tests.sources.raw_files import CLIENT_SPELLING
from market_pipeline_tests.stages.days import (
    BTC,
    DAY,
    ETH,
    EVERY_NS,
    MESSAGES,
    START_NS,
    delta_rows,
    manifest,
    register,
    write_day,
)

LAST_NS = START_NS + (MESSAGES - 1) * EVERY_NS + 3_000_000


@pytest.mark.parametrize(
    ("statuses", "rows", "expected"),
    [
        (["missing", "missing"], [None, None], False),
        (["missing", "usable"], [None, 0], False),
        (["missing", "usable"], [None, 1], True),
        (["missing", "unusable"], [None, None], True),
        ([], [], False),
    ],
)
def test_has_data(statuses, rows, expected):
    """A file with a row is data, and one that cannot be read; absent and empty ones are not."""
    columns = {"status": pl.String, "rows": pl.Int64}
    frame = pl.DataFrame({"status": statuses, "rows": rows}, schema=columns)

    assert expected is has_data(frame)


class TestRegister:
    def test_an_object(self, lake: Path):
        """A shard is registered with its path, size, hash, rows and times, and nothing else."""
        (file,) = write_day(lake, BTC)
        (row,) = manifest(lake, DELTAS, BTC).to_dicts()

        assert (
            dict.fromkeys(row)
            | {
                "exchange": "BINANCE",
                "symbol": "BTC-USDT",
                "dt": DAY,
                "status": "usable",
                "shard": 1,
                "path": "book_delta_v2/exchange=BINANCE/symbol=BTC-USDT/dt=2024-08-08/"
                "1.snappy.parquet",
                "bytes": file.stat().st_size,
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                "rows": 2 * MESSAGES,
                "first_ts_receipt_ns": START_NS + 3_000_000,
                "last_ts_receipt_ns": LAST_NS,
            }
            == row
        )

    def test_one_that_cannot_be_read_at_all(self, lake: Path, monkeypatch):
        """A file nobody may read is registered as such, and its instrument alone says so."""
        for each in (BTC, ETH):
            write_day(lake, each)

        def forbidden(path, *arguments):
            if "BTC" in str(path):
                raise PermissionError(13, "Permission denied")
            return stored_digest(path, *arguments)

        monkeypatch.setattr(stage, "stored_digest", forbidden)
        btc, eth = manifest(lake, DELTAS, BTC, ETH).to_dicts()

        assert ("unusable", "LakeFileError", None) == (
            btc["status"],
            btc["failure_kind"],
            btc["sha256"],
        )
        assert "PermissionError: [Errno 13] Permission denied" in btc["failure"]
        assert "usable" == eth["status"]
        objects = register(lake, DELTAS, BTC, ETH)
        assert 1 == len(objects.files_of(ETH)[0])
        with pytest.raises(LakeFileError, match="could not be registered"):
            objects.files_of(BTC)

    def test_shards_in_order(self, lake: Path):
        """Twelve shards are twelve rows, numbered as their names are."""
        write_day(lake, BTC, shards=12)
        found = manifest(lake, DELTAS, BTC)

        assert [f"{n}.snappy.parquet" for n in range(1, 13)] == [
            Path(path).name for path in found["path"]
        ]
        assert list(range(1, 13)) == found["shard"].to_list()
        assert 2 * MESSAGES == found["rows"].sum()
        assert (START_NS + 3_000_000, LAST_NS) == (
            found["first_ts_receipt_ns"].min(),
            found["last_ts_receipt_ns"].max(),
        )

    def test_missing(self, lake: Path):
        """No object is one row that says where one was looked for."""
        (row,) = manifest(lake, TRADES, BTC).to_dicts()

        assert ("missing", None, None, "MissingDataError") == tuple(
            row[name] for name in ("status", "path", "sha256", "failure_kind")
        )
        assert row["failure"] == (
            "There is no trades file (instrument=BINANCE:BTC-USDT, day=2024-08-08, "
            f"file={day_folder(lake, TRADES, 'BINANCE', 'BTC-USDT', DAY)}). Fetch the day from "
            "the vendor, or wait if it is not due yet."
        )

    def test_unusable(self, lake: Path):
        """A file that cannot be read is registered byte for byte, with the whole error."""
        first, second = write_day(lake, BTC, shards=2)
        second.write_bytes(second.read_bytes()[:1_000])
        good, bad = manifest(lake, DELTAS, BTC).to_dicts()

        assert ("usable", "unusable") == (good["status"], bad["status"])
        assert (1_000, None, "LakeFileError") == (bad["bytes"], bad["rows"], bad["failure_kind"])
        assert hashlib.sha256(second.read_bytes()).hexdigest() == bad["sha256"]
        assert f"file={second}" in bad["failure"]
        assert first.exists()

    def test_a_file_of_another_table(self, lake: Path):
        """A file with other columns than its table is unusable."""
        folder = day_folder(lake, SNAPSHOTS, "BINANCE", "BTC-USDT", DAY)
        folder.mkdir(parents=True)
        pq.write_table(delta_rows(4), folder / "1.snappy.parquet")
        (row,) = manifest(lake, SNAPSHOTS, BTC).to_dicts()

        assert ("unusable", "SchemaError") == (row["status"], row["failure_kind"])

    @pytest.mark.parametrize("with_statistics", [True, False])
    def test_times_come_from_the_footer(self, lake: Path, with_statistics):
        """Times are those of the footer, in either spelling; null if the footer has none."""
        (file,) = write_day(lake, BTC)
        names = [CLIENT_SPELLING.get(name, name) for name in delta_rows().column_names]
        rows = delta_rows().rename_columns(names)
        pq.write_table(rows, file, write_statistics=with_statistics, row_group_size=1_000)
        (row,) = manifest(lake, DELTAS, BTC).to_dicts()
        expected = (START_NS + 3_000_000, LAST_NS) if with_statistics else (None, None)

        assert expected == (row["first_ts_receipt_ns"], row["last_ts_receipt_ns"])

    def test_no_row(self, lake: Path):
        """A file without a row is usable, has 0 rows and no times."""
        write_day(lake, BTC, deltas=delta_rows(0))
        (row,) = manifest(lake, DELTAS, BTC).to_dicts()

        assert ("usable", 0, None) == (row["status"], row["rows"], row["first_ts_receipt_ns"])


class TestRawObjects:
    def test_files_in_order(self, lake: Path):
        """An instrument's files come in shard order with their hashes, and no others'."""
        files = write_day(lake, BTC, shards=12)
        write_day(lake, ETH)
        found, hashes = register(lake, DELTAS, ETH, BTC).files_of(BTC)

        assert files == found
        assert [hashlib.sha256(file.read_bytes()).hexdigest() for file in files] == hashes

    def test_missing(self, lake: Path):
        """An instrument without files is an error that names it, or none if none are needed."""
        objects = register(lake, DELTAS, BTC)
        with pytest.raises(MissingDataError, match="There is no raw file") as caught:
            objects.files_of(BTC)

        assert ("BINANCE", "BTC-USDT") == (caught.value.exchange, caught.value.symbol)
        assert ([], []) == objects.files_if_any(BTC)

    def test_not_registered(self, lake: Path):
        """An instrument that was never registered has no files either."""
        write_day(lake, BTC)

        assert ([], []) == register(lake, DELTAS, BTC).files_if_any(ETH)

    def test_changed_since(self, lake: Path):
        """A file of another size than registered is refused, also where files are optional."""
        (file,) = write_day(lake, BTC)
        objects = register(lake, DELTAS, BTC)
        size = file.stat().st_size
        file.write_bytes(file.read_bytes() + b"more")
        with pytest.raises(LakeFileError, match="changed since it was registered") as caught:
            objects.files_if_any(BTC)

        assert (f"{size} bytes", f"{size + 4} bytes", str(file)) == (
            caught.value.expected,
            caught.value.found,
            caught.value.file,
        )

    def test_gone_since(self, lake: Path):
        """A registered file that is gone is an error, not a day without data."""
        (file,) = write_day(lake, BTC)
        objects = register(lake, DELTAS, BTC)
        file.unlink()
        with pytest.raises(LakeFileError) as caught:
            objects.files_of(BTC)

        assert "no file" == caught.value.found

    def test_unusable_files_are_among_them(self, lake: Path):
        """Who reads an unusable file meets its error; it is not passed over."""
        files = write_day(lake, BTC, shards=2)
        files[1].write_bytes(b"PAR1")

        assert files == register(lake, DELTAS, BTC).files_of(BTC)[0]
