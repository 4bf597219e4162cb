"""Rows and instruments for tests: a day without fault, to be changed one figure at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

from market_pipeline.books.record import RebuildRecord
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.intervals import NS_PER_SECOND, day_bounds_ns
from market_pipeline.quality.row import ReportRow

DAY = date(2024, 8, 8)
DAY_START_NS, DAY_END_NS = day_bounds_ns(DAY)
NOON_NS = DAY_START_NS + 12 * 3_600 * NS_PER_SECOND
LONG_AFTER_NS = DAY_END_NS + 30 * 86_400 * NS_PER_SECOND

INSTRUMENT = Instrument(
    venue="BINANCE_FUTURES",
    symbol="BTC-USDT-PERP",
    source="crypto_lake",
    tick=Decimal("0.1"),
    lot=Decimal("0.001"),
)
THRESHOLDS = Thresholds()


def a_record(**columns: Any) -> RebuildRecord:
    """A row of `books.rebuilds` of a rebuilt day that says no more than it is given."""
    identity = {"exchange": INSTRUMENT.venue, "symbol": INSTRUMENT.symbol, "dt": DAY}
    return RebuildRecord(**{**identity, "outcome": "rebuilt", **columns})


_PERFECT = ReportRow(
    exchange="BINANCE_FUTURES",
    symbol="BTC-USDT-PERP",
    dt=DAY,
    outcome="rebuilt",
    condition="available",
    seed="book row 0 of 1.snappy.parquet",
    strategy="full_deltas",
    strategy_reason="The deltas can be used.",
    rows=5_000,
    messages=1_000,
    snapshots=100,
    trades=10,
    first_message_ns=DAY_START_NS,
    last_message_ns=DAY_END_NS - 1,
    observed_seconds=86_400.0,
    missing_seconds=0.0,
    valid_seconds=86_400.0,
    verified_seconds=86_300.0,
    unverified_seconds=100.0,
    unconfirmed_seconds=0.0,
    invalid_seconds=0.0,
    not_seeded_seconds=0.0,
    after_gap_seconds=0.0,
    stale_seconds=0.0,
    snapshot_mismatch_seconds=0.0,
    precision_loss_seconds=0.0,
    unsound_seconds=0.0,
    gap_count=0,
    gap_seconds=0.0,
    longest_gap_seconds=0.0,
    gap_threshold_seconds=1.0,
    gap_starts_ns=(),
    gap_ends_ns=(),
    gap_trades=(),
    gap_snapshots=(),
    outage_count=0,
    outage_seconds=0.0,
    outage_factor=12.0,
    gaps_per_hour=(0,) * 24,
    proven_gap_count=0,
    quiet_count=0,
    quiet_seconds=0.0,
    longest_quiet_seconds=0.0,
    quiet_starts_ns=(),
    quiet_ends_ns=(),
    head_gap_seconds=0.0,
    tail_gap_seconds=0.0,
    sequence_backwards=0,
    unordered_messages=0,
    duplicate_messages=0,
    stale_messages=0,
    repeated_messages=0,
    late_messages=0,
    sequence_restarts=0,
    bad_sequences=0,
    unordered_per_hour=(0,) * 24,
    domain_violations=0,
    deltas_outside_day=0,
    snapshots_outside_day=0,
    trades_outside_day=0,
    outside_day_share=0.0,
    files_twice=0,
    trade_files_twice=0,
    repeated_trades=0,
    files_elsewhere=0,
    files_elsewhere_doubtful=0,
    delivery_remarks=(),
    crossed_count=0,
    crossed_seconds=0.0,
    longest_crossed_seconds=0.0,
    crossed_seconds_per_hour=(0.0,) * 24,
    locked_count=0,
    locked_seconds=0.0,
    skew_p001_ms=1.0,
    skew_p01_ms=2.0,
    skew_p50_ms=3.0,
    skew_p99_ms=4.0,
    skew_p999_ms=5.0,
    skew_p50_ms_per_hour=(3.0,) * 24,
    worst_skew_ms=9.0,
    worst_skew_ns=NOON_NS,
    negative_latency_share=0.0,
    clock_drift_ppm=0.1,
    clock_steps=0,
    origin_granularity_us=1_000,
    receipt_granularity_us=1,
    price_precision_losses=0,
    size_precision_losses=0,
    snapshot_precision_losses=0,
    unknown_removals=7,
    snapshots_compared=99,
    snapshots_uncompared=0,
    uncompared_share=0.0,
    longest_uncompared_seconds=0.0,
    snapshots_misplaced=0,
    snapshots_off_number=0,
    snapshots_stale=0,
    snapshot_matching_share=1.0,
    max_mid_deviation_ticks=0.0,
    ghost_share=0.0,
    missing_share=0.0,
    snapshots_mismatched=0,
    snapshots_compared_per_hour=(4,) * 24,
    snapshots_mismatched_per_hour=(0,) * 24,
    snapshot_levels_differing_per_hour=(0,) * 24,
    day_boundary_levels=40,
    day_boundary_mismatch_share=0.0,
    day_boundary_mid_deviation_ticks=0.0,
    day_boundary_pause_seconds=0.1,
    trades_compared=10,
    trades_through=0,
    trade_through_per_hour=(0,) * 24,
    reference_minutes=3,
    reference_messages=30,
    reference_differing_messages=0,
    bars=9,
    bar_violations=0,
    missing_bars=0,
    known_low_price=60_000.0,
    known_high_price=62_000.0,
    tick="0.1",
    lot="0.001",
    tick_inferred=False,
    lot_inferred=False,
    tick_seen="0.1",
    lot_seen="0.001",
    tick_day_before="0.1",
    lot_day_before="0.001",
    input_sha256=("ab" * 32,),
    code_version="0.1.0",
)

GAP_OF_5_S: dict[str, Any] = {
    "gap_count": 1,
    "gap_seconds": 5.0,
    "longest_gap_seconds": 5.0,
    "longest_gap_ns": NOON_NS,
    "first_gap_ns": NOON_NS,
    "gap_starts_ns": (NOON_NS,),
    "gap_ends_ns": (NOON_NS + 5 * NS_PER_SECOND,),
    "gap_trades": (14,),
    "gap_snapshots": (0,),
}


def a_row(**changes: Any) -> ReportRow:
    """A rebuilt day without fault but for the changes."""
    return replace(_PERFECT, **changes)


def a_failed_row(failure_kind: str = "MissingDataError", **changes: Any) -> ReportRow:
    """A day of which nothing could be rebuilt."""
    return ReportRow(
        **{
            "exchange": "BINANCE_FUTURES",
            "symbol": "BTC-USDT-PERP",
            "dt": DAY,
            "outcome": "no_data" if failure_kind == "MissingDataError" else "quarantined",
            "failure_kind": failure_kind,
            "failure": "There is no raw file. Fetch the day.",
            **changes,
        }
    )
