"""The groups of metric columns, each with what fills it: the seam at which a group is added.

A group is its columns (`metrics.columns`) and a function that fills them for every interval of
several grids at once, so that it reads the day once. No group knows of another: any could be left
out, and one more is a further entry of `GROUPS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

import polars as pl

from market_pipeline.metrics.columns import (
    DEPTH_COLUMNS,
    FLOW_COLUMNS,
    TOUCH_COLUMNS,
    TRADE_COLUMNS,
    MetricColumn,
)
from market_pipeline.metrics.day_rows import InstrumentRows
from market_pipeline.metrics.depth import depth_columns
from market_pipeline.metrics.flow import FLOW_INPUT, flow_columns
from market_pipeline.metrics.touch import touch_columns
from market_pipeline.metrics.traded import TRADED_INPUT, traded_columns
from market_pipeline.quality.intervals import IntArray

__all__ = ["GROUPS", "Group", "of_trades"]

_Fill = Callable[[InstrumentRows, Sequence[IntArray]], list[pl.DataFrame]]
_FillOfTrades = Callable[[Iterable[pl.DataFrame], IntArray], pl.DataFrame]


@dataclass(frozen=True, slots=True)
class Group:
    """Columns that are made together.

    Attributes:
        columns: Those it fills.
        fill: Makes them of a day: for each grid, given as the edges of its intervals in ns, a frame
            with a row for each interval, in order. The intervals of a grid are equally wide, and
            all grids go from midnight to midnight.
    """

    columns: tuple[MetricColumn, ...]
    fill: _Fill


def of_trades(
    columns: tuple[MetricColumn, ...], input_columns: Sequence[str], fill: _FillOfTrades
) -> Group:
    """A group that is made of trades alone; of a day without a trades file its columns are null.

    Args:
        columns: Those it fills.
        input_columns: Those it reads of `books.trades`.
        fill: Makes them of batches of rows, in file order, for the intervals of one grid.
    """

    def fill_each(day: InstrumentRows, edges_ns: Sequence[IntArray]) -> list[pl.DataFrame]:
        if day.trades is None:
            names = [each.name for each in columns]
            return [
                pl.DataFrame(dict.fromkeys(names, [None] * (len(edges) - 1))) for edges in edges_ns
            ]
        batches = day.trades(input_columns)
        first = list(islice(batches, 2))
        frames = [fill(chain(first, batches), edges_ns[0])]
        # What is one batch, as most days are, is read once for all grids.
        for edges in edges_ns[1:]:
            frames.append(fill(first if len(first) < 2 else day.trades(input_columns), edges))
        return frames

    return Group(columns, fill_each)


GROUPS: Final = (
    Group(TOUCH_COLUMNS, touch_columns),
    Group(DEPTH_COLUMNS, depth_columns),
    of_trades(TRADE_COLUMNS, TRADED_INPUT, traded_columns),
    of_trades(FLOW_COLUMNS, FLOW_INPUT, flow_columns),
)
"""All there are, in the order of their columns."""
