from __future__ import annotations

from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.stages.validation.snapshot_match import measure_snapshot_match
from market_pipeline_tests.detection.real_faults import copied, lost_messages
from market_pipeline_tests.detection.validating import Validated, validate
from market_pipeline_tests.quality.factory import a_record
from market_pipeline_tests.quality.sample import SAMPLE_DAYS


def validated(sample: Path, folder: Path, *key: object, spoil=lambda day: None) -> Validated:
    """A copy of a real day, spoilt or not, with its verdict."""
    exchange, symbol, day = key
    spoil(copied(sample, folder / "lake", exchange, symbol, str(day)))
    of = Instrument(venue=exchange, symbol=symbol, source="crypto_lake")
    return validate(folder / "lake", folder / "data", [of], day)[symbol]


@pytest.mark.slow
@pytest.mark.parametrize("key", SAMPLE_DAYS[::3], ids=str)
def test_a_real_day_agrees_with_every_snapshot(sample_data: Path, folder: Path, key):
    """Every level of every later snapshot is right, and every comparison is in some hour."""
    said = validated(sample_data, folder, *key)
    row = said.row

    assert said.outcomes["snapshot_match"].passed
    assert [] == said.places("snapshot_match")
    assert (0, 1.0, 0.0, 0.0, 0.0, None) == (
        row.snapshots_mismatched,
        row.snapshot_matching_share,
        row.ghost_share,
        row.missing_share,
        row.snapshot_size_error,
        row.first_mismatch_ns,
    )
    assert 1_000 < row.snapshots_compared == sum(row.snapshots_compared_per_hour)
    assert 0 == sum(row.snapshots_mismatched_per_hour) + sum(row.snapshot_levels_differing_per_hour)


@pytest.mark.slow
@pytest.mark.parametrize("key", SAMPLE_DAYS[::3], ids=str)
def test_one_message_in_a_hundred_lost(sample_data: Path, folder: Path, key):
    """It is an error, located at the first failed and at the worst comparison."""
    said = validated(sample_data, folder, *key, spoil=lost_messages)
    row = said.row
    places = [each for each in said.places("snapshot_match") if each.place != "further"]

    assert "ERROR" == said.failed["snapshot_match"]
    assert places[0].place == "first" and {"worst"} >= {each.place for each in places[1:]}
    assert len(places) == len({(each.ts_receipt_ns, each.sequence_number) for each in places})
    assert row.first_mismatch_ns == places[0].ts_receipt_ns
    assert any(place.value != place.expected for place in places)
    assert row.snapshots_mismatched == sum(row.snapshots_mismatched_per_hour) > 0
    assert sum(row.snapshot_levels_differing_per_hour) > row.snapshots_mismatched
    assert row.snapshots_mismatched_per_hour == tuple(
        map(int, said.outcomes["snapshot_match"].per_hour)
    )


def test_a_day_without_a_later_snapshot(sample_data: Path, folder: Path):
    """One snapshot only seeds: there is no comparison, and the check says for how long that tells.

    The market leaves what the snapshot knew of.
    """

    def keep_first(day):
        day.write("book", day.read("book").head(1))

    said = validated(
        sample_data, folder, "BINANCE_FUTURES", "ETH-USDT-PERP", date(2024, 7, 18), spoil=keep_first
    )

    assert ("WARN", False) == (
        said.outcomes["snapshot_match"].severity,
        said.outcomes["snapshot_match"].degrades,
    )
    assert (
        "beyond the levels that any snapshot confirmed" in said.outcomes["snapshot_match"].summary
    )
    assert (0.0, 0, None) == (
        said.row.verified_seconds,
        said.row.snapshots_uncompared,
        said.row.uncompared_share,
    )
    assert said.row.unverified_seconds == said.row.valid_seconds
    assert (0, None, None, None) == (
        said.row.snapshots_compared,
        said.row.snapshots_mismatched,
        said.row.missing_share,
        said.row.snapshots_compared_per_hour,
    )


class TestPlaces:
    """The first mismatch and the worst, as the record of a rebuild has them."""

    def places(self, **worst: object):
        first = {
            "ns": 5,
            "sequence_number": 7,
            "ours": "1 at 100",
            "theirs": "1 at 101",
            "levels_differing": 2,
        }
        record = {
            "snapshots_compared": 9,
            "snapshots_mismatched": 2,
            "snapshot_levels": 40,
            "snapshot_levels_matching": 38,
            "snapshot_levels_ours": 40,
            "snapshot_levels_ghost": 1,
            "snapshot_levels_missing": 1,
            "snapshot_size_error": 0.1,
            "max_mid_deviation_ticks": 3.0,
            **dict.fromkeys(
                (
                    "snapshots_compared_per_hour",
                    "snapshots_mismatched_per_hour",
                    "snapshot_levels_differing_per_hour",
                ),
                [0] * 24,
            ),
            **{f"first_mismatch_{name}": value for name, value in first.items()},
            **{f"worst_mismatch_{name}": value for name, value in (first | worst).items()},
        }
        return measure_snapshot_match(SimpleNamespace(record=a_record(**record))).findings

    def test_one_snapshot_is_one_place(self):
        """The first mismatch that is the worst too is told once, and that it is both."""
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
