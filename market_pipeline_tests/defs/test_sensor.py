from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import load_settings
from market_pipeline.quality.row import VALIDATION_REPORT
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable, day_folder
from market_pipeline.stages.raw.register import register_day
from market_pipeline.tables import refresh_catalogue, with_catalogue
from market_pipeline.warehouse.manifest import RAW_BOOK_DELTAS
from market_pipeline.warehouse.working import replace_rows
from market_pipeline_tests.catalogues import drawn_working
from market_pipeline_tests.defs.runs import finished_run, run_under_way
from market_pipeline_tests.store.servers import MotoServer, no_credentials

LONG_AGO = time.time() - 3_600
DAY, NEXT_DAY = date(2024, 8, 8), date(2024, 8, 9)


@pytest.fixture
def lake(folder: Path) -> Path:
    """An empty lake, and a working database without rows."""
    drawn_working(folder / "data")
    (folder / "lake").mkdir()
    return folder / "lake"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance that is forgotten."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


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


@pytest.fixture
def tick(instance: dg.DagsterInstance, instruments: tuple[Instrument, ...]):
    """Evaluates the sensor as Dagster would, from the cursor of the tick before."""
    from market_pipeline.defs.resources import Pipeline
    from market_pipeline.defs.sensors import new_lake_days

    cursor: list[str | None] = [None]

    def evaluate(keep_cursor: bool = True) -> list[tuple[str, str]]:
        with dg.build_sensor_context(
            instance=instance, cursor=cursor[0], resources={"pipeline": Pipeline()}
        ) as context:
            result = new_lake_days(context)
        if keep_cursor:
            cursor[0] = result.cursor
        assert bool(result.run_requests) != bool(result.skip_reason)
        return [(each.partition_key, each.run_key) for each in result.run_requests]

    return evaluate


class TestSensor:
    def test_nothing_arrived(self, lake, tick):
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
    def test_what_is_a_change(self, lake: Path, tick, change):
        """A shard more, one replaced, another table or instrument requests the day again."""
        land(lake)
        ((_, first),) = tick()
        land(lake, **change)
        ((day, second),) = tick()

        assert ("2024-08-08", True) == (day, first != second)

    @pytest.mark.parametrize(
        "place",
        [
            {"day": date(2024, 6, 30)},
            {"symbol": "DOGE-USDT"},
            {"name": "1.snappy.parquet.partial"},
            {"table": RawTable("funding", {})},
        ],
        ids=["before the start", "not configured", "under way", "other table"],
    )
    def test_ignored(self, lake: Path, tick, place):
        """Days before the start, other instruments, other tables and unfinished files are none."""
        land(lake, **place)

        assert [] == tick()

    def test_a_day_that_others_ran(self, folder, lake, tick, instance, instruments):
        """A day that was run as it is now is not requested; with a file more it is."""
        land(lake)
        bitcoin, _ = instruments
        rows = register_day(lake, DELTAS, bitcoin, DAY)
        warehouse = with_catalogue(folder / "data")
        frame = RAW_BOOK_DELTAS.frame(rows)
        replace_rows(warehouse, RAW_BOOK_DELTAS, DAY, [bitcoin.id], frame)
        refresh_catalogue(warehouse)
        finished_run(instance, DAY)
        early = tick()
        land(lake, table=TRADES)

        assert ([], ["2024-08-08"]) == (early, [day for day, _ in tick()])

    def test_a_run_under_way(self, lake: Path, tick, instance):
        """A day that is being run is not requested at the same time, but when that run failed."""
        land(lake)
        run_under_way(instance, DAY)
        early = tick()
        (run,) = instance.get_runs()
        instance.report_run_failed(run)

        assert ([], ["2024-08-08"]) == (early, [day for day, _ in tick()])


TODAY = datetime.now(UTC).date() + timedelta(days=2)
YESTERDAY = TODAY - timedelta(days=1)
"""Seen from a later day, whenever the tests run: what is stored now has settled by then."""


class TestStore:
    @pytest.fixture
    def put(
        self,
        moto_server: MotoServer,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        request: pytest.FixtureRequest,
    ) -> Callable[..., None]:
        """Stores an object of a day; the settings name the store."""
        no_credentials(monkeypatch, folder)
        bucket = request.node.name.replace("_", "-").replace("[", "-").strip("]")
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("PIPELINE_LAKE_URI", f"s3://{bucket}/lake"),
            ("PIPELINE_LAKE_ENDPOINT_URL", moto_server.endpoint_url),
            ("PIPELINE_LAKE_REGION", "us-east-1"),
        ):
            monkeypatch.setenv(name, value)
        client: Any = moto_server.client()
        client.create_bucket(Bucket=bucket)

        def put(day: date, content: bytes = b"PAR1", table: RawTable = DELTAS) -> None:
            folder = day_folder(Path("lake"), table, "BINANCE", "BTC-USDT", day)
            key = f"{folder.as_posix()}/1.snappy.parquet"
            client.put_object(Bucket=bucket, Key=key, Body=content)

        return put

    @pytest.fixture
    def at(self, monkeypatch: pytest.MonkeyPatch, put) -> Callable[[float], None]:
        """Sets the sensor's clock to so many hours after the begin of that later day."""

        def set_clock(hours: float) -> None:
            begin = datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC)
            now_s = begin.timestamp() + hours * 3_600
            monkeypatch.setattr(
                "market_pipeline.defs.sensors.time", SimpleNamespace(time=lambda: now_s)
            )

        return set_clock

    def test_new_and_corrected_days(self, put, at, tick):
        """Days in a store are requested, and again when an object has other bytes."""
        for back in range(3):
            put(YESTERDAY - timedelta(days=back))
        at(12)
        first = tick()
        at(13)
        between = tick()
        put(YESTERDAY - timedelta(days=1), b"2RAP")
        at(14)

        days = [str(YESTERDAY - timedelta(days=back)) for back in (2, 1, 0)]
        assert days == [day for day, _ in first]
        assert ([], days[1:2]) == (between, [day for day, _ in tick()])

    @pytest.mark.parametrize("horizon_days", [0, 2])
    def test_horizon(self, put, at, tick, monkeypatch, horizon_days):
        """Missing days are requested back to the horizon and no further; 0 is yesterday only."""
        monkeypatch.setenv("PIPELINE_LAKE_HORIZON_DAYS", str(horizon_days))
        days = [YESTERDAY - timedelta(days=back) for back in range(4)]
        for day in days:
            put(day)
        at(12)

        expected = [str(day) for day in reversed(days[: 1 + horizon_days])]
        assert expected == [day for day, _ in tick()]

    def test_a_day_that_is_not_due(self, put, at, tick):
        """A day that lacks a table waits until it is due; then what is there is enough."""
        put(YESTERDAY)
        at(3)
        early = tick()
        at(4.1)

        assert ([], [str(YESTERDAY)]) == (early, [day for day, _ in tick()])

    def test_the_minute_of_the_schedule(self, put, at, tick, monkeypatch):
        """Around 03:30 yesterday is left to the schedule."""
        monkeypatch.setenv("PIPELINE_VENDOR_LAG_HOURS", "0")
        put(YESTERDAY)
        put(YESTERDAY - timedelta(days=1))
        at(3.5)
        early = [day for day, _ in tick()]
        at(3.6)

        assert [str(YESTERDAY - timedelta(days=1))] == early
        assert [str(YESTERDAY)] == [day for day, _ in tick()]


class TestSchedule:
    @pytest.fixture
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """An instance with a home, without which Dagster evaluates no schedule."""
        with dg.instance_for_test() as made:
            yield made

    @pytest.fixture
    def tick(self, instance: dg.DagsterInstance, instruments: tuple[Instrument, ...], lake: Path):
        """The schedule's tick at 03:30 UTC of the day after: the runs, or why there is none."""
        from market_pipeline.definitions import defs
        from market_pipeline.defs.resources import Pipeline

        repository = defs.get_repository_def()
        schedule = repository.get_schedule_def("yesterday")

        def evaluate(day: date = DAY) -> list[tuple[str | None, str | None]] | str:
            after = datetime(day.year, day.month, day.day, 3, 30, tzinfo=UTC) + timedelta(days=1)
            with dg.build_schedule_context(
                instance=instance,
                scheduled_execution_time=after,
                repository_def=repository,
                resources={"pipeline": Pipeline()},
            ) as context:
                ticked = schedule.evaluate_tick(context)
            runs = [(each.partition_key, each.run_key) for each in ticked.run_requests]
            return runs or str(ticked.skip_message)

        return evaluate

    @pytest.fixture
    def validate(self, folder: Path, instruments: tuple[Instrument, ...]):
        """Publishes a verdict of the day for each instrument."""

        def publish(*conditions: str) -> None:
            blank = dict.fromkeys(column.name for column in VALIDATION_REPORT.columns)
            rows = [
                blank
                | {"exchange": each.venue, "symbol": each.symbol, "dt": DAY, "condition": condition}
                for each, condition in zip(instruments, conditions, strict=True)
            ]
            warehouse = with_catalogue(folder / "data")
            frame = VALIDATION_REPORT.frame(rows)
            replace_rows(
                warehouse, VALIDATION_REPORT, DAY, [each.id for each in instruments], frame
            )
            refresh_catalogue(warehouse)

        return publish

    def test_yesterday(self, tick):
        """The daily tick at 03:30 UTC requests the partition of the day before."""
        assert [("2024-08-08", "2024-08-08")] == tick()

    def test_before_the_first_day(self, tick):
        """A day that has no partition is not requested."""
        assert "2024-06-30 is before the first partition." == tick(date(2024, 6, 30))

    def test_a_run_under_way(self, tick, instance):
        """A day that is being run is left to that run."""
        run_under_way(instance, DAY)

        assert "A run of 2024-08-08 is queued or under way." == tick()

    def test_a_day_that_is_there(self, tick, validate):
        """A day that every instrument has is not run a second time."""
        validate("available", "degraded")

        assert "2024-08-08 is there, of every instrument." == tick()

    @pytest.mark.slow
    def test_an_instrument_that_is_absent(self, tick, validate, instance, lake):
        """If one is absent the day is run again only when files of it came after the last run."""
        validate("available", "missing")
        never_run = tick()
        finished_run(instance, DAY)
        land(lake)
        land(lake, symbol="ETH-USDT")
        nothing_new = tick()
        land(lake, symbol="ETH-USDT", changed=time.time() + 1)

        assert [("2024-08-08", "2024-08-08")] == never_run == tick()
        assert (
            "2024-08-08 was run, and nothing has arrived since of BINANCE:ETH-USDT." == nothing_new
        )

    def test_the_minute_it_has_to_itself(self):
        """From a minute before to a minute after 03:30 UTC a day is the schedule's."""
        from market_pipeline.defs.schedules import is_about_to_run

        at_s = datetime(2024, 8, 9, 3, 30, tzinfo=UTC).timestamp()
        seconds = (-61, -60, 0, 60, 61)

        assert [False, True, True, True, False] == [
            is_about_to_run(DAY, at_s + each) for each in seconds
        ]
        assert not is_about_to_run(NEXT_DAY, at_s)


class TestSpan:
    NOW_S = datetime(2024, 8, 10, 12, tzinfo=UTC).timestamp()

    def test_of_a_folder(self, folder):
        """All days of a folder are watched, from the first partition to yesterday."""
        from market_pipeline.defs.sensors import span_of

        span = span_of(load_settings(vendor_lag_hours=5), self.NOW_S)

        assert (date(2024, 7, 1), NEXT_DAY, 5.0) == (span.first, span.newest, span.lag_hours)

    @pytest.mark.parametrize(
        ("horizon_days", "first"), [(0, NEXT_DAY), (1, DAY), (90, date(2024, 7, 1))]
    )
    def test_of_a_store(self, folder, horizon_days, first):
        """Of a store those before yesterday that the horizon says, from the first partition on."""
        from market_pipeline.defs.sensors import span_of

        settings = load_settings(lake_uri="s3://bucket/lake", lake_horizon_days=horizon_days)
        span = span_of(settings, self.NOW_S)

        assert (first, NEXT_DAY) == (span.first, span.newest)


def test_no_golden_book(lake, instance, instruments):
    """Where no instrument names one there is nothing to compare."""
    from market_pipeline.defs.resources import Pipeline
    from market_pipeline.defs.sensors import golden_books

    with dg.build_sensor_context(instance=instance, resources={"pipeline": Pipeline()}) as context:
        result = golden_books(context)
    assert "0 days to compare wait for a run." == result.skip_reason.skip_message
