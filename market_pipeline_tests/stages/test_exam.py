from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from market_pipeline.instruments import Instrument
from market_pipeline_tests.detection.judging import Judged, judge
from market_pipeline_tests.detection.real_faults import copied, lost_messages
from market_pipeline_tests.quality.sample import SAMPLE_DAYS


def judged(sample: Path, folder: Path, *key: object, spoil=lambda day: None) -> Judged:
    """A copy of a real day, spoilt or not, with its verdict."""
    exchange, symbol, day = key
    spoil(copied(sample, folder / "lake", exchange, symbol, str(day)))
    of = Instrument(venue=exchange, symbol=symbol, source="crypto_lake")
    return judge(folder / "lake", folder / "data", [of], day)[symbol]


@pytest.mark.parametrize("key", SAMPLE_DAYS[::3], ids=str)
def test_a_real_day_passes_every_exam(sample_data: Path, folder: Path, key):
    """Every level of every later snapshot is right, and every exam is in some hour."""
    said = judged(sample_data, folder, *key)
    row = said.row

    assert said.outcomes["exam"].passed
    assert [] == said.places("exam")
    assert (0, 1.0, 0.0, 0.0, 0.0, None) == (
        row.exams_failed,
        row.exam_matching_share,
        row.ghost_share,
        row.missing_share,
        row.exam_size_error,
        row.first_failed_exam_ns,
    )
    assert 1_000 < row.exam_snapshots == sum(row.exams_per_hour)
    assert 0 == sum(row.exams_failed_per_hour) + sum(row.exam_levels_differing_per_hour)


@pytest.mark.parametrize("key", SAMPLE_DAYS[::3], ids=str)
def test_one_message_in_a_hundred_lost(sample_data: Path, folder: Path, key):
    """It is an error, located at the first failed and at the worst exam."""
    said = judged(sample_data, folder, *key, spoil=lost_messages)
    row, places = said.row, said.places("exam")

    assert "ERROR" == said.failed["exam"]
    assert ["first", "worst"] == [place.place for place in places]
    assert row.first_failed_exam_ns == places[0].ts_receipt_ns
    assert all(place.value != place.expected for place in places)
    assert row.exams_failed == sum(row.exams_failed_per_hour) > 0
    assert sum(row.exam_levels_differing_per_hour) > row.exams_failed
    assert row.exams_failed_per_hour == tuple(map(int, said.outcomes["exam"].per_hour))


def test_a_day_without_a_later_snapshot(sample_data: Path, folder: Path):
    """One snapshot only seeds: there is no exam, no figure, and nothing to check."""

    def keep_first(day):
        day.write("book", day.read("book").head(1))

    said = judged(
        sample_data, folder, "BINANCE_FUTURES", "ETH-USDT-PERP", date(2024, 7, 18), spoil=keep_first
    )

    assert "exam" not in said.outcomes
    assert (0, None, None, None) == (
        said.row.exam_snapshots,
        said.row.exams_failed,
        said.row.missing_share,
        said.row.exams_per_hour,
    )
