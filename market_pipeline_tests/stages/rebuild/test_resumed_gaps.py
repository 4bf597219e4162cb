from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_pipeline.books import lookback
from market_pipeline.books import rebuild as driver
from market_pipeline.stages.rebuild import from_deltas as stage
from market_pipeline_tests.stages.days import (
    BTC,
    FIRST_SEQUENCE,
    delta_rows,
    raw_day,
    rebuild_instrument,
    settings,
    write_day,
)
from market_pipeline_tests.stages.rebuild.test_resume import hashes, killed_after, uninterrupted

# A keyframe comes every 120 messages, so the first part ends with message 599.
SILENCES = {"where a part ends": (600, 700), "in a part": (650, 750), "twice": (300, 900)}
LENGTH = 30


def rows_without(*silences: int) -> pa.Table:
    """The small day without a quarter of an hour of messages from some of them on."""
    rows = delta_rows()
    number = pc.subtract(rows["sequence_number"], FIRST_SEQUENCE)
    for first in silences:
        inside = pc.and_(
            pc.greater_equal(number, first), pc.less(number, pa.scalar(first + LENGTH))
        )
        rows, number = rows.filter(pc.invert(inside)), number.filter(pc.invert(inside))
    return rows


@pytest.mark.parametrize("silences", SILENCES.values(), ids=SILENCES)
@pytest.mark.parametrize("saves", [1, 2])
def test_are_found_by_a_run_that_goes_on(lake, folder, warehouse, monkeypatch, silences, saves):
    """Gaps before, at and behind the place where a killed run is gone on from are the same.

    So is what is told of them, whether the silence was seen by the one run or by the other.
    """
    monkeypatch.setattr(stage, "_PART_ROWS", 1_000)
    monkeypatch.setattr(driver, "_KEYFRAMES", 1)
    # Fewer rows than a part has are held back, so that each part leaves some behind.
    monkeypatch.setattr(lookback, "MOST_MESSAGES", 32)
    monkeypatch.setattr(lookback, "HISTORY_MESSAGES", 16)
    write_day(lake, BTC, deltas=rows_without(*silences))
    raw = raw_day(lake, BTC)
    expected, expected_record = uninterrupted(raw, folder)
    killed_after(saves, raw, folder, warehouse)
    files, record = rebuild_instrument(
        raw, BTC, settings(folder, checkpoint_seconds=3_600), warehouse
    )
    intervals = pl.read_parquet(
        [file.path for file in files["books.intervals"]], hive_partitioning=False
    ).filter(pl.col("cause") == "GAP")

    assert len(expected["books.bbo"]) > 2
    assert hashes(files) == hashes(expected)
    assert record == expected_record
    assert record["gaps"] == len(silences)
    # Nothing confirms the book after the first one, so both are one interval.
    assert "No message came for 930.000 s" in intervals["evidence"].item()
    assert "and 30 trades meanwhile" in intervals["evidence"].item()
