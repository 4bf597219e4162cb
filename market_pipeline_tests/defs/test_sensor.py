from __future__ import annotations

import os
import time
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from pathlib import Path

import dagster as dg
import pytest

from market_pipeline.instruments import Instrument
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable, day_folder

LONG_AGO = time.time() - 3_600
DAY, NEXT_DAY = date(2024, 8, 8), date(2024, 8, 9)
BEFORE = date(2024, 9, 1)


@pytest.fixture
def lake(folder: Path) -> Path:
    """An empty lake."""
    (folder / "lake").mkdir()
    return folder / "lake"


def land(
    lake: Path,
    day: date = DAY,
    table: RawTable = DELTAS,
    symbol: str = "BTC-USDT",
    name: str = "1.snappy.parquet",
    content: bytes = b"PAR1",
    changed: float = LONG_AGO,
) -> Path:
    """Puts a raw file into the lake, last changed at a Unix time."""
    path = day_folder(lake, table, "BINANCE", symbol, day) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (changed, changed))
    return path


class TestLandedDays:
    @pytest.fixture
    def landed(self, lake: Path, instruments):
        """Looks at the lake now."""
        from market_pipeline.defs.sensors import landed_days

        return lambda: landed_days(lake, instruments, date(2024, 7, 1), BEFORE)

    def test_empty_lake(self, landed):
        """A lake without a day, or none at all, has landed nothing."""
        assert {} == landed()

    def test_same_files_same_fingerprint(self, lake: Path, landed):
        """Two looks at the same files tell the same; days are in order and on their own."""
        land(lake, NEXT_DAY)
        land(lake, DAY)
        first = landed()

        assert [DAY, NEXT_DAY] == list(first)
        assert first == landed()
        assert first[DAY][0] != first[NEXT_DAY][0]
        assert LONG_AGO == pytest.approx(first[DAY][1], abs=0.001)

    @pytest.mark.parametrize(
        "change",
        [
            {"name": "2.snappy.parquet"},
            {"content": b"PAR1 and more"},
            {"content": b"2RAP", "changed": LONG_AGO + 60},
            {"table": SNAPSHOTS},
            {"table": TRADES},
            {"symbol": "ETH-USDT"},
        ],
        ids=["a shard more", "another size", "another time", "snapshots", "trades", "instrument"],
    )
    def test_a_change_is_another_fingerprint(self, lake: Path, landed, change):
        """A shard more, one replaced, another table or another instrument changes the day."""
        land(lake)
        before = landed()
        land(lake, **change)
        after = landed()

        assert [DAY] == list(after)
        assert before[DAY][0] != after[DAY][0]

    def test_a_removed_file_is_another_fingerprint(self, lake: Path, landed):
        """A file that the vendor took back changes the day."""
        land(lake)
        gone = land(lake, table=TRADES)
        before = landed()
        gone.unlink()

        assert before[DAY][0] != landed()[DAY][0]

    def test_the_latest_change_counts(self, lake: Path, landed):
        """The time is that of the file that changed last."""
        land(lake, changed=LONG_AGO + 100)
        land(lake, table=TRADES, changed=LONG_AGO)

        assert LONG_AGO + 100 == pytest.approx(landed()[DAY][1], abs=0.001)

    @pytest.mark.parametrize(
        "place",
        [
            {"day": date(2024, 6, 30)},
            {"day": BEFORE},
            {"symbol": "DOGE-USDT"},
            {"name": "1.snappy.parquet.partial"},
            {"table": RawTable("funding", {})},
        ],
        ids=["before the start", "not over yet", "not configured", "under way", "other table"],
    )
    def test_ignored(self, lake: Path, landed, place):
        """Days outside the range, other instruments, other tables and unfinished files are none."""
        land(lake, **place)

        assert {} == landed()

    def test_folders_that_are_no_days(self, lake: Path, landed):
        """A folder whose name is no day does not stop the look at the others."""
        land(lake)
        beside = day_folder(lake, DELTAS, "BINANCE", "BTC-USDT", DAY).parent
        for name in ("dt=latest", "dt=2024-13-01", "dt=", "tmp"):
            (beside / name).mkdir()
            (beside / name / "1.snappy.parquet").touch()
        (beside / "dt=2024-08-10").mkdir()

        assert [DAY] == list(landed())


class TestSensor:
    @pytest.fixture
    def tick(self, lake: Path, instruments: tuple[Instrument, ...]):
        """Evaluates the sensor as Dagster would, from the cursor of the tick before."""
        from market_pipeline.defs.resources import Pipeline
        from market_pipeline.defs.sensors import NEW_DAYS

        cursor: list[str | None] = [None]

        def evaluate(keep_cursor: bool = True) -> list[tuple[str, str]]:
            with dg.build_sensor_context(
                cursor=cursor[0], resources={"pipeline": Pipeline()}
            ) as context:
                result = NEW_DAYS(context)
            if keep_cursor:
                cursor[0] = result.cursor
            assert bool(result.run_requests) != bool(result.skip_reason)
            return [(each.partition_key, each.run_key) for each in result.run_requests]

        return evaluate

    def test_nothing_landed(self, tick):
        """An empty lake requests nothing and says why."""
        assert [] == tick()

    def test_a_new_day_once(self, lake: Path, tick):
        """A settled day is requested once, whatever number of ticks follow."""
        land(lake)

        assert ["2024-08-08"] == [day for day, _ in tick()]
        assert [[], []] == [tick(), tick()]

    def test_a_changed_day_again(self, lake: Path, tick):
        """A day whose file was replaced is requested again, once, with another key."""
        land(lake)
        land(lake, NEXT_DAY)
        ((_, first), (_, _)) = tick()
        land(lake, content=b"PAR1 corrected")
        ((day, second),) = tick()

        assert ("2024-08-08", True) == (day, first != second)
        assert [] == tick()

    def test_a_lost_cursor_repeats_the_key(self, lake: Path, tick):
        """Without its cursor the sensor asks with the same key, which Dagster runs only once."""
        land(lake)

        assert tick(keep_cursor=False) == tick()

    def test_unsettled_files_wait(self, lake: Path, tick):
        """A day one of whose files changed within the last minute waits, and comes later."""
        land(lake)
        path = land(lake, table=TRADES, changed=time.time() - 5)
        early = tick()
        os.utime(path, (LONG_AGO, LONG_AGO))

        assert ([], ["2024-08-08"]) == (early, [day for day, _ in tick()])

    def test_many_days_in_turns(self, lake: Path, tick):
        """A lake full of days is requested ten days a tick, each once, the oldest first."""
        days = [DAY + timedelta(days=n) for n in range(23)]
        for day in days:
            land(lake, day)
        asked = [[day for day, _ in tick()] for _ in range(4)]

        assert [10, 10, 3, 0] == [len(part) for part in asked]
        assert [str(day) for day in days] == [*chain(*asked)]

    def test_today_waits_for_its_end(self, lake: Path, tick):
        """The day under way is not requested: its partition does not exist yet."""
        land(lake, datetime.now(UTC).date())

        assert [] == tick()


class TestSchedule:
    def test_yesterday(self, folder: Path):
        """The daily tick at 03:30 UTC requests the partition of the day before."""
        from market_pipeline.definitions import defs

        schedule = defs.get_repository_def().get_schedule_def("yesterday")
        with dg.build_schedule_context(
            scheduled_execution_time=datetime(2024, 8, 9, 3, 30, tzinfo=UTC)
        ) as context:
            ticked = schedule.evaluate_tick(context)

        assert ["2024-08-08"] == [each.partition_key for each in ticked.run_requests]
