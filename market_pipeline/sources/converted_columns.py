"""What a converted raw file may hold beyond a vendor's: losses, marks, and deeper snapshots."""

from __future__ import annotations

import re
from collections.abc import Collection

import pyarrow as pa

__all__ = [
    "CONVERTER_KEY",
    "IS_MARKET",
    "LOST",
    "LOST_BEFORE",
    "RECOVERED",
    "level_columns",
    "levels_in",
    "more_columns",
]

CONVERTER_KEY = b"market_pipeline.converter"
"""In the metadata of a file that a converter wrote."""

LOST_BEFORE = "lost_before"
"""Of its deltas, int8: whether messages are proven to be lost before this row."""

LOST, RECOVERED = 1, 2
"""Its values besides 0: lost, and lost where a snapshot in between leads to this message."""

IS_MARKET = "is_market"
"""Of its trades, bool, where the source marks them: whether one is of the market; null if unknown.
"""

_LEVEL = re.compile(r"bid_(\d+)_price")


def level_columns(levels: int) -> list[str]:
    """The columns of a table of snapshots with so many levels a side."""
    return [
        f"{side}_{level}_{part}"
        for side in ("bid", "ask")
        for level in range(levels)
        for part in ("price", "size")
    ]


def levels_in(names: Collection[str]) -> int:
    """How many levels a side a table of snapshots has."""
    return max((int(found[1]) + 1 for found in map(_LEVEL.fullmatch, names) if found), default=0)


def more_columns(schema: pa.Schema, table: str) -> dict[str, str]:
    """The columns that a converted file has beyond a vendor's, with their types."""
    if CONVERTER_KEY not in (schema.metadata or {}):
        return {}
    if table == "book_delta_v2":
        return {LOST_BEFORE: "int8"}
    if table == "trades" and IS_MARKET in schema.names:
        return {IS_MARKET: "bool"}
    if table == "book":
        return dict.fromkeys(level_columns(levels_in(schema.names)), "double")
    return {}
