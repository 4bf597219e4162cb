"""Which upstream columns each column of a derived table is made of.

Those of a raw asset are the columns of its files, not those of the manifest it publishes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from market_pipeline.books.state import DEPTH_LEVELS

__all__ = ["COLUMN_SOURCES"]

_Sources = Mapping[str, Sequence[tuple[str, str]]]


def _each(
    columns: Iterable[str], sources: list[tuple[str, str]]
) -> dict[str, list[tuple[str, str]]]:
    """Several columns that come from the same."""
    return dict.fromkeys(columns, sources)


_DELTAS, _SNAPSHOTS, _TRADES = "raw_book_deltas", "raw_book_snapshots", "raw_trades"
_EVENT = {
    name: [(_DELTAS, column), (_SNAPSHOTS, column)]
    for name, column in (
        ("ts_origin_ns", "timestamp"),
        ("ts_receipt_ns", "receipt_timestamp"),
        ("sequence_number", "sequence_number"),
    )
}
_FLAGS = [*_EVENT["ts_receipt_ns"], *_EVENT["sequence_number"], (_TRADES, "receipt_timestamp")]


def _level(side: str, level: int, part: str) -> list[tuple[str, str]]:
    """A price or size: from the deltas of that side, and what a snapshot says of that level."""
    deltas = ["side_is_bid", "price", *(["size"] if part == "size" else [])]
    return [*((_DELTAS, column) for column in deltas), (_SNAPSHOTS, f"{side}_{level}_{part}")]


_UNITS = (("price", "ticks"), ("size", "lots"))
_BBO = {
    **_EVENT,
    "flags": _FLAGS,
    **{
        name: _level(side, 0, part)
        for side in ("bid", "ask")
        for part, unit in _UNITS
        for name in (f"{side}_{part}", f"{side}_{part}_{unit}")
    },
}
_DEPTH = {
    **_EVENT,
    "flags": _FLAGS,
    **{
        name: _level(side, level, part)
        for side in ("bid", "ask")
        for level in range(DEPTH_LEVELS)
        for part, unit in _UNITS
        for name in (f"{side}_{level}_{part}", f"{side}_{level}_{part}_{unit}")
    },
}
_CHECKPOINTS = {
    **_EVENT,
    "flags": _FLAGS,
    **{
        f"{side}_{part}_{unit}": [
            source
            for level in range(DEPTH_LEVELS)
            for source in _level(side, level, part)[0 if level == 0 else -1 :]
        ]
        for side in ("bid", "ask")
        for part, unit in _UNITS
    },
    **{
        f"{side}_horizon_ticks": [(_SNAPSHOTS, f"{side}_{DEPTH_LEVELS - 1}_price")]
        for side in ("bid", "ask")
    },
}
_INTERVALS = {
    **_each(("start_ns", "end_ns"), _EVENT["ts_receipt_ns"]),
    **_each(("start_sequence_number", "end_sequence_number"), _EVENT["sequence_number"]),
    **_each(("cause", "invalidates", "action"), _FLAGS),
}

_IN_FORCE = [("book_bbo", "ts_receipt_ns"), ("book_bbo", "flags")]
_DEPTH_IN_FORCE = [("book_depth", "ts_receipt_ns"), ("book_depth", "flags")]
_PRICES = [("book_bbo", f"{side}_price_ticks") for side in ("bid", "ask")]
_SIZES = [("book_bbo", f"{side}_size_lots") for side in ("bid", "ask")]
_TOUCH = [*_PRICES, *_IN_FORCE]
_TRADE_TIME = (_TRADES, "receipt_timestamp")
_TAKEN = [(_TRADES, "side"), (_TRADES, "amount"), _TRADE_TIME]
_TRADED = [(_TRADES, "price"), _TRADE_TIME]


def _depth_sizes(*sides: str) -> list[tuple[str, str]]:
    sizes = [
        ("book_depth", f"{side}_{level}_size") for side in sides for level in range(DEPTH_LEVELS)
    ]
    return [*sizes, *_DEPTH_IN_FORCE]


_METRICS = {
    "minute_start": [_IN_FORCE[0], _TRADE_TIME],
    "valid_seconds": _IN_FORCE,
    "message_count": [_IN_FORCE[0]],
    "trade_count": [_TRADE_TIME],
    **_each(("buy_volume", "sell_volume"), _TAKEN),
    **_each(("trade_open", "trade_high", "trade_low", "trade_close"), _TRADED),
    **_each(("spread", "spread_ticks", "spread_bps", "mid"), _TOUCH),
    "weighted_mid": [*_PRICES, *_SIZES, *_IN_FORCE],
    "bid_touch_size": [_SIZES[0], *_IN_FORCE],
    "ask_touch_size": [_SIZES[1], *_IN_FORCE],
    "touch_imbalance": [*_SIZES, *_IN_FORCE],
    "bid_depth_20": _depth_sizes("bid"),
    "ask_depth_20": _depth_sizes("ask"),
    "depth_imbalance_20": _depth_sizes("bid", "ask"),
    "depth_valid_seconds": _DEPTH_IN_FORCE,
}


def _every_level(part: str) -> list[tuple[str, str]]:
    """That part of all levels of the snapshots."""
    return [
        (_SNAPSHOTS, f"{side}_{level}_{part}")
        for side in ("bid", "ask")
        for level in range(DEPTH_LEVELS)
    ]


def _of(asset: str, *columns: str) -> list[tuple[str, str]]:
    return [(asset, column) for column in columns]


_RAW_TIMES = _of(_DELTAS, "receipt_timestamp") + _of(_SNAPSHOTS, "receipt_timestamp")
_RAW_TIMES += _of(_TRADES, "receipt_timestamp")
_RAW_ORIGINS = [(asset, "timestamp") for asset in (_DELTAS, _SNAPSHOTS, _TRADES)]
_RAW_NUMBERS = [(asset, "sequence_number") for asset in (_DELTAS, _SNAPSHOTS)]
_RAW_PRICES = [(_DELTAS, "price"), *_every_level("price"), (_TRADES, "price")]
_RAW_SIZES = [(_DELTAS, "size"), *_every_level("size"), (_TRADES, "amount")]
_RAW_PLACES = [*_RAW_TIMES, *_RAW_ORIGINS, *_RAW_NUMBERS, *_RAW_PRICES, *_RAW_SIZES]
_PROFILES = {
    "messages": [*_RAW_TIMES, *_RAW_NUMBERS],
    **_each(("first_ts_receipt_ns", "last_ts_receipt_ns"), _RAW_TIMES),
    **_each(("first_sequence_number", "last_sequence_number", "sequence_changes"), _RAW_NUMBERS),
    **_each(("zero_prices", "negative_prices", "tick_seen", "tick_settled_rows"), _RAW_PRICES),
    **_each(("zero_sizes", "negative_sizes", "lot_seen", "lot_settled_rows"), _RAW_SIZES),
    "removals": _of(_DELTAS, "size"),
    "not_finite": [*_RAW_PRICES, *_RAW_SIZES],
    "unknown_sides": _of(_TRADES, "side"),
    **_each(
        ("zero_times", "negative_times", "future_times", "negative_latencies"),
        [*_RAW_TIMES, *_RAW_ORIGINS],
    ),
    **_each(
        (
            *("times_outside_day", "unordered_messages", "receipts_outside_day"),
            *("earliest_outside_ns", "latest_outside_ns", "outside_day", "files_outside_day"),
        ),
        _RAW_TIMES,
    ),
    **_each(("first_price", "last_price"), _RAW_PRICES),
    "prices_per_hour": [*_RAW_TIMES, *_RAW_PRICES],
    "unordered_origins": _RAW_ORIGINS,
    "sequence_backwards": _RAW_NUMBERS,
    **_each(
        ("duplicate_messages", "disordered_per_hour"),
        [*_RAW_TIMES, *_RAW_NUMBERS],
    ),
    **_each(
        (
            *("place_kinds", "place_files", "place_rows", "place_columns", "place_values"),
            *("place_expected", "place_ts_receipt_ns", "place_sequence_numbers"),
        ),
        _RAW_PLACES,
    ),
}

_BOOK = [*_of(_DELTAS, "side_is_bid", "price", "size"), *_every_level("price")]
_BOOK += _every_level("size")
_BOOK_TIMES = [*_EVENT["ts_receipt_ns"], *_EVENT["sequence_number"]]
_SNAPSHOT = [*_BOOK, *_BOOK_TIMES]
_REBUILDS = {
    **_each(("strategy", "strategy_reason"), _of("raw_profiles", "raw_table", "status")),
    "tick": [(_DELTAS, "price"), *_every_level("price")],
    "lot": [(_DELTAS, "size"), *_every_level("size")],
    "messages": _BOOK_TIMES,
    **_each(
        ("snapshots_unusable", "levels_learned"), [*_every_level("price"), *_every_level("size")]
    ),
    **_each(("snapshots_unplaced", "seed_sequence_number"), _EVENT["sequence_number"]),
    "seed_ts_receipt_ns": _EVENT["ts_receipt_ns"],
    "gaps": [*_EVENT["ts_receipt_ns"], _TRADE_TIME],
    **_each(
        (
            *("crossed_messages", "crossed_seconds", "locked_messages", "locked_seconds"),
            *("uncrossed_levels", "unknown_removals", "resyncs"),
        ),
        _SNAPSHOT,
    ),
    **_each(
        ("min_latency_ms", "max_latency_ms", "negative_latency_messages"),
        [*_EVENT["ts_origin_ns"], *_EVENT["ts_receipt_ns"]],
    ),
    **_each(
        (
            *(
                "snapshots_compared",
                "snapshots_mismatched",
                "snapshot_levels",
                "snapshot_levels_matching",
            ),
            *(
                "snapshot_levels_missing",
                "snapshot_levels_ours",
                "snapshot_levels_ghost",
                "snapshot_size_error",
            ),
            *(
                "max_mid_deviation_ticks",
                "snapshots_compared_per_hour",
                "snapshots_mismatched_per_hour",
            ),
            "snapshot_levels_differing_per_hour",
            *(
                f"{which}_mismatch_{part}"
                for which in ("first", "worst")
                for part in ("ns", "sequence_number", "levels_differing", "ours", "theirs")
            ),
        ),
        _SNAPSHOT,
    ),
    **{
        f"known_{name}_price": _of(_SNAPSHOTS, f"{side}_{DEPTH_LEVELS - 1}_price")
        for name, side in (("low", "bid"), ("high", "ask"))
    },
    **{
        f"{column}_{part}": [(_DELTAS, column), *_every_level(column)]
        for column in ("price", "size")
        for part in ("losses", "loss_files", "loss_rows", "loss_values")
    },
}

_TIMES = _of("book_bbo", "ts_receipt_ns")
_CLOCKS = _of("book_bbo", "ts_origin_ns", "ts_receipt_ns")
_SPANS = _of("book_intervals", "start_ns", "end_ns", "cause", "invalidates")
_GAPS = [*_TIMES, _TRADE_TIME]
_THROUGH = [*_PRICES, *_IN_FORCE, *_of(_TRADES, "side", "price", "receipt_timestamp")]
_BARS = _of(_TRADES, "price", "amount", "receipt_timestamp")
_CLOSE = [
    ("book_checkpoints", f"{side}_{part}_{unit}")
    for side in ("bid", "ask")
    for part, unit in _UNITS
]
_REPORT = {
    **{
        name: _of("book_rebuilds", name)
        for name in (
            *("outcome", "failure_kind", "failure", "strategy", "strategy_reason", "rows"),
            *("snapshots", "unknown_removals", "max_mid_deviation_ticks", "snapshot_size_error"),
            *(
                "snapshots_mismatched",
                "snapshots_compared_per_hour",
                "snapshots_mismatched_per_hour",
            ),
            *("snapshots_uncompared", "uncompared_reasons", "first_uncompared_ns"),
            *("longest_uncompared_seconds", "longest_uncompared_ns", "snapshots_misplaced"),
            *("first_misplaced_ns", "snapshots_off_number", "snapshots_stale", "first_stale_ns"),
            *("stale_messages", "repeated_messages", "late_messages", "first_old_ns"),
            *("first_restart_ns", "split_messages", "first_split_ns"),
            *("bad_sequences", "first_bad_sequence_ns"),
            *("snapshot_levels_differing_per_hour", "known_low_price", "known_high_price", "tick"),
            *("lot", "tick_inferred", "lot_inferred", "input_sha256", "code_version"),
        )
    },
    "seed": _of("book_rebuilds", "seed", "seed_sequence_number"),
    "trades": [_TRADE_TIME],
    **_each(
        ("messages", "first_message_ns", "last_message_ns", "head_gap_seconds", "tail_gap_seconds"),
        _TIMES,
    ),
    **_each(
        (
            *("observed_seconds", "missing_seconds", "valid_seconds", "verified_seconds"),
            *("unverified_seconds", "unconfirmed_seconds", "invalid_seconds"),
            *("not_seeded_seconds", "unsound_seconds"),
            *("after_gap_seconds", "stale_seconds", "snapshot_mismatch_seconds"),
            *("precision_loss_seconds", "crossed_count", "crossed_seconds"),
            *("longest_crossed_seconds", "longest_crossed_ns", "crossed_seconds_per_hour"),
            *("first_crossed_ns", "locked_count", "locked_seconds"),
            *("proven_gap_count", "longest_reconvergence_seconds"),
        ),
        _SPANS,
    ),
    **_each(
        (
            *("gap_count", "gap_seconds", "longest_gap_seconds", "longest_gap_ns", "first_gap_ns"),
            *("gap_threshold_seconds", "gap_starts_ns", "gap_ends_ns", "gap_trades"),
            *("outage_count", "outage_seconds", "outage_factor"),
            *("gaps_per_hour", "quiet_count", "quiet_seconds", "longest_quiet_seconds"),
            *("longest_quiet_ns", "quiet_starts_ns", "quiet_ends_ns"),
        ),
        _GAPS,
    ),
    "gap_snapshots": [
        *_GAPS,
        *_of(_SNAPSHOTS, "receipt_timestamp", "sequence_number", "bid_0_price", "ask_0_price"),
    ],
    **{
        name: _of("raw_profiles", source)
        for name, source in (
            ("sequence_backwards", "sequence_backwards"),
            ("unordered_messages", "unordered_messages"),
            ("duplicate_messages", "duplicate_messages"),
            ("unordered_per_hour", "disordered_per_hour"),
            ("unreadable_tables", "status"),
            ("first_unreadable_table", "failure"),
            ("tick_seen", "tick_seen"),
            ("lot_seen", "lot_seen"),
            ("tick_day_before", "tick_seen"),
            ("lot_day_before", "lot_seen"),
        )
    },
    "first_sequence_backwards_ns": _of("raw_profiles", "place_kinds", "place_ts_receipt_ns"),
    "domain_violations": _of(
        "raw_profiles",
        *("zero_prices", "negative_prices", "zero_sizes", "negative_sizes", "not_finite"),
        *("unknown_sides", "zero_times", "negative_times", "future_times", "null_rows"),
    ),
    "first_domain_violation": _of("raw_profiles", "place_kinds", "place_values", "place_expected"),
    "step_change": _of("raw_profiles", "tick_seen", "lot_seen", "tick_settled_rows"),
    **_each(
        ("deltas_outside_day", "snapshots_outside_day", "trades_outside_day"),
        _of("raw_profiles", "receipts_outside_day"),
    ),
    **_each(
        ("outside_day_share", "outside_day_table"), _of("raw_profiles", "receipts_outside_day")
    ),
    **{
        name: _of("raw_profiles", name)
        for name in (
            *("outside_day", "earliest_outside_ns", "latest_outside_ns", "files_outside_day"),
            "first_price",
        )
    },
    "price_day_before": [
        *_of("book_checkpoints", "tick", "bid_price_ticks", "ask_price_ticks"),
        *_of("raw_profiles", "last_price"),
    ],
    "price_day_before_apart": [
        *_of("book_checkpoints", "tick", "bid_price_ticks", "ask_price_ticks"),
        *_of("raw_profiles", "first_price", "last_price"),
    ],
    **_each(
        ("price_tables_apart", "price_tables", "foreign_price_table"),
        _of("raw_profiles", "prices_per_hour"),
    ),
    **_each(
        ("snapshot_precision_losses", "first_snapshot_precision_loss"),
        [*_every_level("price"), *_every_level("size")],
    ),
    **_each(
        (
            *("skew_p001_ms", "skew_p01_ms", "skew_p50_ms", "skew_p99_ms", "skew_p999_ms"),
            *("skew_p50_ms_per_hour", "worst_skew_ms", "worst_skew_ns"),
            *("negative_latency_share", "clock_drift_ppm", "clock_steps"),
            *("largest_clock_step_ms", "largest_clock_step_ns", "first_clock_step_ns"),
        ),
        _CLOCKS,
    ),
    "origin_granularity_us": _of("book_bbo", "ts_origin_ns"),
    "receipt_granularity_us": _TIMES,
    **{
        f"{column}_precision_losses": _of("book_rebuilds", f"{column}_losses")
        for column in ("price", "size")
    },
    **{
        f"first_precision_{part}": [
            ("book_rebuilds", f"{column}_loss_{part}s") for column in ("price", "size")
        ]
        for part in ("file", "row", "value")
    },
    "first_precision_column": _of("book_rebuilds", "price_losses", "size_losses"),
    "snapshots_compared": _of("book_rebuilds", "snapshots_compared"),
    "uncompared_share": _of("book_rebuilds", "snapshots_compared", "snapshots_uncompared"),
    "sequence_restarts": _of("book_rebuilds", "restarts"),
    "snapshot_matching_share": _of("book_rebuilds", "snapshot_levels_matching", "snapshot_levels"),
    "ghost_share": _of("book_rebuilds", "snapshot_levels_ghost", "snapshot_levels_ours"),
    "missing_share": _of("book_rebuilds", "snapshot_levels_missing", "snapshot_levels"),
    "first_mismatch_ns": _of("book_rebuilds", "first_mismatch_ns"),
    **_each(
        ("day_boundary_levels", "day_boundary_mismatch_share", "day_boundary_mid_deviation_ticks"),
        [*_CLOSE, *_SNAPSHOT],
    ),
    **_each(
        ("day_boundary_pause_seconds", "day_boundary_problem"),
        [*_of("book_checkpoints", "ts_receipt_ns", "sequence_number", "flags"), *_BOOK_TIMES],
    ),
    **_each(
        (
            *("trades_compared", "trades_through", "worst_trade_through_ticks"),
            *("first_trade_through_ns", "trade_through_per_hour"),
            *("worst_trade_through_minute_share", "worst_trade_through_minute_ns"),
        ),
        _THROUGH,
    ),
    **_each(
        ("reference_messages", "reference_differing_messages", "reference_first_difference"),
        [*_CLOSE, *_SNAPSHOT, *_TOUCH, *_SIZES],
    ),
    **_each(("bars", "bar_violations", "missing_bars", "first_bar_violation_ns"), _BARS),
}
_FINDINGS = {
    "ts_receipt_ns": [*_TIMES, *_RAW_TIMES, *_of("book_intervals", "start_ns")],
    "end_ns": [*_TIMES, *_of("book_intervals", "end_ns")],
    "sequence_number": [
        *_of("book_bbo", "sequence_number"),
        *_RAW_NUMBERS,
        *_of("book_intervals", "start_sequence_number"),
    ],
    "note": _of("book_intervals", "evidence"),
}

COLUMN_SOURCES: Mapping[str, _Sources] = {
    "raw_profiles": _PROFILES,
    "book_bbo": _BBO,
    "book_depth": _DEPTH,
    "book_checkpoints": _CHECKPOINTS,
    "book_intervals": _INTERVALS,
    "book_rebuilds": _REBUILDS,
    "validation_report": _REPORT,
    "quality_findings": _FINDINGS,
    "book_metrics": _METRICS,
}
"""By asset and column, the assets and columns it comes from; what is not here is a name or a count
that comes from no single column."""
