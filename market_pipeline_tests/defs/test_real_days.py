from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from subprocess import CompletedProcess

import polars as pl
import pytest

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.config.settings import Settings
from market_pipeline.quality.checks.bar_rows import BAR_ROWS
from market_pipeline.quality.checks.features import FEATURES
from market_pipeline.quality.evaluate import CHECKS
from market_pipeline.warehouse.catalogue import FILES_SCHEMA
from market_pipeline_tests.defs.workspace import Finished, Workspace, days_arguments
from market_pipeline_tests.quality.sample import SAMPLE_DAYS

pytestmark = pytest.mark.slow

INSTRUMENTS = (
    {"venue": "BINANCE", "symbol": "BTC-USDT"},
    {"venue": "BINANCE_DELIVERY", "symbol": "BTC-USD-PERP", "tick": "0.1", "lot": "1"},
    {"venue": "BINANCE_FUTURES", "symbol": "BTC-USDT-PERP", "tick": "0.1", "lot": "0.001"},
    {"venue": "BINANCE_FUTURES", "symbol": "ETH-USDT-PERP", "tick": "0.01", "lot": "0.001"},
)
EVERY_DAY = pytest.mark.parametrize(
    ("exchange", "symbol", "day"), SAMPLE_DAYS, ids=[f"{x}:{s} {d}" for x, s, d in SAMPLE_DAYS]
)
DEFAULT_WIDTHS = {
    f"PIPELINE_{name.upper()}": ",".join(map(str, Settings.model_fields[name].default))
    for name in ("metrics_seconds", "bar_seconds")
}
OF_DAY = "WHERE exchange = $1 AND symbol = $2 AND dt = $3"
TOUCH = ("bid_price", "bid_size", "ask_price", "ask_size")


@dataclass(frozen=True)
class Real:
    """The pipeline after all its days, and how each run ended."""

    workspace: Workspace
    materialized: CompletedProcess[str]
    checks: dict
    ran: CompletedProcess[str]
    ran_two: Finished

    def of(self, columns: str, table: str, *key: object) -> pl.DataFrame:
        """Columns of one instrument's day, through the catalogue."""
        return self.workspace.sql(f"SELECT {columns} FROM {table} {OF_DAY}", *key)


@pytest.fixture(scope="module")
def real(sample_data: Path, tmp_path_factory) -> Real:
    """All days of the sample: one through Dagster's command, the others through the package's."""
    root = tmp_path_factory.mktemp("real")
    workspace = Workspace(root, sample_data / "lake", date(2024, 7, 1), DEFAULT_WIDTHS)
    workspace.configure(*({"source": "crypto_lake", **each} for each in INSTRUMENTS))
    materialized = workspace.command(
        "dagster",
        *("asset", "materialize", "--select", "*", "--partition", "2024-08-08"),
        *("-m", "market_pipeline.definitions"),
    )
    checks = workspace.last_checks()
    two = workspace.start(*days_arguments(date(2024, 7, 18), date(2024, 7, 19)))
    ran = workspace.command("market-pipeline", *days_arguments(date(2024, 8, 9)))
    return Real(workspace, materialized, checks, ran, two.finish())


def test_dagster_s_command(real: Real):
    """`dagster asset materialize` succeeds; a failed check does not fail it."""
    assert 0 == real.materialized.returncode, real.materialized.stderr[-2_000:]
    assert "RUN_SUCCESS" in real.materialized.stderr


def test_the_package_s_command(real: Real):
    """`market-pipeline run` ends with 1, because no sample day covers its day, and says why."""
    assert (1, 1) == (real.ran.returncode, real.ran_two.exit_code), real.ran.stderr
    for output, days in (
        (real.ran.stdout, ["2024-08-09"]),
        (real.ran_two.output, ["2024-07-18", "2024-07-19"]),
    ):
        assert [f"{day} done ({n}/{len(days)})" for n, day in enumerate(days, start=1)] == [
            line for line in output.splitlines() if " done " in line
        ]
    assert "degraded" in real.ran.stdout
    assert "missing" in real.ran.stdout


def test_every_day_is_there(real: Real):
    """Exactly the days of the sample have books, checkpoints and metrics."""
    for table in ("books.bbo", "books.depth", "books.checkpoints", "metrics.book_metrics"):
        found = real.workspace.sql(
            f"SELECT DISTINCT exchange, symbol, dt FROM {table} ORDER BY ALL"
        )
        assert list(SAMPLE_DAYS) == found.rows(), table


@EVERY_DAY
def test_touch_equals_the_reference(real: Real, sample_data: Path, exchange, symbol, day):
    """After the seed each message's best bid and ask are the reference's, in price and size."""
    file = f"exchange={exchange}/symbol={symbol}/dt={day}/1.snappy.parquet"
    reference = pl.read_parquet(
        sample_data / "truth" / "reference_bbo" / file, hive_partitioning=False
    )
    (seed,) = real.of("seed_sequence_number", "books.rebuilds", exchange, symbol, day).row(0)
    columns = f"sequence_number, {', '.join(TOUCH)}, flags"
    ours = real.of(columns, "books.bbo", exchange, symbol, day)
    after = pl.col("sequence_number") > seed
    ours, expected = ours.filter(after), reference.filter(after)
    joined = expected.join(ours, on="sequence_number", how="full", validate="1:1")
    same = pl.all_horizontal(
        pl.col(f"{name[:3]}_0_{name[4:]}").eq_missing(pl.col(name)) for name in TOUCH
    )

    assert expected.height == ours.height == joined.height > 3_000
    assert 0 == joined.filter(~same).height
    assert 0 == ours.filter(pl.col("flags").cast(pl.Int64) & int(INVALIDATING) != 0).height


@EVERY_DAY
def test_depth_begins_with_the_touch(real: Real, exchange, symbol, day):
    """Level 0 of a depth row is the touch of the message with the same sequence number."""
    depth = real.of(
        "sequence_number, ts_receipt_ns, bid_0_price, bid_0_size, ask_0_price, ask_0_size, flags",
        "books.depth",
        exchange,
        symbol,
        day,
    )
    bbo = real.of(
        f"sequence_number, ts_receipt_ns, {', '.join(TOUCH)}, flags",
        "books.bbo",
        exchange,
        symbol,
        day,
    )
    at_depth = depth.select("sequence_number").join(
        bbo, on="sequence_number", how="left", validate="1:1"
    )

    assert 0 < depth.height <= bbo.height
    assert depth.rows() == at_depth.rows()
    assert 1 == (depth["ts_receipt_ns"] // 100_000_000).unique_counts().max()


@EVERY_DAY
def test_depth_is_ordered(real: Real, exchange, symbol, day):
    """Bids fall and asks rise level by level, and no level is empty before a filled one."""
    depth = real.of("*", "books.depth", exchange, symbol, day)
    for side, better in (("bid", pl.Expr.gt), ("ask", pl.Expr.lt)):
        for level in range(19):
            here, next_one = (pl.col(f"{side}_{n}_price") for n in (level, level + 1))
            bad = depth.filter(next_one.is_not_null() & ~better(here, next_one).fill_null(False))
            assert 0 == bad.height


@EVERY_DAY
def test_checksums_are_of_their_own_levels(real: Real, exchange, symbol, day):
    """A checkpoint's checksum is that of its levels, and the last one closes the day."""
    checkpoints = real.of("*", "books.checkpoints", exchange, symbol, day).sort("messages")
    (last,) = real.of("max(sequence_number)", "books.bbo", exchange, symbol, day).row(0)
    (messages,) = real.of("messages", "books.rebuilds", exchange, symbol, day).row(0)
    computed = []
    for row in checkpoints.to_dicts():
        sides = [
            row[f"{side}_{part}"]
            for side in ("bid", "ask")
            for part in ("price_ticks", "size_lots")
        ]
        text = f"{row['tick']} {row['lot']} {len(sides[0])} {len(sides[2])}\n"
        numbers = b"".join(n.to_bytes(8, "little", signed=True) for side in sides for n in side)
        computed.append(hashlib.sha256(text.encode() + numbers).hexdigest())

    assert computed == checkpoints["checksum"].to_list()
    assert ("closing", last, messages) == checkpoints.select(
        "kind", "sequence_number", "messages"
    ).row(-1)


@EVERY_DAY
def test_metrics_count_every_message(real: Real, exchange, symbol, day):
    """The minutes' messages add up to the day's, and valid minutes have a spread above 0."""
    minutes = real.of("*", "metrics.book_metrics", exchange, symbol, day).filter(
        interval_seconds=60
    )
    (messages,) = real.of("messages", "quality.validation_report", exchange, symbol, day).row(0)

    assert messages == minutes["message_count"].sum()
    assert 0 < minutes["valid_seconds"].sum()
    assert 0 < minutes["trade_count"].sum()


@EVERY_DAY
def test_depth_of_the_day(real: Real, exchange, symbol, day):
    """Mean depths of the day are those of its published rows, each as long as it was in force."""
    rows = real.of("*", "books.depth", exchange, symbol, day).with_columns(
        clock=pl.col("ts_receipt_ns").cum_max()
    )
    held = rows.with_columns(held=pl.col("clock").shift(-1) - pl.col("clock")).filter(
        (pl.col("flags") & int(INVALIDATING)) == 0
    )
    (row,) = real.of("*", "metrics.daily", exchange, symbol, day).to_dicts()

    assert 0 == row["feature_violations"]
    for levels in (1, 5, 10, 20):
        for side in ("bid", "ask"):
            sizes = [pl.col(f"{side}_{level}_size") for level in range(levels)]
            sure = held.filter(pl.col(f"{side}_levels_confirmed") >= levels)
            mean = (pl.sum_horizontal(sizes) * pl.col("held")).sum() / pl.col("held").sum()
            assert pytest.approx(sure.select(mean).item()) == row[f"{side}_depth_{levels}"]


@EVERY_DAY
def test_verdicts(real: Real, exchange, symbol, day):
    """Each day is degraded for what it does not cover and nothing else, and warned of its clock."""
    (row,) = real.of("*", "quality.validation_report", exchange, symbol, day).to_dicts()
    (reason,), (warning,) = row["reasons"], row["warnings"]
    missing = "The first 86," if day in {date(2024, 8, 8), date(2024, 7, 18)} else "The last 86,"

    assert ("degraded", "rebuilt") == (row["condition"], row["outcome"])
    assert missing == reason[: len(missing)]
    assert "before the exchange's time" in warning
    assert (0, 0, 0, 0) == tuple(
        row[name]
        for name in ("gap_count", "crossed_count", "price_precision_losses", "clock_steps")
    )
    assert -1_600 < row["skew_p50_ms"] < -1_200
    assert (1.0, 0.0) == (row["snapshot_matching_share"], row["max_mid_deviation_ticks"])


def test_days_that_are_not_there(real: Real):
    """An instrument without files on a day is missing, with the error as its reason."""
    missing = real.workspace.sql(
        "SELECT exchange, symbol, dt, condition, reasons[1] FROM quality.validation_report "
        "WHERE outcome = 'no_data' ORDER BY ALL"
    )
    everything = {
        (each["venue"], each["symbol"], day) for each in INSTRUMENTS for _, _, day in SAMPLE_DAYS
    }

    assert everything - set(SAMPLE_DAYS) == set(
        missing.select("exchange", "symbol", "dt").iter_rows()
    )
    assert ["missing"] == missing["condition"].unique().to_list()
    assert missing["reasons[1]"].str.starts_with("There is no raw file").all()


def test_checks(real: Real):
    """The event log has each check that could be asked: three fail on this sample, two cannot."""
    severity = {
        name: (said.passed, said.severity.value, said.partition)
        for name, said in real.checks.items()
    }

    failed = {name: said for name, (passed, said, _) in severity.items() if not passed}
    assert {"completeness": "ERROR", "freshness": "WARN", "skew": "WARN"} == failed
    # There is no day before, and no store.
    asked = {check.name for check in (*CHECKS, BAR_ROWS, FEATURES)} - {"day_boundary", "delivery"}
    assert asked == severity.keys()
    assert {"2024-08-08"} == {partition for _, _, partition in severity.values()}


def test_every_table_is_described(real: Real):
    """In a plain DuckDB each column of each published table tells what it means."""
    silent = real.workspace.sql(
        "SELECT table_name, column_name FROM duckdb_columns() "
        "WHERE database_name = 'market' AND NOT internal AND comment IS NULL "
        f"AND schema_name <> '{FILES_SCHEMA}'"
    )

    assert [] == silent.rows()
