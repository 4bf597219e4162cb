"""The columns of what changed from row to row of `books.depth`, by level and by distance."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import polars as pl

from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.metrics.metric_column import MetricColumn

__all__ = ["CHANGED_LEVELS", "CHANGED_TICKS", "DEPTH_CHANGE_COLUMNS", "OFI_LEVELS", "Range"]

OFI_LEVELS: Final = 10
"""So many of the best levels have an order flow imbalance of their own."""


class Range(NamedTuple):
    """Levels, from 1 at the touch, or ticks behind it, whose changes are counted together.

    Attributes:
        column: The column that counts them.
        last: The farthest of them; the range before ends where this one begins.
        most: Changes that one pair of rows may have in it.
        where: Which prices, in words.
    """

    column: str
    last: int
    most: int
    where: str


# At a level one price may be gone and another one come, on either side; of a tick there is one.
CHANGED_LEVELS: Final = (
    Range("change_count_level_1", 1, 4, "at level 1 whose size changed"),
    Range("change_count_levels_2_5", 5, 16, "at levels 2 to 5 whose size changed"),
    Range("change_count_levels_6_10", 10, 20, "at levels 6 to 10 whose size changed"),
    Range("change_count_levels_11_20", 20, 40, "at levels 11 to 20 whose size changed"),
)
"""Ranges of levels, ascending."""

CHANGED_TICKS: Final = (
    Range(
        "change_count_inside_spread",
        -1,
        2 * DEPTH_LEVELS,
        "that came inside the spread of the row before",
    ),
    Range("change_count_at_touch", 0, 2, "at the touch of the row before whose size changed"),
    Range("change_count_1_tick", 1, 2, "1 tick behind it whose size changed"),
    Range("change_count_2_5_ticks", 5, 8, "2 to 5 ticks behind it whose size changed"),
    Range("change_count_6_10_ticks", 10, 10, "6 to 10 ticks behind it whose size changed"),
)
"""Ranges of ticks behind the touch of the row before, ascending."""

_NO_PAIR = pl.col("depth_pair_count") == 0
_LEVELS = pl.col("levels_compared").fill_null(0)
# Less than any range takes.
_TICKS = pl.col("ticks_compared").fill_null(-DEPTH_LEVELS)


def _ofi(name: str, description: str, levels: int) -> MetricColumn:
    varies = levels == 1
    return MetricColumn(
        name, "DOUBLE", description, levels > _LEVELS, lowest=-math.inf, varies=varies
    )


def _count(of: Range, compared: pl.Expr) -> MetricColumn:
    highest = pl.col("depth_pair_count") * of.most
    text = f"Prices {of.where}, both sides; null where not compared."
    return MetricColumn(of.column, "BIGINT", text, of.last > compared, highest=highest)


DEPTH_CHANGE_COLUMNS: Final = (
    MetricColumn(
        "depth_pair_count",
        "BIGINT",
        "Rows of books.depth that are compared with the row before: no book between is invalid.",
    ),
    MetricColumn(
        "levels_compared",
        "BIGINT",
        "Most levels that were confirmed on both sides of two such rows; null without any.",
        _NO_PAIR,
        lowest=1,
        highest=DEPTH_LEVELS,
    ),
    MetricColumn(
        "ticks_compared",
        "BIGINT",
        "Most ticks behind the touch of the row before up to which both rows show every level; "
        "below 0 where the levels of the later row are all inside that spread.",
        _NO_PAIR,
        lowest=-math.inf,
    ),
    *(
        _ofi(
            f"ofi_level_{level}",
            f"Order flow imbalance of level {level}, a size, from row to row of books.depth.",
            level,
        )
        for level in range(1, OFI_LEVELS + 1)
    ),
    _ofi(
        f"ofi_levels_1_{OFI_LEVELS}",
        f"The sum of those, over rows of which all {OFI_LEVELS} levels are compared.",
        OFI_LEVELS,
    ),
    *(_count(of, _LEVELS) for of in CHANGED_LEVELS),
    *(_count(of, _TICKS) for of in CHANGED_TICKS),
)
