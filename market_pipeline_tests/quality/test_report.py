"""From arrays to a judged row, on made days with planted faults and on the real ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import numpy as np
import pytest

from market_pipeline.books.flags import BookFlag
from market_pipeline.quality.intervals import NS_PER_SECOND, day_bounds_ns
from market_pipeline.quality.precision import PrecisionLoss, PrecisionReport
from market_pipeline.quality.report import BookEvidence, build_report, report_failure
from market_pipeline_tests.quality.factory import (
    DAY,
    DAY_END_NS,
    DAY_START_NS,
    INSTRUMENT,
    LONG_AFTER_NS,
    THRESHOLDS,
)
from market_pipeline_tests.quality.sample import sample_day

EVIDENCE = BookEvidence(
    seed="book row 0",
    rows=86_400,
    snapshots=10,
    trades=1_440,
    unknown_removals=3,
    exam_snapshots=9,
    exam_matching_share=1.0,
    max_mid_deviation_ticks=0.0,
    ghost_share=0.0,
    known_low_price=61_000.0,
    known_high_price=62_000.0,
    tick=Decimal("0.1"),
    lot=Decimal("1E-3"),
    tick_inferred=False,
    lot_inferred=True,
    price_precision=PrecisionReport("price", Decimal("0.1")),
    size_precision=PrecisionReport("size", Decimal("0.001")),
    input_sha256=("ab" * 32,),
    code_version="0.1.0",
)


def a_clean_day():
    """The arrays of a day with two messages a second and a trade a minute, 5 ms late."""
    origin = DAY_START_NS + np.arange(172_800) * (NS_PER_SECOND // 2)
    trades = DAY_START_NS + np.arange(1_440) * 60 * NS_PER_SECOND + 7
    return {
        "ts_origin_ns": origin,
        "ts_receipt_ns": origin + 5_000_000,
        "sequence_number": np.arange(172_800) * 3,
        "flags": np.zeros(172_800, dtype=np.uint16),
        "trade_origin_ns": trades,
        "trade_receipt_ns": trades + 5_000_000,
    }


def row_of(arrays, evidence=EVIDENCE):
    """The judged row of the arrays."""
    return build_report(INSTRUMENT, DAY, evidence, **arrays, as_of_ns=LONG_AFTER_NS)


def test_a_clean_day_is_available():
    """Nothing planted, nothing found; every second from first to last message is valid."""
    row = row_of(a_clean_day())

    assert ("available", (), ()) == (row.condition, row.reasons, row.warnings)
    assert (172_800, 86_399.5, 86_399.5) == (row.messages, row.observed_seconds, row.valid_seconds)
    assert ("0.1", "0.001", False, True) == (
        row.tick,
        row.lot,
        row.tick_inferred,
        row.lot_inferred,
    )
    assert 5.0 == row.skew_p50_ms


def test_planted_faults_are_measured_and_judged():
    """A silence, a crossed minute, a late seed, a clock step and an off-tick price in one day."""
    arrays = a_clean_day()
    seconds = np.arange(172_800) // 2
    arrays["flags"][seconds < 1] = BookFlag.NOT_SEEDED
    arrays["flags"][(seconds >= 7_200) & (seconds < 7_260)] = BookFlag.CROSSED
    arrays["ts_receipt_ns"][seconds >= 50_000] += 40_000_000
    silent = (seconds > 3_590) & (seconds < 3_610)
    for name in ("ts_origin_ns", "ts_receipt_ns", "sequence_number", "flags"):
        arrays[name] = arrays[name][~silent]
    loss = PrecisionLoss.at("1.snappy.parquet", 17, 61_800.25, Decimal("0.1"))
    evidence = replace(
        EVIDENCE, price_precision=PrecisionReport("price", Decimal("0.1"), 1, (loss,))
    )
    row = row_of(arrays, evidence)

    assert "degraded" == row.condition
    assert (1, 19.5, (1,)) == (row.gap_count, row.gap_seconds, row.gap_trades)
    assert DAY_START_NS + 3_590_505_000_000 == row.first_gap_ns == row.longest_gap_ns
    assert (60.0, DAY_START_NS + 7_200_005_000_000) == (row.crossed_seconds, row.first_crossed_ns)
    assert (1, pytest.approx(40.0, abs=0.1)) == (row.clock_steps, row.largest_clock_step_ms)
    assert (1.0, 1.0) == (row.not_seeded_seconds, row.invalid_seconds)
    assert row.observed_seconds - 61 == pytest.approx(row.valid_seconds, abs=1e-6)
    assert ("price", 17, 61_800.25) == (
        row.first_precision_column,
        row.first_precision_row,
        row.first_precision_value,
    )
    assert ["gap", "price off", "crossed"] == [
        next(word for word in ("gap", "price off", "crossed") if word in reason)
        for reason in row.reasons
    ]
    assert 1 == len(row.warnings)


def test_a_size_loss_is_located_when_no_price_is_lost():
    """The located offender is of the prices if there is one, else of the sizes."""
    loss = PrecisionLoss.at("2.snappy.parquet", 3, 0.0005, Decimal("0.001"))
    sizes = PrecisionReport("size", Decimal("0.001"), 1, (loss,))
    row = row_of(a_clean_day(), replace(EVIDENCE, size_precision=sizes))

    assert ("available", 1, "size", 3) == (
        row.condition,
        row.size_precision_losses,
        row.first_precision_column,
        row.first_precision_row,
    )


def test_the_arrays_are_not_changed():
    """Measuring a day leaves its arrays as they were, read-only ones included."""
    arrays = a_clean_day()
    copies = {name: array.copy() for name, array in arrays.items()}
    for array in arrays.values():
        array.flags.writeable = False
    row_of(arrays)

    assert all(np.array_equal(copies[name], array) for name, array in arrays.items())


@pytest.mark.parametrize("outcome", ["no_data", "quarantined"])
@pytest.mark.parametrize(("lag_seconds", "expected"), [(3_599, "missing"), (3_601, "pending")])
def test_a_failure_has_a_row_too(outcome, lag_seconds, expected):
    """An instrument that could not be rebuilt has a row with the error's kind and whole text."""
    row = report_failure(
        INSTRUMENT,
        DAY,
        outcome=outcome,
        failure_kind="SchemaError",
        failure="A column is missing. Fetch the file again.",
        code_version=None,
        as_of_ns=DAY_END_NS + 3_600 * NS_PER_SECOND,
        vendor_lag_seconds=lag_seconds,
    )

    assert (outcome, "SchemaError", expected) == (row.outcome, row.failure_kind, row.condition)
    assert ("A column is missing. Fetch the file again.",) == row.reasons == (row.failure,)
    assert (None, None) == (row.valid_seconds, row.code_version)


def test_a_real_day_is_degraded_for_its_head_and_early_on_every_row():
    """Of the sample's 345 seconds every one is valid; the head is missing, the clock warns."""
    sample = sample_day("BINANCE_FUTURES", "BTC-USDT-PERP", date(2024, 8, 8))
    row = row_of(
        {
            "ts_origin_ns": sample.ts_origin_ns,
            "ts_receipt_ns": sample.ts_receipt_ns,
            "sequence_number": sample.sequence_number,
            "flags": np.zeros(len(sample.sequence_number), dtype=np.uint16),
            "trade_origin_ns": sample.trades["ts_origin_ns"].to_numpy(),
            "trade_receipt_ns": sample.trades["ts_receipt_ns"].to_numpy(),
        }
    )

    assert ("degraded", 1, 1) == (row.condition, len(row.reasons), len(row.warnings))
    assert row.reasons[0].startswith("The first 86,055.03 s are missing, up to 23:54:15.030314 UTC")
    assert -1_270.0 == pytest.approx(row.skew_p50_ms, abs=1.0)
    assert (1.0, 0, 0) == (row.negative_latency_share, row.gap_count, row.clock_steps)
    assert (row.last_message_ns - row.first_message_ns) / NS_PER_SECOND == row.valid_seconds
    assert THRESHOLDS == INSTRUMENT.thresholds
    assert day_bounds_ns(DAY)[0] == DAY_START_NS
