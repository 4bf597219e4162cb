from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from market_pipeline.errors import WarehouseBusyError
from market_pipeline.warehouse.delta import delta_table
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.locks import holding
from market_pipeline.warehouse.publish import publish, vacuum, withdraw
from market_pipeline.warehouse.read import current_files, scan
from market_pipeline_tests.warehouse.writers import BBO, DAY, NEXT_DAY, PERP, SPOT, stage


@pytest.fixture
def published(warehouse: Warehouse) -> Warehouse:
    """Two days of two instruments."""
    for day in (DAY, NEXT_DAY):
        staged = [stage(warehouse, each, 1, day, rows=3) for each in (PERP, SPOT)]
        publish(warehouse, BBO, day, staged)
    return warehouse


def test_many_days_in_one_commit(published: Warehouse):
    """Exactly the partitions named are no longer published, by one commit."""
    version = delta_table(published, BBO).version()
    count = withdraw(published, BBO, {DAY: [PERP, SPOT], NEXT_DAY: {SPOT}})
    rows = scan(published, BBO).select("symbol", "dt").unique().collect().rows()

    assert (3, [("BTC-USDT-PERP", NEXT_DAY)]) == (count, rows)
    assert version + 1 == delta_table(published, BBO).version()


def test_readers_keep_their_files(published: Warehouse):
    """The files stay for running readers and earlier versions, until they are vacuumed."""
    version = delta_table(published, BBO).version()
    (file,) = current_files(published, BBO, DAY, [PERP])
    withdraw(published, BBO, {DAY: [PERP]})

    assert (True, 3) == (
        file.exists(),
        scan(published, BBO, DAY, [PERP], version=version).collect().height,
    )
    assert [] == vacuum(published, BBO, dry_run=True)
    assert [file] == vacuum(published, BBO, retention=timedelta(0), dry_run=True)
    assert file.exists()


def test_nothing_to_take_out(published: Warehouse):
    """Without a file of these partitions nothing is committed; a second time is one of those."""
    withdraw(published, BBO, {DAY: [PERP]})
    version = delta_table(published, BBO).version()

    assert 0 == withdraw(published, BBO, {DAY: [PERP], NEXT_DAY: ["OKX:BTC-USDT"]})
    assert version == delta_table(published, BBO).version()


def test_nothing_published(warehouse: Warehouse):
    """A table that was never published stays so."""
    assert 0 == withdraw(warehouse, BBO, {DAY: [PERP]})
    assert delta_table(warehouse, BBO) is None


def test_published_again(published: Warehouse):
    """A day that was taken out can be published again, with the same bytes."""
    (file,) = current_files(published, BBO, DAY, [PERP])
    withdraw(published, BBO, {DAY: [PERP]})
    publish(published, BBO, DAY, [stage(published, PERP, 1, rows=3)])
    assert [file] == current_files(published, BBO, DAY, [PERP])


def test_takes_turns_with_publishers(published: Warehouse):
    """It waits for the table's lock as a publisher does."""
    with holding(published, BBO.sql_name), pytest.raises(WarehouseBusyError):
        withdraw(replace(published, wait_seconds=0.1), BBO, {DAY: [PERP]})
    assert 4 == len(current_files(published, BBO))
