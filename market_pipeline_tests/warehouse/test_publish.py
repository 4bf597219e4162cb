from __future__ import annotations

import dataclasses
import os
from datetime import timedelta
from itertools import pairwise

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from market_pipeline.errors import PublishError, WarehouseBusyError
from market_pipeline.warehouse.catalogue import connect, refresh
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.locks import holding
from market_pipeline.warehouse.publish import publish, vacuum, where_it_lies
from market_pipeline.warehouse.read import current_files, scan
from market_pipeline.warehouse.staging import StagedFile, StagedWriter
from market_pipeline_tests.warehouse.writers import (
    BBO,
    DAY,
    NEXT_DAY,
    PERP,
    SPOT,
    batch,
    publish_some,
    runs,
    stage,
)


class TestPublish:
    def test_every_reader_sees_the_same(self, warehouse: Warehouse):
        """Polars, Delta's own reader and DuckDB read what was staged, ids with a colon included."""
        publish(warehouse, BBO, DAY, [stage(warehouse, name, 1) for name in (PERP, SPOT)])
        expected = pl.concat(
            [pl.DataFrame(batch(name, DAY, 1)) for name in (SPOT, PERP)]
        ).with_columns(pl.col("flags").cast(pl.UInt16))
        files = [str(path) for path in current_files(warehouse, BBO)]
        folder = str(warehouse.table_dir(BBO))
        by_delta = pl.scan_delta(folder).sort("exchange", "bid_price").collect()
        by_duckdb = duckdb.execute(
            "SELECT * FROM read_parquet($1, hive_partitioning=false)", [files]
        ).pl()

        assert expected.equals(scan(warehouse, BBO).collect())
        assert expected.columns == by_duckdb.columns
        assert expected.equals(by_duckdb.with_columns(pl.col("flags").cast(pl.UInt16)))
        assert expected["levels"].to_list() == by_delta["levels"].to_list()
        assert {PERP, SPOT} == set(by_delta["p_instrument"])
        assert sorted(files) == sorted(DeltaTable(folder).file_uris())

    def test_replaces_only_what_is_named(self, warehouse: Warehouse):
        """One instrument's rerun keeps the day's other instruments and the other days."""
        publish(warehouse, BBO, DAY, [stage(warehouse, name, 1) for name in (PERP, SPOT)])
        publish(warehouse, BBO, NEXT_DAY, [stage(warehouse, PERP, 2, NEXT_DAY)])
        publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 3)])

        assert {
            ("BINANCE", "2024-08-08"): 1,
            ("BINANCE_FUTURES", "2024-08-08"): 3,
            ("BINANCE_FUTURES", "2024-08-09"): 2,
        } == runs(warehouse)

    def test_twice_is_once(self, warehouse: Warehouse):
        """Publishing the same bytes again makes no version and leaves no staged file."""
        first = publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1)])
        again = publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1)])

        assert first == again
        assert [] == list(warehouse.staging_dir.iterdir())
        assert 1 == len(current_files(warehouse, BBO))

    def test_same_staged_file_twice(self, warehouse: Warehouse):
        """A publish whose answer was lost may be repeated with the same staged file."""
        staged = stage(warehouse, PERP, 1)

        assert publish(warehouse, BBO, DAY, [staged]) == publish(warehouse, BBO, DAY, [staged])

    def test_back_to_an_earlier_file(self, warehouse: Warehouse):
        """Bytes that were replaced before are current again, and survive a vacuum."""
        for run in (1, 2, 1):
            publish(warehouse, BBO, DAY, [stage(warehouse, PERP, run)])
        removed = vacuum(warehouse, BBO, retention=timedelta(0))

        assert 1 == len(removed)
        assert {("BINANCE_FUTURES", "2024-08-08"): 1} == runs(warehouse)

    def test_withdrawn(self, warehouse: Warehouse):
        """A withdrawn instrument's partition goes in the same commit as the others come."""
        publish(warehouse, BBO, DAY, [stage(warehouse, name, 1) for name in (PERP, SPOT)])
        publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 2)], withdrawn=[SPOT])

        assert {("BINANCE_FUTURES", "2024-08-08"): 2} == runs(warehouse)
        assert {
            ("BINANCE", "2024-08-08"): 1,
            ("BINANCE_FUTURES", "2024-08-08"): 1,
        } == runs(warehouse, version=1)

    def test_withdrawn_from_nothing(self, warehouse: Warehouse):
        """Withdrawing before anything was published makes no table."""
        assert -1 == publish(warehouse, BBO, DAY, [], withdrawn=[SPOT])
        assert not warehouse.table_dir(BBO).exists()

    def test_empty_day(self, warehouse: Warehouse):
        """An instrument without a row has a file, and reads as no row."""
        publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1, rows=0)])

        assert (1, 0) == (
            len(current_files(warehouse, BBO, DAY, [PERP])),
            scan(warehouse, BBO).collect().height,
        )

    def test_properties(self, warehouse: Warehouse):
        """The commit tells the day, the instruments and the properties it was made with."""
        publish(
            warehouse, BBO, DAY, [stage(warehouse, PERP, 1)], properties={"code_version": "abc"}
        )
        commit = DeltaTable(str(warehouse.table_dir(BBO))).history(1)[0]["market_pipeline"]

        assert {
            "day": "2024-08-08",
            "published": [PERP],
            "withdrawn": [],
            "properties": {"code_version": "abc"},
        } == commit

    @pytest.mark.parametrize(
        ("day", "instrument", "column"),
        [(NEXT_DAY, PERP, "dt"), (DAY, "BINANCE_FUTURES:ETH", "symbol"), (DAY, SPOT, "exchange")],
    )
    def test_rows_of_another_partition(self, warehouse: Warehouse, day, instrument, column):
        """A file that holds another day or instrument is refused, and nothing is published."""
        staged = dataclasses.replace(stage(warehouse, PERP, 1), instrument=instrument)

        with pytest.raises(PublishError, match="another partition") as caught:
            publish(warehouse, BBO, day, [staged])
        assert column == caught.value.column
        assert [] == current_files(warehouse, BBO)

    def test_null_day(self, warehouse: Warehouse):
        """A row without its day belongs to no partition."""
        rows = batch(PERP, DAY, 1, rows=2)
        with StagedWriter(warehouse, BBO, PERP) as writer:
            writer.write(rows.set_column(2, "dt", pa.array([DAY, None], pa.date32())))

        with pytest.raises(PublishError, match="column=dt"):
            publish(warehouse, BBO, DAY, [writer.staged])

    def test_named_twice(self, warehouse: Warehouse):
        """An instrument that is both staged and withdrawn is a mistake, not a choice."""
        with pytest.raises(PublishError, match="named twice"):
            publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1)], withdrawn=[PERP])

    @pytest.mark.parametrize("harm", ["gone", "cut", "damaged"])
    def test_a_published_file_is_not_whole(self, warehouse: Warehouse, harm: str):
        """Publishing the same rows puts a file that is gone or damaged right, without a commit."""
        version = publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1)])
        (file,) = current_files(warehouse, BBO)
        whole = file.read_bytes()
        if harm == "gone":
            file.unlink()
        else:
            file.write_bytes(whole[:-9] if harm == "cut" else whole[:-9] + b"!" + whole[-8:])

        assert version == publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1)])
        assert whole == file.read_bytes()
        assert [] == list(warehouse.staging_dir.iterdir())

    def test_a_whole_file_is_left_alone(self, warehouse: Warehouse):
        """A published file that readers may have open is not replaced by one of the same bytes."""
        publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1)])
        (file,) = current_files(warehouse, BBO)
        before = file.stat().st_ino
        publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1)])

        assert before == file.stat().st_ino
        assert [] == list(warehouse.staging_dir.iterdir())

    def test_staged_file_is_gone(self, warehouse: Warehouse):
        """A staged file that somebody removed is named in the error."""
        staged = stage(warehouse, PERP, 1)
        staged.path.unlink()

        with pytest.raises(PublishError, match="gone") as caught:
            publish(warehouse, BBO, DAY, [staged])
        assert str(staged.path) == caught.value.file

    def test_locked(self, warehouse: Warehouse):
        """Who waits too long learns which lock it was, and the staged file stays for a retry."""
        staged = stage(warehouse, PERP, 1)
        with (
            holding(warehouse, BBO.sql_name),
            pytest.raises(WarehouseBusyError, match=r"books\.bbo was in use") as caught,
        ):
            publish(dataclasses.replace(warehouse, wait_seconds=0.1), BBO, DAY, [staged])

        assert str(warehouse.lock_file("books.bbo")) == caught.value.file
        assert 1 == publish(warehouse, BBO, DAY, [staged])

    def test_two_processes(self, warehouse: Warehouse, processes):
        """Processes that publish the same and other instruments at once all succeed."""
        writers = [
            processes.Process(target=publish_some, args=(warehouse.data_dir, name, range(a, a + 4)))
            for name, a in ((PERP, 10), (PERP, 20), (SPOT, 30))
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)

        assert [0, 0, 0] == [writer.exitcode for writer in writers]
        found = runs(warehouse)
        assert 33 == found["BINANCE", "2024-08-08"]
        assert found["BINANCE_FUTURES", "2024-08-08"] in {13, 23}
        assert 2 == len(current_files(warehouse, BBO))

    def test_without_the_lock(self, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch):
        """Where file locks do not hold, Delta itself refuses the late commit and it is retried."""
        publish(warehouse, BBO, NEXT_DAY, [stage(warehouse, PERP, 1, NEXT_DAY)])
        original = DeltaTable.create_write_transaction
        late = []

        def overtaken(self: DeltaTable, *args, **kwargs) -> None:
            if not late:
                late.append(True)
                other = Warehouse(warehouse.data_dir)
                with monkeypatch.context() as unlocked:
                    unlocked.setattr(Warehouse, "lock_file", lambda *_: other.state_dir / "else")
                    publish(other, BBO, DAY, [stage(other, PERP, 2)])
            original(self, *args, **kwargs)

        monkeypatch.setattr(DeltaTable, "create_write_transaction", overtaken)
        version = publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 3)])

        assert 3 == version
        assert {("BINANCE_FUTURES", "2024-08-08"): 3} == runs(warehouse, day=DAY)


def stage_parts(
    warehouse: Warehouse, cuts: list[int], run: int = 1, instrument: str = PERP
) -> list[StagedFile]:
    """Stages the rows of a run cut into parts; `bid_price` counts them through all parts."""
    rows = batch(instrument, DAY, run)
    edges = [0, *cuts, rows.num_rows]
    parts = []
    for part, (start, end) in enumerate(pairwise(edges)):
        with StagedWriter(warehouse, BBO, instrument, part=part) as writer:
            writer.write(rows.slice(start, end - start))
        parts.append(writer.staged)
    return parts


class TestParts:
    CUTS = (3, 4, 100, 140, 141, 180, 230, 290, 310, 400, 499)
    """Twelve parts, so that their order is that of numbers and not that of their first digits."""

    def test_are_read_in_their_order(self, warehouse: Warehouse):
        """Rows come back in the order of the parts, whichever way the files were named to publish.

        That holds for `scan` and for the catalogue's view, among other instruments.
        """
        parts = stage_parts(warehouse, [*self.CUTS])
        publish(warehouse, BBO, DAY, [stage(warehouse, SPOT, 1), *reversed(parts)])
        refresh(warehouse, [BBO])
        expected = batch(PERP, DAY, 1)["bid_price"].to_pylist()
        with connect(warehouse.data_dir) as connection:
            query = "SELECT bid_price FROM books.bbo WHERE exchange = 'BINANCE_FUTURES'"
            seen = [price for (price,) in connection.execute(query).fetchall()]

        assert scan(warehouse, BBO, instruments=[PERP]).collect()["bid_price"].to_list() == expected
        assert seen == expected
        assert len(current_files(warehouse, BBO, DAY, [PERP])) == 12

    def test_large_ones_too(self, warehouse: Warehouse):
        """DuckDB reads large files with several threads and still returns them in order."""
        parts = []
        for part in range(4):
            with StagedWriter(warehouse, BBO, PERP, part=part, row_group_rows=20_000) as writer:
                writer.write(batch(PERP, DAY, run=part, rows=100_000))
            parts.append(writer.staged)
        publish(warehouse, BBO, DAY, parts)
        refresh(warehouse, [BBO])
        with connect(warehouse.data_dir) as connection:
            connection.execute("SET threads = 4")
            seen = connection.execute("SELECT run, bid_price FROM books.bbo").pl()

        assert seen.equals(scan(warehouse, BBO).select("run", "bid_price").collect())
        assert seen["run"].is_sorted()

    def test_replaced_by_fewer(self, warehouse: Warehouse):
        """A rerun with fewer parts leaves none of the old ones, in one commit."""
        publish(warehouse, BBO, DAY, stage_parts(warehouse, [10, 20, 30]))
        version = publish(warehouse, BBO, DAY, stage_parts(warehouse, [250], run=2))

        assert len(current_files(warehouse, BBO)) == 2
        assert {("BINANCE_FUTURES", "2024-08-08"): 2} == runs(warehouse)
        assert {("BINANCE_FUTURES", "2024-08-08"): 1} == runs(warehouse, version=version - 1)

    def test_of_which_one_changed(self, warehouse: Warehouse):
        """Parts with the bytes they had stay as they are; publishing all again makes no version."""
        publish(warehouse, BBO, DAY, stage_parts(warehouse, [10, 20]))
        before = current_files(warehouse, BBO)
        publish(warehouse, BBO, DAY, stage_parts(warehouse, [10, 30]))
        after = current_files(warehouse, BBO)
        version = publish(warehouse, BBO, DAY, stage_parts(warehouse, [10, 30]))

        assert before[0] == after[0]
        assert set(before) & set(after) == {before[0]}
        assert version == 2

    def test_the_same_rows_as_another_part(self, warehouse: Warehouse):
        """Two parts of equal bytes are two files: the number is part of the name."""
        rows = batch(PERP, DAY, 1, rows=5)
        parts = []
        for part in (0, 1):
            with StagedWriter(warehouse, BBO, PERP, part=part) as writer:
                writer.write(rows)
            parts.append(writer.staged)
        publish(warehouse, BBO, DAY, parts)

        assert parts[0].sha256 == parts[1].sha256
        assert scan(warehouse, BBO).collect().height == 10

    def test_withdrawn(self, warehouse: Warehouse):
        """Withdrawing an instrument withdraws all its parts."""
        publish(warehouse, BBO, DAY, stage_parts(warehouse, [10, 20]))
        publish(warehouse, BBO, DAY, [], withdrawn=[PERP])

        assert [] == current_files(warehouse, BBO)

    def test_named_twice(self, warehouse: Warehouse):
        """A part repeated is refused before anything is moved or published."""
        parts = stage_parts(warehouse, [10])
        repeated = dataclasses.replace(parts[1], part=0)

        with pytest.raises(PublishError, match="named twice"):
            publish(warehouse, BBO, DAY, [parts[0], repeated])
        assert [] == current_files(warehouse, BBO)
        assert all(part.path.exists() for part in parts)


class TestWhereItLies:
    def test_staged_moved_and_gone(self, warehouse: Warehouse):
        """A staged file is found in staging, then where publishing moved it, until it is gone."""
        staged = stage(warehouse, PERP, 1)
        before = where_it_lies(warehouse, BBO, DAY, staged)
        publish(warehouse, BBO, DAY, [staged])
        (published,) = current_files(warehouse, BBO)
        after = where_it_lies(warehouse, BBO, DAY, staged)
        published.unlink()

        assert before == staged
        assert after == dataclasses.replace(staged, path=published)
        assert where_it_lies(warehouse, BBO, DAY, staged) is None

    def test_of_another_size(self, warehouse: Warehouse):
        """A file that was cut short is not the one that was finished."""
        staged = stage(warehouse, PERP, 1)
        staged.path.write_bytes(staged.path.read_bytes()[:-1])

        assert where_it_lies(warehouse, BBO, DAY, staged) is None

    def test_another_day_or_part(self, warehouse: Warehouse):
        """What was published is neither another day's nor another part."""
        staged = stage(warehouse, PERP, 1)
        publish(warehouse, BBO, DAY, [staged])
        other = dataclasses.replace(staged, part=1)

        assert where_it_lies(warehouse, BBO, NEXT_DAY, staged) is None
        assert where_it_lies(warehouse, BBO, DAY, other) is None

    def test_published_again_from_there(self, warehouse: Warehouse):
        """A run killed after its publish may publish what it found there; nothing is lost."""
        staged = stage(warehouse, PERP, 1)
        publish(warehouse, BBO, DAY, [staged])
        found = where_it_lies(warehouse, BBO, DAY, staged)
        assert found is not None

        assert publish(warehouse, BBO, DAY, [found]) == 1
        assert {("BINANCE_FUTURES", "2024-08-08"): 1} == runs(warehouse)


class TestVacuum:
    def test_keeps_for_running_readers(self, warehouse: Warehouse):
        """A replaced file stays for the retention, so a reader that listed it can read it."""
        publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1)])
        before = scan(warehouse, BBO)
        publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 2)])

        assert [] == vacuum(warehouse, BBO)
        assert [1] == before.collect()["run"].unique().to_list()

    def test_removes_what_nobody_holds(self, warehouse: Warehouse):
        """Replaced files, and files moved in by a run killed before its commit, go in the end."""
        for run in (1, 2):
            publish(warehouse, BBO, DAY, [stage(warehouse, PERP, run)])
        (current,) = current_files(warehouse, BBO)
        orphan = current.with_name("0" * 64 + ".parquet")
        orphan.write_bytes(b"PAR1")
        os.utime(orphan, (0, 0))

        assert [orphan] == vacuum(warehouse, BBO)
        assert 1 == len(vacuum(warehouse, BBO, retention=timedelta(0)))
        assert [current] == list(warehouse.table_dir(BBO).rglob("p_day*/**/*.parquet"))

    def test_nothing_published(self, warehouse: Warehouse):
        """There is nothing to clean before the first publish."""
        assert [] == vacuum(warehouse, BBO)
