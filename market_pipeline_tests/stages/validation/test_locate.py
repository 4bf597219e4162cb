"""The raw file and row of a finding, against a plain search through all rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.quality.findings import Finding
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, day_folder
from market_pipeline.stages.validation import locate
from market_pipeline.stages.validation.context import InstrumentDay
from market_pipeline.stages.validation.locate import with_places
from market_pipeline.stages.validation.lookups import Lookups
from market_pipeline_tests.quality.factory import a_record
from market_pipeline_tests.sources.raw_files import CLIENT_SPELLING, deltas, shard, snapshots
from market_pipeline_tests.stages.days import BTC, DAY, raw_day

RECEIPT_NS = 1_723_075_200_000_000_007


def a_finding(number, check="gap", **changes):
    """A finding that names a message."""
    finding = Finding(
        check=check, place="first", note="A note.", ts_receipt_ns=1, sequence_number=number
    )
    return replace(finding, **changes)


def folder_of(lake, table=DELTAS):
    """Where the shards of a table lie."""
    return day_folder(lake, table, BTC.venue, BTC.symbol, DAY)


def located(lake, *findings):
    """(file name without its ending, row) of each finding."""
    day = InstrumentDay(BTC, Lookups(raw_day(lake, BTC), None), a_record(), None, None)
    placed = with_places(list(findings), day)
    assert [replace(each, file=None, row=None) for each in findings] == [
        replace(each, file=None, row=None) for each in placed
    ]
    return [(each.file and Path(each.file).name.split(".")[0], each.row) for each in placed]


def rename(rows):
    """The rows in the spelling of the vendor's client."""
    return rows.rename_columns([CLIENT_SPELLING.get(name, name) for name in rows.column_names])


class TestMessages:
    @pytest.mark.parametrize("spell", [lambda rows: rows, rename], ids=["vendor", "client"])
    def test_the_first_row_of_the_message_is_named(self, lake, spell):
        """In whatever shard and row group it stands, in both spellings; the path is of the lake."""
        shard(folder_of(lake), 1, spell(deltas(6)), row_group_size=2)
        shard(folder_of(lake), 2, spell(deltas(8, first=6)), row_group_size=2)
        day = InstrumentDay(BTC, Lookups(raw_day(lake, BTC), None), a_record(), None, None)
        (placed,) = with_places([a_finding(504)], day)

        assert (folder_of(Path(), DELTAS) / "2.snappy.parquet").as_posix() == placed.file
        assert [("1", 0), ("1", 4), ("2", 2), ("2", 6)] == located(
            lake, *(a_finding(number) for number in (500, 502, 504, 506))
        )

    def test_a_number_that_no_row_has_stays_without_a_place(self, lake):
        """Such as that of a message of the day before."""
        shard(folder_of(lake), 1, deltas(6))

        assert [(None, None), ("1", 2)] == located(lake, a_finding(77), a_finding(501))

    def test_what_has_a_place_or_no_message_is_left_as_it_is(self, lake):
        """No file is opened for it."""
        known = a_finding(500, file="known/9.snappy.parquet", row=5)
        timeless = a_finding(500, ts_receipt_ns=None)

        assert [("9", 5), (None, None), (None, None)] == located(
            lake, known, timeless, a_finding(None, check="bars", end_ns=7)
        )

    def test_of_equal_numbers_that_of_its_time_is_taken(self, lake):
        """A feed whose numbers came twice; without its time the first one is named."""
        number = np.array([500, 500, 501, 500, 500, 502])
        times = RECEIPT_NS + np.array([0, 0, 5, 9, 9, 12])
        shard(folder_of(lake), 1, deltas(6, sequence_number=number, receipt_timestamp=times))

        assert [("1", 0), ("1", 3), ("1", 0)] == located(
            lake,
            a_finding(500, ts_receipt_ns=RECEIPT_NS),
            a_finding(500, ts_receipt_ns=RECEIPT_NS + 9),
            a_finding(500, ts_receipt_ns=RECEIPT_NS + 10),
        )


def test_a_comparison_is_about_a_snapshot(lake):
    """So is the day boundary; both tables may be asked for at once."""
    shard(folder_of(lake), 1, deltas(6))
    shard(folder_of(lake, SNAPSHOTS), 1, snapshots(4))
    day = InstrumentDay(BTC, Lookups(raw_day(lake, BTC), None), a_record(), None, None)
    placed = with_places(
        [a_finding(502), a_finding(502, "snapshot_match"), a_finding(503, "day_boundary")], day
    )

    assert [("book_delta_v2", 4), ("book", 2), ("book", 3)] == [
        (each.file.split("/")[0], each.row) for each in placed
    ]


def test_a_day_of_snapshots_has_its_messages_there(lake):
    """No delta file is opened, because none can be read."""
    folder_of(lake).mkdir(parents=True)
    (folder_of(lake) / "1.snappy.parquet").write_bytes(b"no Parquet at all")
    shard(folder_of(lake, SNAPSHOTS), 1, snapshots(4))
    record = a_record(strategy="snapshots_only")
    day = InstrumentDay(BTC, Lookups(raw_day(lake, BTC), None), record, None, None)
    (placed,) = with_places([a_finding(502)], day)

    assert ("book", 2) == (placed.file.split("/")[0], placed.row)


@settings(max_examples=30, deadline=None)
@given(
    numbers=st.lists(st.integers(490, 520), min_size=2, max_size=40),
    wanted=st.lists(st.integers(488, 522), min_size=1, max_size=6),
    group=st.integers(1, 9),
    statistics=st.booleans(),
    batch=st.integers(1, 7),
)
def test_agrees_with_a_plain_search(tmp_path_factory, numbers, wanted, group, statistics, batch):
    """However rows are grouped and read, with statistics or without, in any order of numbers."""
    lake = tmp_path_factory.mktemp("lake")
    half = len(numbers) // 2
    for part, values in enumerate((numbers[:half], numbers[half:]), start=1):
        rows = deltas(len(values), sequence_number=np.array(values, np.int64))
        shard(folder_of(lake), part, rows, row_group_size=group, write_statistics=statistics)
    stand = [(number, ("1", row)) for row, number in enumerate(numbers[:half])]
    stand += [(number, ("2", row)) for row, number in enumerate(numbers[half:])]
    expected = [
        next((place for number, place in stand if number == each), (None, None)) for each in wanted
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locate, "_BATCH_ROWS", batch)

        assert expected == located(lake, *(a_finding(number) for number in wanted))
