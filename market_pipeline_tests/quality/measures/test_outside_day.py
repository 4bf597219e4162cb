"""Rows received outside the UTC day: counted, located, and told which day they are of."""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.quality.intervals import day_bounds_ns
from market_pipeline.quality.measures.outside_day import OutsideDay
from market_pipeline.sources.crypto_lake import RawBatch

DAY = date(2024, 8, 8)
START_NS, END_NS = day_bounds_ns(DAY)
SECOND = 10**9
ONE, TWO = Path("1.parquet"), Path("2.parquet")


def batch(times: list[int], file: Path = ONE, first_row: int = 0, nulls=()) -> RawBatch:
    """Rows of a file; those at `nulls` have no receipt time."""
    absent = np.isin(np.arange(len(times)), list(nulls))
    return RawBatch(
        file=file,
        first_row=first_row,
        arrays={
            "receipt_timestamp": np.where(absent, 0, np.array(times, np.int64)),
            "sequence_number": np.arange(len(times)) + 100 + first_row,
        },
        nulls={"receipt_timestamp": absent} if absent.any() else {},
        names={"receipt_timestamp": "received_time"},
    )


def looked(*batches: RawBatch) -> OutsideDay:
    outside = OutsideDay(START_NS, END_NS, "sequence_number")
    for each in batches:
        outside.add(each)
    return outside


class TestCounts:
    def test_a_clean_day(self):
        """The first and the last nanosecond of the day are of it."""
        outside = looked(batch([START_NS, END_NS - 1]))

        assert {"receipts_outside_day": 0, "files_outside_day": []} == outside.figures()
        assert [] == outside.places

    def test_a_minute_past_midnight(self):
        """A few rows at either end are counted and located, and their file is not another day's."""
        times = [START_NS - 5, START_NS, START_NS + 1, END_NS - 1, END_NS, END_NS + 60 * SECOND]
        outside = looked(batch(times[:3]), batch(times[3:], first_row=3))

        assert {
            "receipts_outside_day": 3,
            "earliest_outside_ns": START_NS - 5,
            "latest_outside_ns": END_NS + 60 * SECOND,
            "outside_day": date(2024, 8, 9),
            "files_outside_day": [],
        } == outside.figures()
        assert [
            (ONE, 0, "received_time", START_NS - 5, 100),
            (ONE, 4, "received_time", END_NS, 104),
            (ONE, 5, "received_time", END_NS + 60 * SECOND, 105),
        ] == outside.places

    def test_a_file_of_another_day(self):
        """A file most of whose rows are outside is named, and the day that they are of."""
        other = [START_NS - 30 * 86_400 * SECOND + second for second in range(3)]
        outside = looked(batch([START_NS] * 5), batch([*other, START_NS], TWO))
        figures = outside.figures()

        assert (3, [TWO], date(2024, 7, 9)) == tuple(
            figures[name] for name in ("receipts_outside_day", "files_outside_day", "outside_day")
        )

    def test_a_null_is_of_no_day(self):
        """A row without a receipt time is told of as a null, and stands nowhere."""
        assert 0 == looked(batch([START_NS, 7], nulls=[1])).figures()["receipts_outside_day"]

    def test_any_stamp_has_a_day(self):
        """The least and the greatest 64-bit times are counted, whatever they mean."""
        outside = looked(batch([-(2**63), 2**63 - 1, 0]))

        assert 3 == outside.figures()["receipts_outside_day"]
        assert date(1677, 9, 21) == outside.figures()["outside_day"]

    @given(
        st.lists(st.integers(START_NS - 3 * 86_400 * SECOND, END_NS + 3 * 86_400 * SECOND)),
        st.lists(st.integers(0, 40), max_size=3),
    )
    def test_equals_counting_by_hand(self, times, cuts):
        """Wherever batches are cut, it is what a loop over the rows counts."""
        edges = [0, *sorted(min(cut, len(times)) for cut in cuts), len(times)]
        parts = [batch(times[begin:end], first_row=begin) for begin, end in pairwise(edges)]
        outside = looked(*parts)
        found = [row for row, time in enumerate(times) if not START_NS <= time < END_NS]

        assert len(found) == outside.figures()["receipts_outside_day"]
        assert found[:10] == [place.row for place in outside.places]
        if found:
            assert min(times[row] for row in found) == outside.figures()["earliest_outside_ns"]
            assert max(times[row] for row in found) == outside.figures()["latest_outside_ns"]
