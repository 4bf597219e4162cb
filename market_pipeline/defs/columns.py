"""Which upstream columns each column of a derived table is made of.

Those of a raw asset are the columns of its files, not those of the manifest it publishes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from market_pipeline.books.record import KernelFigures, RebuildRecord
from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.defs._event_columns import EVENT_COLUMNS
from market_pipeline.defs._fidelity_columns import FIDELITY_COLUMNS
from market_pipeline.defs._information_bar_columns import INFORMATION_BAR_COLUMNS
from market_pipeline.defs._metric_columns import (
    DAILY,
    IN_FORCE,
    MEASURES,
    PRICES,
    SIZES,
    TOUCH,
    each,
)
from market_pipeline.quality.figures.book import (
    BadStampFigures,
    CoverFigures,
    CrossedFigures,
    GapFigures,
    ProvenGapFigures,
    SkewFigures,
    ValidTimeFigures,
)
from market_pipeline.quality.figures.comparisons import (
    BarFigures,
    DayBoundaryFigures,
    ReferenceReplayFigures,
    SnapshotPrecisionFigures,
    TradeThroughFigures,
)
from market_pipeline.quality.figures.raw import OutsideDayFigures
from market_pipeline.quality.profile import PROFILES
from market_pipeline.quality.row import ReportRow
from market_pipeline.warehouse.records import Columns

__all__ = ["COLUMN_SOURCES"]

_Sources = Mapping[str, Sequence[tuple[str, str]]]


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
    **each(("start_ns", "end_ns"), _EVENT["ts_receipt_ns"]),
    **each(("start_sequence_number", "end_sequence_number"), _EVENT["sequence_number"]),
    **each(("cause", "invalidates", "action"), _FLAGS),
}

_TRADE_TIME = (_TRADES, "receipt_timestamp")
_BOOK_THEN = [IN_FORCE[0], _TRADE_TIME]
_EFFECTIVE = [(_TRADES, "price"), *PRICES, *_BOOK_THEN]
_BOOK_TRADES = {
    "ts_origin_ns": [(_TRADES, "timestamp")],
    "ts_receipt_ns": [_TRADE_TIME],
    "id": [(_TRADES, "id")],
    "taker_order": [(_TRADES, name) for name in ("id", "timestamp", "side")],
    **each(("price_ticks", "price"), [(_TRADES, "price")]),
    **each(("size_lots", "size"), [(_TRADES, "amount")]),
    "is_buy": [(_TRADES, "side")],
    **{source[1]: [source, *_BOOK_THEN] for source in (*PRICES, *SIZES)},
    "flags": [
        *(("book_bbo", "flags"), *_BOOK_THEN),
        *(("book_intervals", name) for name in ("start_ns", "end_ns", "cause")),
    ],
    "verified": [("book_bbo", "verified"), *_BOOK_THEN],
    "book_age_ns": _BOOK_THEN,
    "mid_distance_half_ticks": _EFFECTIVE,
    **each(("effective_spread_ticks", "effective_spread_bps"), [*_EFFECTIVE, (_TRADES, "side")]),
}


_PRINT_TIME = [(_TRADES, "timestamp")]
_PRINTED = [(_TRADES, "price"), *_PRINT_TIME]
_PRINTED_SIZE = [(_TRADES, "amount"), *_PRINT_TIME]
_OHLC = ("open", "high", "low", "close")
_BAR_COLUMNS = {
    **each((*_OHLC, *(f"{name}_ticks" for name in _OHLC)), _PRINTED),
    **each(("volume_lots", "volume"), _PRINTED_SIZE),
    **each(("buy_volume_lots", "buy_volume"), [*_PRINTED_SIZE, (_TRADES, "side")]),
    **each(("quote_volume", "vwap"), [*_PRINTED, (_TRADES, "amount")]),
    **each(("trade_count", "other_day_count", "outside_market_count"), _PRINT_TIME),
    **each(("first_id", "last_id"), [(_TRADES, "id"), *_PRINT_TIME]),
    "late_count": [*_PRINT_TIME, _TRADE_TIME],
    "off_step_count": [*_PRINTED, (_TRADES, "amount")],
    **each((f"mid_{name}" for name in _OHLC), TOUCH),
    **each((f"spread_{name}{unit}" for unit in ("_ticks", "") for name in _OHLC), TOUCH),
    "valid_share": IN_FORCE,
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


_RAW_TIMES = [(asset, "receipt_timestamp") for asset in (_DELTAS, _SNAPSHOTS, _TRADES)]
_RAW_ORIGINS = [(asset, "timestamp") for asset in (_DELTAS, _SNAPSHOTS, _TRADES)]
_RAW_NUMBERS = [(asset, "sequence_number") for asset in (_DELTAS, _SNAPSHOTS)]
_RAW_PRICES = [(_DELTAS, "price"), *_every_level("price"), (_TRADES, "price")]
_RAW_SIZES = [(_DELTAS, "size"), *_every_level("size"), (_TRADES, "amount")]
_RAW_PLACES = [*_RAW_TIMES, *_RAW_ORIGINS, *_RAW_NUMBERS, *_RAW_PRICES, *_RAW_SIZES]
_PROFILES = {
    "messages": [*_RAW_TIMES, *_RAW_NUMBERS],
    **each(("first_ts_receipt_ns", "last_ts_receipt_ns"), _RAW_TIMES),
    **each(("first_sequence_number", "last_sequence_number", "sequence_changes"), _RAW_NUMBERS),
    **each(("zero_prices", "negative_prices", "tick_seen", "tick_settled_rows"), _RAW_PRICES),
    **each(("zero_sizes", "negative_sizes", "lot_seen", "lot_settled_rows"), _RAW_SIZES),
    "removals": _of(_DELTAS, "size"),
    "not_finite": [*_RAW_PRICES, *_RAW_SIZES],
    "unknown_sides": _of(_TRADES, "side"),
    **each(
        ("zero_times", "negative_times", "future_times", "negative_latencies"),
        [*_RAW_TIMES, *_RAW_ORIGINS],
    ),
    **each(
        (
            *("times_outside_day", "unordered_messages", "receipts_outside_day"),
            *("earliest_outside_ns", "latest_outside_ns", "outside_day", "files_outside_day"),
        ),
        _RAW_TIMES,
    ),
    **each(("first_price", "last_price"), _RAW_PRICES),
    "prices_per_hour": [*_RAW_TIMES, *_RAW_PRICES],
    "unordered_origins": _RAW_ORIGINS,
    "sequence_backwards": _RAW_NUMBERS,
    **each(
        ("duplicate_messages", "disordered_per_hour"),
        [*_RAW_TIMES, *_RAW_NUMBERS],
    ),
    **each(
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
    **each(("strategy", "strategy_reason"), _of("raw_profiles", "raw_table", "status")),
    "tick": [(_DELTAS, "price"), *_every_level("price")],
    "lot": [(_DELTAS, "size"), *_every_level("size")],
    "messages": _BOOK_TIMES,
    **each(
        ("snapshots_unusable", "levels_learned"), [*_every_level("price"), *_every_level("size")]
    ),
    **each(("snapshots_unplaced", "seed_sequence_number"), _EVENT["sequence_number"]),
    "seed_ts_receipt_ns": _EVENT["ts_receipt_ns"],
    "gaps": [*_EVENT["ts_receipt_ns"], _TRADE_TIME],
    **each(
        (
            *("crossed_messages", "crossed_seconds", "locked_messages", "locked_seconds"),
            *("uncrossed_levels", "unknown_removals", "resyncs"),
        ),
        _SNAPSHOT,
    ),
    **each(
        ("min_latency_ms", "max_latency_ms", "negative_latency_messages"),
        [*_EVENT["ts_origin_ns"], *_EVENT["ts_receipt_ns"]],
    ),
    "max_mid_deviation_ticks": _SNAPSHOT,
    **each(
        (
            name
            for name in KernelFigures.names()
            if "mismatch" in name or name.startswith(("snapshots_compared", "snapshot_"))
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
_THROUGH = [*PRICES, *IN_FORCE, *_of(_TRADES, "side", "price", "receipt_timestamp")]
_BARS = _of(_TRADES, "price", "amount", "receipt_timestamp")
_CLOSE = [
    ("book_checkpoints", f"{side}_{part}_{unit}")
    for side in ("bid", "ask")
    for part, unit in _UNITS
]
_OF_GROUP: Mapping[type[Columns], list[tuple[str, str]]] = {
    CoverFigures: _TIMES,
    **dict.fromkeys((ValidTimeFigures, ProvenGapFigures, CrossedFigures), _SPANS),
    GapFigures: _GAPS,
    SkewFigures: _CLOCKS,
    BadStampFigures: _of("book_bbo", "flags"),
    SnapshotPrecisionFigures: [*_every_level("price"), *_every_level("size")],
    DayBoundaryFigures: [*_CLOSE, *_SNAPSHOT],
    TradeThroughFigures: _THROUGH,
    ReferenceReplayFigures: [*_CLOSE, *_SNAPSHOT, *TOUCH, *SIZES],
    BarFigures: _BARS,
}
"""What all columns of a group of the report come from, but for those below."""
_LOSSES = {"file": "loss_files", "row": "loss_rows", "value": "loss_values", "column": "losses"}
_PROFILED = {column.name for column in PROFILES.columns}
_BACKWARDS = _of("book_bbo", "sequence_number")
_CLOSING_PRICE = _of("book_checkpoints", "tick", "bid_price_ticks", "ask_price_ticks")
_CLOSING_TIME = _of("book_checkpoints", "ts_receipt_ns", "sequence_number", "flags")
_ALONE: Mapping[str, list[tuple[str, str]]] = {
    "seed": _of("book_rebuilds", "seed", "seed_sequence_number"),
    "trades": [_TRADE_TIME],
    **each((name for name in CoverFigures.names() if "quiet" in name), _GAPS),
    "gap_snapshots": [
        *_GAPS,
        *_of(_SNAPSHOTS, "receipt_timestamp", "sequence_number", "bid_0_price", "ask_0_price"),
    ],
    "sequence_backwards": _BACKWARDS,
    "first_sequence_backwards_ns": [*_BACKWARDS, *_TIMES],
    "unordered_per_hour": _of("raw_profiles", "disordered_per_hour"),
    "sequence_restarts": _of("book_rebuilds", "restarts"),
    "unreadable_tables": _of("raw_profiles", "status"),
    "first_unreadable_table": _of("raw_profiles", "failure"),
    "domain_violations": _of(
        "raw_profiles",
        *("zero_prices", "negative_prices", "zero_sizes", "negative_sizes", "not_finite"),
        *("unknown_sides", "zero_times", "negative_times", "future_times", "null_rows"),
    ),
    "first_domain_violation": _of("raw_profiles", "place_kinds", "place_values", "place_expected"),
    **each(
        (name for name in OutsideDayFigures.names() if name not in _PROFILED),
        _of("raw_profiles", "receipts_outside_day"),
    ),
    "price_day_before": [*_CLOSING_PRICE, *_of("raw_profiles", "last_price")],
    "price_day_before_apart": [*_CLOSING_PRICE, *_of("raw_profiles", "first_price", "last_price")],
    **each(
        ("price_tables_apart", "price_tables", "foreign_price_table"),
        _of("raw_profiles", "prices_per_hour"),
    ),
    "origin_granularity_us": _of("book_bbo", "ts_origin_ns"),
    "receipt_granularity_us": _TIMES,
    "price_precision_losses": _of("book_rebuilds", "price_losses"),
    "size_precision_losses": _of("book_rebuilds", "size_losses"),
    **{
        f"first_precision_{part}": _of("book_rebuilds", f"price_{name}", f"size_{name}")
        for part, name in _LOSSES.items()
    },
    "uncompared_share": _of("book_rebuilds", "snapshots_compared", "snapshots_uncompared"),
    "snapshot_matching_share": _of("book_rebuilds", "snapshot_levels_matching", "snapshot_levels"),
    "ghost_share": _of("book_rebuilds", "snapshot_levels_ghost", "snapshot_levels_ours"),
    "missing_share": _of("book_rebuilds", "snapshot_levels_missing", "snapshot_levels"),
    **each(("day_boundary_pause_seconds", "day_boundary_problem"), [*_CLOSING_TIME, *_BOOK_TIMES]),
    "trades_unplaced": _of(_TRADES, "timestamp"),
    "tick_day_before": _of("raw_profiles", "tick_seen"),
    "lot_day_before": _of("raw_profiles", "lot_seen"),
    "step_change": _of("raw_profiles", "tick_seen", "lot_seen", "tick_settled_rows"),
}


def _of_report() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each column of the report: by itself, as its group, or as the one by its name elsewhere."""
    for group in ReportRow.groups()[1:]:
        for name in group.names():
            if name in _ALONE or group in _OF_GROUP:
                yield name, _ALONE.get(name) or _OF_GROUP[group]
            elif name in RebuildRecord.names():
                yield name, _of("book_rebuilds", name)
            elif name in _PROFILED:
                yield name, _of("raw_profiles", name)


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

_FUNDING, _OPEN_INTEREST = (
    {
        "ts_origin_ns": [(raw, "timestamp")],
        "ts_receipt_ns": [(raw, "receipt_timestamp")],
        **{name: [(raw, column)] for name, column in columns.items()},
    }
    for raw, columns in (
        (
            "raw_funding",
            {name: name for name in ("rate", "mark_price", "index_price")}
            | {"next_funding_ns": "next_funding_time"},
        ),
        ("raw_open_interest", {"open_interest": "open_interest"}),
    )
)

COLUMN_SOURCES: Mapping[str, _Sources] = {
    "raw_profiles": _PROFILES,
    "book_bbo": _BBO,
    "book_depth": _DEPTH,
    "book_checkpoints": _CHECKPOINTS,
    "book_intervals": _INTERVALS,
    "book_rebuilds": _REBUILDS,
    "trades": _BOOK_TRADES,
    "market_events": EVENT_COLUMNS,
    "funding": _FUNDING,
    "open_interest": _OPEN_INTEREST,
    "validation_report": dict(_of_report()),
    "quality_findings": _FINDINGS,
    "book_metrics": MEASURES,
    "daily_metrics": DAILY,
    **FIDELITY_COLUMNS,
    "bars": _BAR_COLUMNS,
    "information_bars": INFORMATION_BAR_COLUMNS,
}
"""By asset and column, where it comes from; what is not here comes from no single column."""
