"""Every check on the simulated venue: it finds the planted fault in its place, and else nothing."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.quality.evaluate import CHECKS
from market_pipeline.sources.crypto_lake import TRADES
from market_pipeline.sources.simulated import Fault, FaultKind, simulate
from market_pipeline.stages.raw.download import fetch_table, table_prefix
from market_pipeline_tests.detection.validating import Validated, validate
from market_pipeline_tests.sources.simulated.days import DAY, instrument
from market_pipeline_tests.stages.raw.fake_store import FakeStore

pytestmark = pytest.mark.slow

BEFORE = DAY - timedelta(days=1)
START_NS = round(datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC).timestamp()) * 10**9
HOUR = 3_600.0
AT_S, LASTS_S = 10 * HOUR, HOUR
SKEW = {"offset_ms": -1_200.0, "step_ms": 250.0, "step_at_s": 57_600.0}
WHOLE_DAY = (FaultKind.TRUNCATED_FILE, FaultKind.MISSING_DAY)

# Which checks fail for each planted fault, and how badly; nothing else may.
EXPECTED = {
    "CLEAN": (None, {}),
    "SILENT": (
        FaultKind.SILENCE_GAP,
        {"gap": "ERROR", "snapshot_match": "WARN", "completeness": "ERROR"},
    ),
    "CUT": (
        FaultKind.TRUNCATED_FILE,
        {"schema": "ERROR", "completeness": "WARN"},
    ),
    "MISSING": (FaultKind.MISSING_DAY, {"completeness": "ERROR", "freshness": "WARN"}),
    "LOST": (FaultKind.LOST_MESSAGES, {"crossed": "WARN", "snapshot_match": "ERROR"}),
    "SWAPPED": (FaultKind.SWAPPED_MESSAGES, {"ordering": "WARN", "snapshot_match": "WARN"}),
    "DOUBLE": (FaultKind.DOUBLE_MESSAGE, {"ordering": "WARN"}),
    "BAD": (FaultKind.BAD_VALUE, {"domain": "ERROR", "completeness": "WARN"}),
    "SKEWED": (FaultKind.CLOCK_SKEW, {"skew": "WARN"}),
    "OFF": (FaultKind.OFF_TICK_PRICE, {"precision": "ERROR"}),
    "CROSSED": (FaultKind.CROSSED_MINUTE, {"crossed": "ERROR", "snapshot_match": "ERROR"}),
    "STALE": (FaultKind.STALE_SNAPSHOT, {"crossed": "WARN", "snapshot_match": "WARN"}),
    "TRADES": (FaultKind.TRADES_OFF, {"trade_through": "WARN"}),
    "SPIKE": (FaultKind.VOLUME_SPIKE, {"bars": "WARN"}),
    "TORN": (FaultKind.SILENCE_GAP, {"day_boundary": "WARN", "completeness": "WARN"}),
    "REPLACED": (None, {"delivery": "WARN"}),
    "TWICE": (None, {"identity": "WARN", "ordering": "ERROR"}),
}


def fault(name: str, kind: FaultKind) -> Fault:
    """The fault of an instrument, at ten for an hour; that of TORN just after midnight."""
    at_s, lasts_s = (0.0, 120.0) if name == "TORN" else (AT_S, LASTS_S)
    if kind in WHOLE_DAY:
        at_s = lasts_s = 0.0
    if kind is FaultKind.CLOCK_SKEW:
        at_s, lasts_s = 300.0, 85_800.0
    figures = SKEW if kind is FaultKind.CLOCK_SKEW else {}
    return Fault(kind=kind, symbol=f"{name}-USD", day=DAY, at_s=at_s, duration_s=lasts_s, **figures)


@pytest.fixture(scope="module")
def validated(tmp_path_factory) -> dict[str, Validated]:
    """The day of every instrument, after the day before."""
    root: Path = tmp_path_factory.mktemp("planted")
    made = {name: instrument(f"{name}-USD") for name in EXPECTED}
    for name, (kind, _) in EXPECTED.items():
        faults = [] if kind is None else [fault(name, kind)]
        # A volume is only held against the usual one where every minute has its trades.
        messages = 60_000 if kind is FaultKind.VOLUME_SPIKE else 20_000
        simulate(
            root / "lake",
            [made[name]],
            BEFORE,
            DAY,
            faults=faults,
            messages_per_day=messages,
            snapshot_interval_s=5.0,
        )
    # The day's delta file stands there twice.
    (file,) = (root / "lake" / "book_delta_v2").rglob(f"symbol=TWICE-USD/dt={DAY}/*.parquet")
    shutil.copyfile(file, file.with_name("2.snappy.parquet"))
    instruments = [each.as_instrument() for each in made.values()]
    store = FakeStore()
    store.put_folder(root / "lake")
    validate("s3://bucket/lake", root / "data", instruments, BEFORE, store, reference_minutes=1)
    replace_trades(store, made["REPLACED"].as_instrument(), root)
    return validate("s3://bucket/lake", root / "data", instruments, DAY, store)


def replace_trades(store: FakeStore, of: Instrument, root: Path) -> None:
    """The vendor stores the same trades as other bytes, after they were fetched."""
    fetch_table(store, root / "data" / "lake", TRADES, of, DAY)
    key = f"{table_prefix(TRADES, of, DAY)}1.snappy.parquet"
    rows = pl.read_parquet(store.objects_by_key[key])
    rows.write_parquet(root / "other.parquet", compression="zstd")
    store.objects_by_key[key] = (root / "other.parquet").read_bytes()


@pytest.mark.parametrize("name", EXPECTED)
def test_exactly_the_planted_fault(validated: dict[str, Validated], name: str):
    """Only the checks that a fault is for fail, with the right severity."""
    assert EXPECTED[name][1] == validated[f"{name}-USD"].failed


def test_every_check_is_shown():
    """No check is without a planted fault; a twin that differs has a test of its own."""
    found = {check for _, failed in EXPECTED.values() for check in failed}

    assert {check.name for check in CHECKS} - {"reference_replay"} == found


def test_a_clean_day_is_asked_every_check(validated: dict[str, Validated]):
    """A check that stays silent because it was not asked would prove nothing."""
    clean = validated["CLEAN-USD"]

    assert [check.name for check in CHECKS] == list(clean.outcomes)
    assert [] == clean.findings
    assert "available" == clean.row.condition


@pytest.mark.parametrize(
    ("name", "check"),
    [
        (name, check)
        for name, (_, failed) in EXPECTED.items()
        for check in failed
        if name not in {"CUT", "MISSING", "TORN", "TWICE"}
        and check not in {"completeness", "delivery"}
    ],
)
def test_the_place(validated: dict[str, Validated], name: str, check: str):
    """The first place lies in the planted span, and names the file and row."""
    first = validated[f"{name}-USD"].places(check)[0]
    begin_s, end_s = (300, 86_400) if name == "SKEWED" else (AT_S, AT_S + LASTS_S + 60)

    assert first.place == "first"
    if first.ts_receipt_ns is not None:
        assert begin_s - 60 <= (first.ts_receipt_ns - START_NS) / 1e9 <= end_s
    if check != "bars":
        assert f"symbol={name}-USD" in str(first.file)
        assert first.row is not None


def test_a_replaced_object(validated: dict[str, Validated]):
    """An object that changed at the store is named, with the version that was used."""
    first = validated["REPLACED-USD"].places("delivery")[0]

    assert first.place == "first"
    assert str(first.file).endswith(f"symbol=REPLACED-USD/dt={DAY}/1.v2.snappy.parquet")
    assert str(first.note).endswith("this is version 2.")
