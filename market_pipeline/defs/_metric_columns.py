"""Which upstream columns the metrics are made of."""

from __future__ import annotations

from collections.abc import Iterable

from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.metrics.change_columns import DEPTH_CHANGE_COLUMNS
from market_pipeline.metrics.columns import DEPTH_COLUMNS, FLOW_COLUMNS, RETURN_STEPS_MS, step_text
from market_pipeline.metrics.flow import FLOW_INPUT
from market_pipeline.metrics.tables import HOURLY

__all__ = ["DAILY", "IN_FORCE", "MEASURES", "PRICES", "SIZES", "TOUCH", "each"]


def each(
    columns: Iterable[str], sources: list[tuple[str, str]]
) -> dict[str, list[tuple[str, str]]]:
    """Several columns that come from the same."""
    return dict.fromkeys(columns, sources)


IN_FORCE = [("book_bbo", "ts_receipt_ns"), ("book_bbo", "flags")]
_DEPTH_IN_FORCE = [("book_depth", "ts_receipt_ns"), ("book_depth", "flags")]
PRICES = [("book_bbo", f"{side}_price_ticks") for side in ("bid", "ask")]
SIZES = [("book_bbo", f"{side}_size_lots") for side in ("bid", "ask")]
TOUCH = [*PRICES, *IN_FORCE]
_CONFIRMED = [("book_depth", f"{side}_levels_confirmed") for side in ("bid", "ask")]


def _depth_sources(name: str) -> list[tuple[str, str]]:
    """What a sum over levels of a side, or the imbalance of both, is made of."""
    sides = [side for side in ("bid", "ask") if name.startswith(side)] or ["bid", "ask"]
    by_distance = name.endswith("bps")
    parts = ("price_ticks", "size_lots") if by_distance else ("size_lots",)
    levels = DEPTH_LEVELS if by_distance else int(name.rsplit("_", 1)[1])
    return [
        *(
            ("book_depth", f"{side}_{level}_{part}")
            for side in sides
            for part in parts
            for level in range(levels)
        ),
        *_CONFIRMED,
        *_DEPTH_IN_FORCE,
    ]


def _change_sources(name: str) -> list[tuple[str, str]]:
    """What is compared of two rows: of one level that alone, else all levels."""
    first, last = 0, DEPTH_LEVELS
    if name.startswith("ofi_level"):
        last = int(name.rsplit("_", 1)[1])
        first = last - 1 if name.startswith("ofi_level_") else 0
    return [
        *(
            ("book_depth", f"{side}_{level}_{part}")
            for side in ("bid", "ask")
            for part in ("price_ticks", "size_lots")
            for level in range(first, last)
        ),
        *_CONFIRMED,
        *_DEPTH_IN_FORCE,
        *_PAIRS,
    ]


_PAIRS = [("book_bbo", "sequence_number"), ("book_depth", "sequence_number"), *IN_FORCE]


_STAMPS = [IN_FORCE[0]]
_RETURNS = [
    f"{name}_{step_text(step_ms)}"
    for step_ms in RETURN_STEPS_MS
    for name in ("realised_variance", "return_count")
]
_TRADED = [("trades", name) for name in ("ts_receipt_ns", "is_market")]
_TAKER = [*_TRADED, ("trades", "is_buy")]
_ORDERS = [*_TRADED, ("trades", "id"), ("trades", "taker_order")]
_VOLUME = [*_TAKER, ("trades", "size")]
_MEASURES = {
    "message_count": _STAMPS,
    "valid_seconds": IN_FORCE,
    **each(("quoted_seconds", "spread", "spread_ticks", "spread_bps", "mid"), TOUCH),
    **each(_RETURNS, TOUCH),
    "mid_change_count": TOUCH,
    **each(
        ("weighted_mid", "touch_imbalance", "ofi", "ofi_event_count"),
        [*PRICES, *SIZES, *IN_FORCE],
    ),
    **{
        f"{side}_{name}": [*more, SIZES[at], *IN_FORCE]
        for at, side in enumerate(("bid", "ask"))
        for name, more in (("touch_size", []), ("change_count", [PRICES[at]]))
    },
    **each(
        (
            *(f"inter_arrival_{name}" for name in ("count", "mean_ms", "p50_ms", "p99_ms")),
            "inter_arrival_zero_share",
        ),
        IN_FORCE,
    ),
    "depth_valid_seconds": _DEPTH_IN_FORCE,
    **each(("levels_confirmed", "confirmed_bps"), [*_CONFIRMED, *_DEPTH_IN_FORCE]),
    **{
        column.name: _depth_sources(column.name)
        for column in DEPTH_COLUMNS
        if "depth_" in column.name.removeprefix("depth_valid")
    },
    **{column.name: _change_sources(column.name) for column in DEPTH_CHANGE_COLUMNS},
    "trade_count": _TRADED,
    "buy_count": _TAKER,
    "taker_order_count": _ORDERS,
    **each(("buy_volume", "sell_volume"), _VOLUME),
    **each((column.name for column in FLOW_COLUMNS), [("trades", name) for name in FLOW_INPUT]),
    "trade_to_book_ratio": [*_ORDERS, *_STAMPS],
}
MEASURES = {"interval_start": _STAMPS, **_MEASURES}
DAILY = {
    **_MEASURES,
    "receipt_granularity_ns": IN_FORCE,
    **{f"{name}_by_hour": _MEASURES[name] for name, _, _ in HOURLY if name != "volume"},
    "volume_by_hour": _VOLUME,
}
