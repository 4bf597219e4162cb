"""Days made of foreign files, validated whole: what is found, where, and what is not blamed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.quality.row import VALIDATION_REPORT
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable, day_folder
from market_pipeline.sources.simulated import simulate
from market_pipeline.stages.validation.lookups import failed_identity
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.working import read_rows
from market_pipeline_tests.detection.real_faults import copied
from market_pipeline_tests.detection.validating import Validated, validate
from market_pipeline_tests.quality.sample import SAMPLE_DAYS
from market_pipeline_tests.sources.simulated.days import DAY as MONDAY
from market_pipeline_tests.sources.simulated.days import NEXT_DAY as TUESDAY
from market_pipeline_tests.sources.simulated.days import instrument as simulated

pytestmark = pytest.mark.slow

SECOND_DAYS = [
    (exchange, symbol, day)
    for exchange, symbol, day in SAMPLE_DAYS
    if (exchange, symbol, day - timedelta(days=1)) in SAMPLE_DAYS
]
NS = 1_000_000_000
DAY_NS = 86_400 * NS
WEDNESDAY = TUESDAY + timedelta(days=1)
BTC_MARKET = simulated()
ETH_MARKET = simulated("ETH-USDT-PERP", start_price=Decimal("3000.0"), seed=8)
BTC, ETH = BTC_MARKET.as_instrument(), ETH_MARKET.as_instrument()
TABLES = (DELTAS, SNAPSHOTS, TRADES)
LITTLE = {"reference_minutes": 1}  # what a second book says is tested elsewhere
WORDS = {DELTAS.name: "deltas", SNAPSHOTS.name: "snapshots", TRADES.name: "trades"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three simulated days of two instruments; Monday is published."""
    root = tmp_path_factory.mktemp("identity")
    simulate(
        root / "lake",
        [BTC_MARKET, ETH_MARKET],
        MONDAY,
        WEDNESDAY,
        messages_per_day=2_000,
        snapshot_interval_s=10.0,
        shards=2,
    )
    validate(root / "lake", root / "data", [BTC, ETH], MONDAY, **LITTLE)
    return root


@dataclass
class Lake:
    """A copy of it, to be spoilt and validated."""

    root: Path

    def folder(self, table: RawTable, of: Instrument = BTC, day: date = TUESDAY) -> Path:
        return day_folder(self.root / "lake", table, of.venue, of.symbol, day)

    def replace(self, table: RawTable, by: Path) -> None:
        """Another folder's files in place of BTC's of Tuesday."""
        shutil.rmtree(self.folder(table))
        shutil.copytree(by, self.folder(table))

    def change(self, table: RawTable, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        """Other rows in the first shard of BTC's Tuesday."""
        file = self.folder(table) / "1.snappy.parquet"
        rows = change(pl.read_parquet(file, hive_partitioning=False))
        rows.write_parquet(file, compression="snappy")

    def validate(self, of: Instrument = BTC, day: date = TUESDAY) -> Validated:
        return validate(self.root / "lake", self.root / "data", [of], day, **LITTLE)[of.symbol]

    def forget(self) -> None:
        """Nothing was ever published."""
        shutil.rmtree(self.root / "data")


@pytest.fixture
def lake(made: Path, folder: Path) -> Lake:
    shutil.copytree(made, folder, symlinks=True, dirs_exist_ok=True)
    return Lake(folder)


def identity(validated: Validated) -> tuple[str | None, str]:
    said = validated.outcomes["identity"]
    return validated.failed.get("identity"), said.summary


class TestClean:
    def test_a_day_after_another(self, lake: Lake):
        """It begins where the one before ended, and all of its tables are at the same prices."""
        row = lake.validate().row

        assert "available" == row.condition
        assert (0, 0, 0, 0.0) == (
            row.deltas_outside_day,
            row.snapshots_outside_day,
            row.trades_outside_day,
            row.outside_day_share,
        )
        assert (0, 0, None) == (row.files_twice, row.files_elsewhere, row.foreign_price_table)
        assert row.price_day_before_apart is not None and row.price_day_before_apart < 1.01
        assert row.price_tables_apart is not None and row.price_tables_apart < 1.01

    def test_without_a_day_before(self, lake: Lake):
        """A first day has no price to begin at, and passes."""
        lake.forget()
        validated = lake.validate()

        assert (None, None) == (validated.row.price_day_before, identity(validated)[0])

    @pytest.mark.parametrize(("exchange", "symbol", "day"), SECOND_DAYS)
    def test_real_days(self, sample_data: Path, folder: Path, exchange, symbol, day):
        """In the sample nothing is found, of a first day and of one that follows it."""
        of = Instrument(venue=exchange, symbol=symbol, source="crypto_lake")
        for each in (day - timedelta(days=1), day):
            copied(sample_data, folder / "lake", exchange, symbol, str(each))
            validated = validate(folder / "lake", folder / "data", [of], each)[symbol]
            assert identity(validated)[0] is None
        assert 1.0 <= (validated.row.price_day_before_apart or 0) < 1.01


class TestTimes:
    def test_a_day_of_another_day(self, lake: Lake):
        """Every table is Wednesday's: an error that says so, and each file is a place."""
        for table in TABLES:
            lake.replace(table, lake.folder(table, day=WEDNESDAY))
        validated = lake.validate()

        severity, summary = identity(validated)
        assert "ERROR" == severity
        assert f"most on {WEDNESDAY}" in summary
        assert (1.0, WEDNESDAY) == (validated.row.outside_day_share, validated.row.outside_day)
        assert "available" != validated.row.condition
        files = {place.file for place in validated.places("identity") if place.row is None}
        assert {
            f"{table.name}/exchange=SIMULATED/symbol={BTC.symbol}/dt={TUESDAY}/{n}.snappy.parquet"
            for table in TABLES
            for n in (1, 2)
        } == files

    @pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
    def test_one_table_of_another_day(self, lake: Lake, table: RawTable):
        """It is named, whichever it is."""
        lake.replace(table, lake.folder(table, day=WEDNESDAY))
        validated = lake.validate()
        words = WORDS[table.name]

        severity, summary = identity(validated)
        assert "ERROR" == severity
        assert summary.startswith(f"The {words} are of another day")
        assert "available" != validated.row.condition

    def test_a_shard_of_another_day(self, lake: Lake):
        """One of three shards is named with its day; most rows being Tuesday's, it is a warning."""
        shard = lake.folder(DELTAS, day=WEDNESDAY) / "1.snappy.parquet"
        rows = pl.read_parquet(shard, hive_partitioning=False).head(1_000)
        rows.write_parquet(lake.folder(DELTAS) / "3.snappy.parquet", compression="snappy")
        validated = lake.validate()

        severity, summary = identity(validated)
        assert "WARN" == severity
        assert "1 file for the most part (1,000 of deltas" in summary
        assert (WEDNESDAY, 1_000) == (validated.row.outside_day, validated.row.deltas_outside_day)

    def test_the_minute_past_midnight(self, lake: Lake):
        """Trades of the next minute in the day's file are a warning with first and last places."""
        later = lake.folder(TRADES, day=WEDNESDAY) / "1.snappy.parquet"
        rows = pl.read_parquet(later, hive_partitioning=False).head(3)
        rows.write_parquet(lake.folder(TRADES) / "3.snappy.parquet", compression="snappy")
        validated = lake.validate()

        assert "WARN" == identity(validated)[0]
        assert 3 == validated.row.trades_outside_day
        places = [place for place in validated.places("identity") if place.row is not None]
        assert [0, 1, 2] == [place.row for place in places]
        assert ["first", "further", "further"] == [place.place for place in places]

    @pytest.mark.parametrize("days", [-1, 300])
    def test_a_single_stamp(self, lake: Lake, days: int):
        """One stamp of another day is no file of another day."""
        second = pl.int_range(pl.len()) == 700

        def spoil(rows: pl.DataFrame) -> pl.DataFrame:
            time = pl.col("receipt_timestamp")
            return rows.with_columns(pl.when(second).then(time + days * DAY_NS).otherwise(time))

        lake.change(DELTAS, spoil)
        validated = lake.validate()

        assert ("WARN", 1) == (identity(validated)[0], validated.row.deltas_outside_day)


class TestFiles:
    def test_yesterdays_files(self, lake: Lake):
        """Monday's bytes under Tuesday: the manifest and the times know them."""
        for table in TABLES:
            lake.replace(table, lake.folder(table, day=MONDAY))
        validated = lake.validate()

        severity, summary = identity(validated)
        assert ("ERROR", 6, 6) == (
            severity,
            validated.row.files_elsewhere,
            validated.row.files_elsewhere_doubtful,
        )
        assert f"has the bytes of book_delta_v2 of {BTC.id} on {MONDAY}" in summary

    def test_monday_is_not_blamed(self, lake: Lake):
        """The day whose files they are is told of the copy, and is as available as before."""
        for table in TABLES:
            lake.replace(table, lake.folder(table, day=MONDAY))
        lake.validate()
        monday = lake.validate(day=MONDAY)

        assert ("WARN", 6, 0) == (
            identity(monday)[0],
            monday.row.files_elsewhere,
            monday.row.files_elsewhere_doubtful,
        )
        assert not monday.outcomes["identity"].degrades

    def test_another_instruments_files(self, lake: Lake):
        """ETH's day in BTC's folder: bytes and prices, and ETH's own day is not blamed."""
        lake.validate(ETH)
        for table in TABLES:
            lake.replace(table, lake.folder(table, ETH))
        validated = lake.validate()
        severity, summary = identity(validated)

        assert ("ERROR", 6) == (severity, validated.row.files_elsewhere_doubtful)
        assert f"has the bytes of book_delta_v2 of {ETH.id} on {TUESDAY}" in summary
        assert "the prices are unlike the day before" in summary
        assert "degraded" == validated.row.condition
        again = lake.validate(ETH)
        assert ("WARN", False) == (identity(again)[0], again.outcomes["identity"].degrades)

    def test_another_instruments_deltas(self, lake: Lake):
        """Of one table that is shared, the others of the day show whose it is, without Monday."""
        lake.forget()
        lake.validate(ETH)
        lake.replace(DELTAS, lake.folder(DELTAS, ETH))
        validated = lake.validate()
        again = lake.validate(ETH)

        assert ("ERROR", 2, "deltas") == (
            identity(validated)[0],
            validated.row.files_elsewhere_doubtful,
            validated.row.foreign_price_table,
        )
        assert ("WARN", 0) == (identity(again)[0], again.row.files_elsewhere_doubtful)

    @pytest.mark.parametrize(
        ("table", "severity"), [(DELTAS, "WARN"), (SNAPSHOTS, "WARN"), (TRADES, "ERROR")]
    )
    def test_a_file_that_stands_twice(self, lake: Lake, table: RawTable, severity: str):
        """It is named with the one before; trades that count twice are an error."""
        folder = lake.folder(table)
        shutil.copyfile(folder / "2.snappy.parquet", folder / "3.snappy.parquet")
        validated = lake.validate()

        assert (severity, 1) == (identity(validated)[0], validated.row.files_twice)
        assert "3.snappy.parquet has the bytes of 2.snappy.parquet" in identity(validated)[1]
        assert validated.row.first_file_twice is not None

    def test_a_copy_that_was_compressed_anew(self, lake: Lake):
        """Its bytes are others, but each of its trades counts twice."""
        folder = lake.folder(TRADES)
        rows = pl.read_parquet(folder / "2.snappy.parquet", hive_partitioning=False)
        rows.write_parquet(folder / "3.snappy.parquet", compression="gzip", row_group_size=100)
        validated = lake.validate()

        assert ("ERROR", 1) == (identity(validated)[0], validated.row.trade_files_twice)
        assert "3.snappy.parquet has the rows of 2.snappy.parquet" in identity(validated)[1]

    def test_trades_that_overlap(self, lake: Lake):
        """The last trades of a file that the next one begins with are counted and located."""
        file = lake.folder(TRADES) / "2.snappy.parquet"
        rows = pl.read_parquet(file, hive_partitioning=False)
        rows.tail(10).write_parquet(file.with_name("3.snappy.parquet"))
        validated = lake.validate()
        found = [each for each in validated.findings if each.column == "id"]

        assert ("WARN", 10) == (identity(validated)[0], validated.row.repeated_trades)
        assert "10 trades came before already" in identity(validated)[1]
        assert "3.snappy.parquet" in str(found[0].file)

    @pytest.mark.parametrize("number", [0, 7])
    def test_trades_without_ids(self, lake: Lake, number: int):
        """One id for all is none, and proves nothing of any trade."""
        for file in lake.folder(TRADES).glob("*.parquet"):
            rows = pl.read_parquet(file, hive_partitioning=False)
            rows.with_columns(id=pl.lit(number, pl.Int64)).write_parquet(file)

        assert lake.validate().row.repeated_trades is None

    def test_empty_files_are_alike(self, lake: Lake):
        """Files without a row have the same bytes everywhere, and nothing is wrong with that."""
        for day in (MONDAY, TUESDAY):
            for file in lake.folder(TRADES, day=day).glob("*.parquet"):
                pl.read_parquet(file, hive_partitioning=False).clear().write_parquet(file)
        lake.validate(day=MONDAY)

        assert 0 == lake.validate().row.files_elsewhere


class TestPrices:
    @pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
    def test_one_table_at_other_prices(self, lake: Lake, table: RawTable):
        """A table of another instrument is named by its prices, whatever its bytes are."""
        for number in (1, 2):
            file = lake.folder(table, ETH) / f"{number}.snappy.parquet"
            rows = pl.read_parquet(file, hive_partitioning=False)
            rows.write_parquet(lake.folder(table) / f"{number}.snappy.parquet", compression="zstd")
        validated = lake.validate()
        words = WORDS[table.name]

        assert ("ERROR", words) == (identity(validated)[0], validated.row.foreign_price_table)
        assert 15 < (validated.row.price_tables_apart or 0) < 25
        (place,) = [each for each in validated.places("identity") if each.column == "price"]
        assert (place.file or "").startswith(f"{table.name}/")
        assert "available" != validated.row.condition

    def test_all_tables_at_other_prices(self, lake: Lake):
        """A day at a twentieth of yesterday's prices is not yesterday's instrument."""
        for table in TABLES:
            for number in (1, 2):
                file = lake.folder(table, ETH) / f"{number}.snappy.parquet"
                rows = pl.read_parquet(file, hive_partitioning=False)
                target = lake.folder(table) / f"{number}.snappy.parquet"
                rows.write_parquet(target, compression="zstd")
        validated = lake.validate()

        assert ("ERROR", 0) == (identity(validated)[0], validated.row.files_elsewhere)
        assert 15 < (validated.row.price_day_before_apart or 0) < 25
        assert "degraded" == validated.row.condition
        reports = read_rows(Warehouse(lake.root / "data"), VALIDATION_REPORT, TUESDAY)
        assert [True, False] == [failed_identity(reports, each) for each in (BTC, ETH)]

    def test_the_day_after_a_foreign_day_is_not_blamed(self, lake: Lake):
        """A day that was found to be foreign says nothing about the price of the next."""
        for table in TABLES:
            lake.replace(table, lake.folder(table, ETH))
        lake.validate()
        wednesday = lake.validate(day=WEDNESDAY)

        assert (None, None) == (identity(wednesday)[0], wednesday.row.price_day_before)

    def test_a_wrong_price(self, lake: Lake):
        """One price ten times too high at the day's start is no other instrument."""

        def spoil(rows: pl.DataFrame) -> pl.DataFrame:
            first = pl.int_range(pl.len()) == 0
            return rows.with_columns(
                pl.when(first).then(pl.col("price") * 10).otherwise(pl.col("price")).alias("price")
            )

        lake.change(DELTAS, spoil)
        lake.change(TRADES, spoil)

        assert identity(lake.validate())[0] is None

    def test_a_day_before_without_a_closing_book(self, lake: Lake):
        """Its last raw prices stand in."""
        shutil.rmtree(lake.folder(DELTAS, day=MONDAY))
        shutil.rmtree(lake.folder(SNAPSHOTS, day=MONDAY))
        lake.validate(day=MONDAY)
        row = lake.validate().row

        assert row.price_day_before is not None
        assert 1.0 <= (row.price_day_before_apart or 0) < 1.01


class TestQuarantined:
    def test_a_day_that_cannot_be_rebuilt(self, lake: Lake):
        """Deltas and snapshots that cannot be read leave the hash and the trades to tell."""
        for table in (DELTAS, SNAPSHOTS):
            for file in lake.folder(table).glob("*.parquet"):
                file.write_bytes(b"no parquet")
        lake.replace(TRADES, lake.folder(TRADES, day=MONDAY))
        validated = lake.validate()

        assert "quarantined" == validated.row.outcome
        assert ("ERROR", 2) == (identity(validated)[0], validated.row.files_elsewhere_doubtful)
        assert any(place.file for place in validated.places("identity"))

    def test_a_day_without_files(self, lake: Lake):
        """Nothing is asked where there is nothing."""
        for table in TABLES:
            shutil.rmtree(lake.folder(table))
        said: Any = lake.validate().outcomes.get("identity")

        assert said is None
