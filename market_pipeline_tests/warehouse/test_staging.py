from __future__ import annotations

import gc
import hashlib
import os
import time
from datetime import timedelta
from multiprocessing.context import ForkServerContext
from multiprocessing.synchronize import Event
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_pipeline.errors import PublishError
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.staging import (
    KEEP_STAGED,
    StagedWriter,
    staging_age,
    staging_in_use,
    stale_staging,
    sweep_staging,
)
from market_pipeline_tests.warehouse.writers import BBO, DAY, PERP, batch, stage


def staged_in_pieces(warehouse: Warehouse, rows: pa.Table, piece: int) -> StagedWriter:
    with StagedWriter(
        warehouse, BBO, PERP, metadata={"tick": "0.1", "code": "1"}, row_group_rows=300
    ) as writer:
        for part in rows.to_batches(max_chunksize=piece):
            writer.write(part)
    return writer


class TestStagedWriter:
    def test_describes_the_file(self, warehouse: Warehouse):
        """Rows, size and hash are those of the file on disk, and its name starts with the hash."""
        staged = stage(warehouse, PERP, run=1, rows=7)
        contents = staged.path.read_bytes()
        sha256 = hashlib.sha256(contents).hexdigest()

        assert (PERP, 7, len(contents), sha256) == (
            staged.instrument,
            staged.rows,
            staged.bytes,
            staged.sha256,
        )
        assert staged.path.name.startswith(sha256)

    @pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
    def test_full_disk(self, warehouse: Warehouse, full_at):
        """Where a file may not grow nothing of it is left, and its writer is silent afterwards."""
        rows = batch(PERP, DAY, run=3, rows=20_000)
        with full_at(10_000), pytest.raises(OSError, match="File too large"):
            staged_in_pieces(warehouse, rows, 1_000)
        gc.collect()

        assert [] == list(warehouse.staging_dir.iterdir())

    def test_same_bytes_however_cut(self, warehouse: Warehouse):
        """The bytes follow from the rows: batch sizes and spellings of a type leave no trace."""
        rows = batch(PERP, DAY, run=3, rows=1_000)
        respelled = rows.set_column(1, "symbol", rows["symbol"].dictionary_encode())
        respelled = respelled.set_column(0, "exchange", rows["exchange"].cast(pa.large_string()))
        hashes = {
            staged_in_pieces(warehouse, table, piece).staged.sha256
            for table in (rows, respelled)
            for piece in (1, 7, 300, 999, 1_000)
        }

        assert 1 == len(hashes)

    def test_row_groups_metadata_and_encodings(self, warehouse: Warehouse):
        """Row groups are full but for the last; the metadata is there; integers are differences."""
        writer = staged_in_pieces(warehouse, batch(PERP, DAY, run=1, rows=1_000), 77)
        footer = pq.read_metadata(writer.staged.path)
        column = footer.row_group(0).column(footer.schema.names.index("run"))

        assert [300, 300, 300, 100] == [
            footer.row_group(group).num_rows for group in range(footer.num_row_groups)
        ]
        assert (b"0.1", b"1") == (footer.metadata[b"tick"], footer.metadata[b"code"])
        assert ("ZSTD", True) == (column.compression, "DELTA_BINARY_PACKED" in column.encodings)

    def test_wide_rows_make_smaller_groups(
        self, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
    ):
        """A row group's memory is bounded, so wide rows get fewer of them."""
        monkeypatch.setattr("market_pipeline.warehouse.staging.ROW_GROUP_BYTES", 4_600)
        with StagedWriter(warehouse, BBO, PERP) as writer:
            writer.write(batch(PERP, DAY, run=1, rows=250))

        assert 100 == pq.read_metadata(writer.staged.path).row_group(0).num_rows

    def test_empty(self, warehouse: Warehouse):
        """A day without a row is a readable file with the table's columns."""
        with StagedWriter(warehouse, BBO, PERP) as writer:
            writer.write(batch(PERP, DAY, run=1, rows=0))

        assert (0, 0, BBO.arrow_schema.names) == (
            writer.staged.rows,
            pl.read_parquet(writer.staged.path, glob=False).height,
            pl.read_parquet(writer.staged.path, glob=False).columns,
        )

    def test_columns_change_between_batches(self, warehouse: Warehouse):
        """Batches of one file may have their columns in any order and spelling, each by name."""
        rows = batch(PERP, DAY, run=3, rows=400)
        backwards = rows.select(rows.column_names[::-1])
        respelled = rows.set_column(1, "symbol", rows["symbol"].dictionary_encode())
        with StagedWriter(warehouse, BBO, PERP) as writer:
            for at, spelling in enumerate((rows, backwards, respelled, backwards)):
                writer.write(spelling.slice(100 * at, 100))

        assert pl.from_arrow(rows).equals(pl.read_parquet(writer.staged.path, glob=False))

    def test_failure_leaves_nothing(self, warehouse: Warehouse):
        """When the producer fails, its error comes through and no file stays."""
        with (
            pytest.raises(ZeroDivisionError),
            StagedWriter(warehouse, BBO, PERP, row_group_rows=10) as writer,
        ):
            writer.write(batch(PERP, DAY, run=1))
            raise ZeroDivisionError

        assert [] == list(warehouse.staging_dir.iterdir())
        with pytest.raises(RuntimeError, match="with"):
            _ = writer.staged

    @pytest.mark.parametrize(
        ("change", "column"),
        [
            (lambda rows: rows.drop_columns(["run"]), "run"),
            (lambda rows: rows.append_column("extra", rows["run"]), "extra"),
            (lambda rows: rows.append_column("run", rows["run"]), "run"),
            (lambda rows: rows.set_column(3, "run", rows["run"].cast(pa.int32())), "run"),
            (lambda rows: rows.set_column(5, "flags", rows["run"].cast(pa.int64())), "flags"),
        ],
        ids=["missing", "unexpected", "twice", "narrower", "wider"],
    )
    @pytest.mark.parametrize("batches_before", [0, 2])
    def test_other_columns(self, warehouse: Warehouse, batches_before, change, column: str):
        """Columns that are not the table's are refused at any batch, and the error names them."""
        rows = batch(PERP, DAY, run=1)
        with (
            pytest.raises(PublishError, match=BBO.sql_name) as caught,
            StagedWriter(warehouse, BBO, PERP) as writer,
        ):
            for _ in range(batches_before):
                writer.write(rows)
            writer.write(change(rows))

        assert column == caught.value.column

    def test_bad_instrument(self, warehouse: Warehouse):
        """An instrument without its venue is refused before a file is made."""
        with pytest.raises(PublishError, match="EXCHANGE:SYMBOL"):
            StagedWriter(warehouse, BBO, "BTC-USDT")


def test_sweep_staging(warehouse: Warehouse):
    """Files of killed runs go after a day; younger ones may be in use and stay."""
    old, young = stage(warehouse, PERP, run=1), stage(warehouse, PERP, run=2)
    os.utime(old.path, (0, 0))

    assert [old.path] == sweep_staging(warehouse)
    assert [young.path] == list(warehouse.staging_dir.iterdir())
    assert [young.path] == sweep_staging(warehouse, timedelta(seconds=-1))


def _keep_staging(warehouse: Warehouse, begun: Event) -> None:
    with staging_in_use(warehouse):
        begun.set()
        time.sleep(60)


def test_room_that_takes_none(warehouse: Warehouse):
    """What is left over counts as what it takes of the disk, not as what it has room for."""
    index = warehouse.staging_dir / "2024-08-08-A.messages"
    with index.open("wb") as file:
        file.truncate(1 << 30)
        file.write(b"x")
    (found,) = stale_staging(warehouse, timedelta(seconds=-1)).values()

    assert 0 < found < 1 << 20


class TestStagingAge:
    def test_while_runs_are_alive(self, warehouse: Warehouse):
        """Any number of runs may be alive, and until the last has ended files are kept a day."""
        with staging_in_use(warehouse), staging_in_use(warehouse), staging_age(warehouse) as age:
            assert KEEP_STAGED == age
        with staging_age(warehouse) as age:
            assert timedelta(0) > age

    def test_after_a_kill(self, warehouse: Warehouse, processes: ForkServerContext):
        """A run that was killed is not alive, whatever it left."""
        begun = processes.Event()
        run = processes.Process(target=_keep_staging, args=(warehouse, begun), daemon=True)
        run.start()
        begun.wait(60)
        with staging_age(warehouse) as alive:
            pass
        run.kill()
        run.join()
        with staging_age(warehouse) as dead:
            pass

        assert (KEEP_STAGED, True) == (alive, dead < timedelta(0))

    def test_without_a_folder(self, tmp_path: Path):
        """Where nothing was ever staged nothing is made."""
        with staging_age(Warehouse(tmp_path / "data")) as age:
            assert KEEP_STAGED == age
        assert not (tmp_path / "data").exists()
