from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable, day_folder
from market_pipeline.stages.raw.objects import RegisteredDay
from market_pipeline.stages.rebuild.day import RebuiltDay, rebuild_day
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.sources.raw_files import shard
from market_pipeline_tests.stages import days
from market_pipeline_tests.stages.days import register, settings, with_profiles

REAL_DAY = date(2024, 8, 8)
INSTRUMENTS = tuple(
    Instrument(venue=venue, symbol=symbol, source="crypto_lake")
    for venue, symbol in (("BINANCE", "BTC-USDT"), ("BINANCE_FUTURES", "BTC-USDT-PERP"))
)


@pytest.fixture(autouse=True)
def real_day(monkeypatch: pytest.MonkeyPatch):
    """The helpers register the real day."""
    monkeypatch.setattr(days, "DAY", REAL_DAY)


def rebuilt(lake: Path, root: Path, threads: int) -> RebuiltDay:
    """Both instruments' day, rebuilt in a warehouse of its own."""
    warehouse = Warehouse(root)
    warehouse.prepare()
    objects = [register(lake, raw, *INSTRUMENTS) for raw in (DELTAS, SNAPSHOTS, TRADES)]
    given = settings(root, threads=threads, checkpoint_seconds=60)
    raw = with_profiles(RegisteredDay(REAL_DAY, lake, *objects), *INSTRUMENTS)
    return rebuild_day(raw, INSTRUMENTS, given, warehouse)


def hashes(day: RebuiltDay) -> dict[str, list[tuple[str, int, str]]]:
    return {
        table: [(file.instrument, file.part, file.sha256) for file in files]
        for table, files in day.staged.items()
    }


def recut(lake: Path, table: RawTable, to: Path, shards: int, row_group_rows: int) -> None:
    """Writes the raw day of both instruments again with other shards and row groups."""
    for of in INSTRUMENTS:
        place = (of.venue, of.symbol, REAL_DAY)
        (file,) = day_folder(lake, table, *place).glob("*.parquet")
        rows = pq.read_table(file, partitioning=None)
        size = -(-rows.num_rows // shards)
        for number in range(shards):
            part = rows.slice(number * size, size)
            folder = day_folder(to, table, *place)
            shard(folder, number + 1, part, row_group_size=row_group_rows)


def test_threads_and_repetition_leave_no_trace(sample_data: Path, folder: Path):
    """Two real days rebuilt by one thread and by four, twice each, are the same bytes."""
    found = [
        rebuilt(sample_data / "lake", folder / f"{run}-{threads}", threads)
        for threads in (1, 4)
        for run in (1, 2)
    ]

    assert [len(files) for files in hashes(found[0]).values()] == [2, 2, 2, 2]
    assert [hashes(day) for day in found[1:]] == [hashes(found[0])] * 3
    assert [day.records for day in found[1:]] == [found[0].records] * 3


def test_how_the_raw_files_are_cut_leaves_no_trace(sample_data: Path, folder: Path):
    """The same rows in other shards and row groups give the same bytes, figures and places."""
    recut(sample_data / "lake", DELTAS, folder / "recut", shards=3, row_group_rows=7_001)
    recut(sample_data / "lake", SNAPSHOTS, folder / "recut", shards=2, row_group_rows=333)
    recut(sample_data / "lake", TRADES, folder / "recut", shards=1, row_group_rows=1_000)
    one = rebuilt(sample_data / "lake", folder / "one", 2)
    other = rebuilt(folder / "recut", folder / "other", 2)
    figures = [
        pl.from_dicts([each.as_record() for each in day.records], infer_schema_length=None).drop(
            "input_sha256", "bytes_in_flight", "^.*_loss_(files|rows)$"
        )
        for day in (one, other)
    ]

    assert hashes(other) == hashes(one)
    assert figures[0].equals(figures[1])
    assert figures[0]["rows"].min() > 100_000
