"""Faults of messages, values, snapshots and trades: what the files say, and what they still say."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from market_pipeline.sources.simulated import Fault, FaultKind, simulate
from market_pipeline.sources.simulated._message_faults import SPIKE_FACTOR, TRADES_OFF_TICKS
from market_pipeline_tests.sources.simulated.days import DAY, digests, instrument, read, seconds

SYMBOL = "BTC-USDT-PERP"
START_S, DURATION_S = 36_000.0, 7_200.0
LEVELS = pl.selectors.matches(r"^(bid|ask)_\d+_")
INSIDE = (seconds(pl.col("receipt_timestamp")) >= START_S) & (
    seconds(pl.col("receipt_timestamp")) < START_S + DURATION_S
)


def make(root: Path, *kinds: FaultKind) -> Path:
    """The day with these faults."""
    faults = [
        Fault(kind=kind, symbol=SYMBOL, day=DAY, at_s=START_S, duration_s=DURATION_S)
        for kind in kinds
    ]
    simulate(root, [instrument()], DAY, DAY, faults=faults, messages_per_day=20_000)
    return root


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """The day without a fault."""
    return make(tmp_path_factory.mktemp("clean"))


@pytest.fixture
def plant(tmp_path, clean):
    """Plants one fault; only the named table may be another than that of the clean day."""

    def planted(kind: FaultKind, table: str) -> tuple[pl.DataFrame, pl.DataFrame]:
        faulty = make(tmp_path, kind)
        before, after = digests(clean), digests(faulty)
        changed = {path for path in before if before[path] != after[path]}
        assert [table] == [path.split("/")[0] for path in sorted(changed)]
        return read(clean, table), read(faulty, table)

    return planted


def test_lost_messages(plant):
    """About one message in a hundred of the span is not there, whole, and no other."""
    whole, told = plant(FaultKind.LOST_MESSAGES, "book_delta_v2")
    kept = whole.join(told, on="sequence_number", how="semi", maintain_order="left")
    lost = whole.join(told, on="sequence_number", how="anti")
    inside = whole.filter(INSIDE)["sequence_number"].n_unique()

    assert_frame_equal(kept, told)
    assert 0 == lost.filter(~INSIDE).height
    assert 0.005 * inside < lost["sequence_number"].n_unique() < 0.02 * inside


def test_swapped_messages(plant):
    """The same rows in another order: the sequence number goes backwards once, in the span."""
    whole, told = plant(FaultKind.SWAPPED_MESSAGES, "book_delta_v2")
    back = told.filter(pl.col("sequence_number").diff() < 0)

    assert_frame_equal(whole, told, check_row_order=False)
    assert (1, 1) == (back.height, back.filter(INSIDE).height)


def test_double_message(plant):
    """The rows of one message come once more, behind those of the message after it."""
    whole, told = plant(FaultKind.DOUBLE_MESSAGE, "book_delta_v2")
    (twice,) = told.filter(pl.col("sequence_number").diff() < 0)["sequence_number"]
    rows = whole.filter(sequence_number=twice)
    again = told.filter(sequence_number=twice)

    assert whole.height + rows.height == told.height
    assert_frame_equal(pl.concat([rows, rows]), again)
    assert rows.height == rows.filter(INSIDE).height


def test_bad_value(plant):
    """One size is below 0, that of the span's first row."""
    whole, told = plant(FaultKind.BAD_VALUE, "book_delta_v2")
    bad = told.with_row_index().filter(pl.col("size") < 0)

    assert whole.with_row_index().filter(INSIDE)["index"][0] == bad["index"].item()
    assert_frame_equal(whole.drop("size"), told.drop("size"))
    assert -1.0 == bad["size"].item()


def test_stale_snapshot(plant):
    """One row has the levels of the span's first row, and its own times and sequence number."""
    whole, told = plant(FaultKind.STALE_SNAPSHOT, "book")
    inside = told.filter(INSIDE)
    differing = (whole.select(LEVELS) != told.select(LEVELS)).select(pl.any_horizontal(pl.all()))

    assert_frame_equal(whole.drop(LEVELS), told.drop(LEVELS))
    assert 1 == differing.to_series().sum()
    assert inside.select(LEVELS).row(0) == inside.select(LEVELS).row(-1)


def test_trades_off(plant):
    """Buys print so far below and sells so far above their price, and nothing else changes."""
    whole, told = plant(FaultKind.TRADES_OFF, "trades")
    away = (
        pl.when(pl.col("side") == "buy").then(-TRADES_OFF_TICKS).otherwise(TRADES_OFF_TICKS) * 0.1
    )
    expected = whole.with_columns(
        pl.when(INSIDE).then((pl.col("price") + away).round(1)).otherwise("price").alias("price")
    )

    assert_frame_equal(expected, told, check_exact=True)


def test_volume_spike(plant):
    """One trade, the span's first, is so many times its size."""
    whole, told = plant(FaultKind.VOLUME_SPIKE, "trades")
    changed = whole.with_row_index().filter(whole["amount"] != told["amount"])

    assert whole.with_row_index().filter(INSIDE)["index"][0] == changed["index"].item()
    assert changed["amount"].item() * SPIKE_FACTOR == told["amount"][changed["index"].item()]


def test_same_plan_same_bytes(tmp_path):
    """Which rows a fault touches follows from its plan alone."""
    kinds = (FaultKind.LOST_MESSAGES,)
    one, other = (digests(make(tmp_path / name, *kinds)) for name in ("one", "other"))

    assert one == other
