from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date, timedelta

import dagster as dg
import pytest

from market_pipeline_tests.defs.runs import finished_run, run_under_way

DAY, NEXT_DAY = date(2024, 8, 8), date(2024, 8, 9)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance that is forgotten."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


class TestIsUnderWay:
    @pytest.mark.parametrize("status", ["NOT_STARTED", "STARTING", "STARTED", "CANCELING"])
    def test_not_ended(self, instance, status):
        """A run that has not ended is under way, for its own day only."""
        from market_pipeline.defs.ran import is_under_way

        run_under_way(instance, DAY, dg.DagsterRunStatus[status])

        assert [True, False] == [is_under_way(instance, day) for day in (DAY, NEXT_DAY)]

    def test_never_begun(self, instance, monkeypatch):
        """A run that was made and did not begin in time never will: whoever made it was killed."""
        from market_pipeline.defs import ran

        run_under_way(instance, DAY, dg.DagsterRunStatus.NOT_STARTED)
        run_under_way(instance, NEXT_DAY)
        monkeypatch.setattr(ran, "_BEGINS_WITHIN", timedelta())

        assert [False, True] == [ran.is_under_way(instance, day) for day in (DAY, NEXT_DAY)]

    def test_ended(self, instance):
        """Runs that succeeded or failed are not."""
        from market_pipeline.defs.ran import is_under_way

        finished_run(instance, DAY)
        finished_run(instance, DAY, fails=True)

        assert not is_under_way(instance, DAY)


class TestLastWholeRun:
    def last(self, instance, instruments) -> float | None:
        from market_pipeline.defs.ran import last_whole_run_s

        return last_whole_run_s(instance, DAY, instruments)

    def test_when_it_began(self, instance, instruments):
        """The newest run that succeeded tells when it began."""
        before_s = time.time()
        finished_run(instance, DAY)
        between_s = time.time()
        finished_run(instance, DAY)
        finished_run(instance, DAY, fails=True)
        finished_run(instance, NEXT_DAY)
        last_s = self.last(instance, instruments)

        assert last_s is not None
        assert before_s < between_s <= last_s <= time.time()

    def test_no_run(self, instance, instruments):
        """A day that only failed, and one that was never run, have none."""
        finished_run(instance, DAY, fails=True)
        run_under_way(instance, DAY)

        assert self.last(instance, instruments) is None

    @pytest.mark.parametrize(
        ("part", "is_whole"),
        [
            ({"instruments": ["BINANCE:BTC-USDT"]}, False),
            ({"instruments": ["BINANCE:BTC-USDT", "BINANCE:ETH-USDT"]}, True),
            ({"without": ["raw_trades"]}, False),
        ],
        ids=["one instrument", "each instrument", "not each table"],
    )
    def test_a_part(self, instance, instruments, part, is_whole):
        """A run of some instruments, or of some tables, says nothing of the whole day."""
        finished_run(instance, DAY, **part)

        assert is_whole is (self.last(instance, instruments) is not None)


class TestLastRunWasWhole:
    def was_whole(self, instance, *ids: str) -> bool:
        from market_pipeline.defs.ran import last_run_was_whole

        return last_run_was_whole(instance, DAY, ids)

    def test_it_succeeded(self, instance, instruments):
        """The last run of the day decides, and runs of other days do not."""
        ids = [each.id for each in instruments]
        assert not self.was_whole(instance, *ids)
        finished_run(instance, DAY)
        run_under_way(instance, NEXT_DAY)
        assert self.was_whole(instance, *ids)

    @pytest.mark.parametrize("status", ["STARTED", "CANCELING", "FAILURE", "CANCELED"])
    def test_it_did_not(self, instance, instruments, status):
        """One that was killed, stopped or failed is not made good by one before it."""
        finished_run(instance, DAY)
        run_under_way(instance, DAY, dg.DagsterRunStatus[status])

        assert not self.was_whole(instance, *(each.id for each in instruments))
