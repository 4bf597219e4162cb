from __future__ import annotations

import dataclasses
import shutil

import polars as pl
import pyarrow as pa
import pytest

from market_pipeline.errors import MissingDataError, PublishError
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.read import current_files, scan, staged_as_published
from market_pipeline.warehouse.staging import StagedWriter
from market_pipeline.warehouse.tables import Column
from market_pipeline_tests.warehouse.writers import (
    BBO,
    DAY,
    NEXT_DAY,
    PERP,
    SPOT,
    batch,
    runs,
    stage,
)


class TestScan:
    def test_nothing_published(self, warehouse: Warehouse):
        """Before the first publish there is an empty frame with the table's columns and types."""
        assert BBO.arrow_schema.names == scan(warehouse, BBO).collect_schema().names()
        assert pl.UInt16 == scan(warehouse, BBO).collect_schema()["flags"]
        assert [] == current_files(warehouse, BBO)

    def test_chosen_day_and_instruments(self, warehouse: Warehouse):
        """Files come by day and instrument, and can be chosen by both."""
        for day in (NEXT_DAY, DAY):
            staged = [stage(warehouse, name, 1, day) for name in (PERP, SPOT)]
            publish(warehouse, BBO, day, staged)
        folders = [path.parent.name[-12:] for path in current_files(warehouse, BBO)]

        assert ["BTC-USDT", "SDT-PERP"] * 2 == [name[-8:] for name in folders]
        assert {("BINANCE", "2024-08-09"): 1} == runs(warehouse, day=NEXT_DAY, instruments=[SPOT])
        assert {} == runs(warehouse, instruments=[])

    def test_a_table_begun_afresh(self, warehouse: Warehouse):
        """What was read of a table before it was moved away is not taken for the new one's."""
        for day in (DAY, NEXT_DAY):
            publish(warehouse, BBO, day, [stage(warehouse, PERP, 1, day)])
        assert 2 == len(current_files(warehouse, BBO))
        for of in ([SPOT], [SPOT, PERP]):
            shutil.rmtree(warehouse.table_dir(BBO))
            assert [] == current_files(warehouse, BBO)
            publish(warehouse, BBO, NEXT_DAY, [stage(warehouse, each, 2, NEXT_DAY) for each in of])

            assert len(of) == len(current_files(warehouse, BBO))
            assert of == [each for each in (SPOT, PERP) if runs(warehouse, instruments=[each])]

    def test_rows_are_known_from_the_log(self, warehouse: Warehouse):
        """How many rows a published file has is told without opening it."""
        publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1, rows=7)])
        (file,) = current_files(warehouse, BBO)
        file.write_bytes(b"damaged")
        ((staged,),) = staged_as_published(warehouse, BBO, DAY).values()

        assert (PERP, file, 7) == (staged.instrument, staged.path, staged.rows)

    def test_unknown_version(self, warehouse: Warehouse):
        """A version that is not there is an error, with and without a table."""
        with pytest.raises(MissingDataError, match="no version 0"):
            scan(warehouse, BBO, version=0)
        publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1)])
        with pytest.raises(MissingDataError, match="no version 9"):
            scan(warehouse, BBO, version=9)

    def test_new_column(self, warehouse: Warehouse):
        """A column the table did not have before is null in the older days."""
        publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1, rows=2)])
        extra = Column("skew_ms", "DOUBLE", "New.")
        wider = dataclasses.replace(BBO, columns=(*BBO.columns, extra))
        unread = scan(warehouse, wider)
        with StagedWriter(warehouse, wider, PERP) as writer:
            rows = batch(PERP, NEXT_DAY, 2, rows=1)
            writer.write(rows.append_column("skew_ms", pa.array([0.5])))
        publish(warehouse, wider, NEXT_DAY, [writer.staged])

        assert [None, None] == unread.collect()["skew_ms"].to_list()
        assert [None, None, 0.5] == scan(warehouse, wider).collect()["skew_ms"].to_list()
        assert 3 == scan(warehouse, BBO).collect().height

    def test_changed_type(self, warehouse: Warehouse):
        """A column whose type changed is refused, and what was published stays."""
        publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1)])
        columns = tuple(
            dataclasses.replace(column, type="DOUBLE") if column.name == "run" else column
            for column in BBO.columns
        )
        changed = dataclasses.replace(BBO, columns=columns)
        with StagedWriter(warehouse, changed, PERP) as writer:
            rows = batch(PERP, DAY, 2)
            writer.write(rows.set_column(3, "run", rows["run"].cast(pa.float64())))

        with pytest.raises(PublishError, match="another type of column") as caught:
            publish(warehouse, changed, DAY, [writer.staged])
        assert "run" == caught.value.column
        assert {("BINANCE_FUTURES", "2024-08-08"): 1} == runs(warehouse)
