"""Depth of the whole book by distance from the mid, of each checkpoint, as far as it is known.

The 20 levels of `books.depth` often end within a basis point of the mid; a checkpoint has them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.books.tables import CHECKPOINTS, IDENTITY
from market_pipeline.warehouse.tables import Column, View

__all__ = ["CHECKPOINT_BPS", "CHECKPOINT_DEPTH"]

CHECKPOINT_BPS: Final = (5, 10, 25, 50, 100)
"""So far from the mid, in basis points, levels are summed."""

_OF_CHECKPOINT = {column.name: column for column in CHECKPOINTS.columns}
_SAME = ("kind", "ts_receipt_ns", "sequence_number", "messages", "flags")
_BIDS, _ASKS = "bid", "ask"


def _far(side: str, ticks: str) -> str:
    """Ten thousand times how far a price is from the mid, in half ticks: a whole number."""
    away = f"2 * {ticks} - mid2" if side == _ASKS else f"mid2 - 2 * {ticks}"
    return f"10000 * ({away})"


def _depth(side: str, bps: int) -> str:
    within = f"len(list_filter({side}_price_ticks, lambda x: {_far(side, 'x')} <= {bps} * mid2))"
    lots = f"coalesce(list_sum({side}_size_lots[1:{within}]), 0)"
    is_known = f"{_far(side, f'{side}_horizon_ticks')} >= {bps} * mid2"
    return f"CASE WHEN {is_known} THEN {lots} * CAST(lot AS DOUBLE) END AS {side}_depth_{bps}bps"


def _figures() -> Iterator[str]:
    yield "mid2 / 2 * CAST(tick AS DOUBLE) AS mid"
    for side in (_BIDS, _ASKS):
        yield f"{_far(side, f'{side}_horizon_ticks')} / mid2 AS {side}_confirmed_bps"
    for bps in CHECKPOINT_BPS:
        yield from (_depth(side, bps) for side in (_BIDS, _ASKS))


CHECKPOINT_DEPTH = View(
    schema="metrics",
    name="checkpoint_depth",
    description="Depth by distance from the mid, of all levels, at each checkpoint whose book is "
    "valid and has both sides.",
    columns=(
        *IDENTITY,
        *(_OF_CHECKPOINT[name] for name in _SAME),
        Column("mid", "DOUBLE", "Half of best bid plus best ask."),
        *(
            Column(
                f"{side}_confirmed_bps",
                "DOUBLE",
                f"How far {where} the mid snapshots confirmed every {side}, in basis points.",
            )
            for side, where in ((_BIDS, "below"), (_ASKS, "above"))
        ),
        *(
            Column(
                f"{side}_depth_{bps}bps",
                "DOUBLE",
                f"Size of the {side}s within {bps} bps of the mid; null unless confirmed so far.",
            )
            for bps in CHECKPOINT_BPS
            for side in (_BIDS, _ASKS)
        ),
    ),
    query=f"""
SELECT exchange, symbol, dt, {", ".join(_SAME)}, {", ".join(_figures())}
FROM (
    SELECT *, bid_price_ticks[1] + ask_price_ticks[1] AS mid2
    FROM {CHECKPOINTS.sql_name}
    WHERE flags & {int(INVALIDATING)} = 0
)
WHERE mid2 > 0
""",
)
