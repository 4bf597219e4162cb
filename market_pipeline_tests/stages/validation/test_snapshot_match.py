from __future__ import annotations

from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.stages.validation.snapshot_match import measure_exam
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
    row = said.row
    places = [each for each in said.places("exam") if each.place != "further"]

    assert "ERROR" == said.failed["exam"]
    assert places[0].place == "first" and {"worst"} >= {each.place for each in places[1:]}
    assert len(places) == len({(each.ts_receipt_ns, each.sequence_number) for each in places})
    assert row.first_failed_exam_ns == places[0].ts_receipt_ns
    assert any(place.value != place.expected for place in places)
    assert row.exams_failed == sum(row.exams_failed_per_hour) > 0
    assert sum(row.exam_levels_differing_per_hour) > row.exams_failed
    assert row.exams_failed_per_hour == tuple(map(int, said.outcomes["exam"].per_hour))


def test_a_day_without_a_later_snapshot(sample_data: Path, folder: Path):
    """One snapshot only seeds: there is no exam, and the check says for how long that tells.

    The market leaves what the snapshot knew of.
    """

    def keep_first(day):
        day.write("book", day.read("book").head(1))

    said = judged(
        sample_data, folder, "BINANCE_FUTURES", "ETH-USDT-PERP", date(2024, 7, 18), spoil=keep_first
    )

    assert ("WARN", False) == (said.outcomes["exam"].severity, said.outcomes["exam"].degrades)
    assert "beyond the levels that any snapshot confirmed" in said.outcomes["exam"].summary
    assert (0.0, 0, None) == (
        said.row.verified_seconds,
        said.row.snapshots_uncompared,
        said.row.uncompared_share,
    )
    assert said.row.unverified_seconds == said.row.valid_seconds
    assert (0, None, None, None) == (
        said.row.exam_snapshots,
        said.row.exams_failed,
        said.row.missing_share,
        said.row.exams_per_hour,
    )


class TestPlaces:
    """The first failed exam and the worst, as the record of a rebuild has them."""

    def places(self, **worst: object):
        first = {
            "ns": 5,
            "sequence_number": 7,
            "ours": "1 at 100",
            "theirs": "1 at 101",
            "levels_differing": 2,
        }
        record = {
            "exams": 9,
            "exams_failed": 2,
            "exam_levels": 40,
            "exam_levels_missing": 1,
            "exam_size_error": 0.1,
            "max_mid_deviation_ticks": 3.0,
            **dict.fromkeys(
                ("exams_per_hour", "exams_failed_per_hour", "exam_levels_differing_per_hour"),
                [0] * 24,
            ),
            **{f"exam_first_failed_{name}": value for name, value in first.items()},
            **{f"exam_worst_{name}": value for name, value in (first | worst).items()},
        }
        return measure_exam(SimpleNamespace(record=record)).findings

    def test_one_snapshot_is_one_place(self):
        """The first failed exam that is the worst too is told once, and that it is both."""
        (place,) = self.places()

        assert ("first", 5, 7) == (place.place, place.ts_receipt_ns, place.sequence_number)
        assert "it is the farthest from the book too: the mid differs by 3 ticks" in place.note

    def test_two_snapshots_are_two_places(self):
        """Snapshots of other times, or with another touch, are not the same."""
        first, worst = self.places(ns=6)

        assert [("first", 5), ("worst", 6)] == [
            (each.place, each.ts_receipt_ns) for each in (first, worst)
        ]
        assert "; 2 levels differ of those both know." in first.note

    def test_the_worst_need_not_have_failed(self):
        """Levels may differ where the touch does not."""
        places = self.places()
        assert 1 == len(places)
        record_of_worst = self.places(ns=None)

        assert ["first"] == [each.place for each in record_of_worst]
