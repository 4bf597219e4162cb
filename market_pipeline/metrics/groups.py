"""The groups of metric columns, each with what fills it: the seam at which a group is added.

A group is its columns (`metrics.columns`) and a function that fills them for every interval of
several grids at once, so that it reads the day once. No group knows of another: any could be left
out, and one more is a further entry of `GROUPS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from market_pipeline.metrics.change_columns import DEPTH_CHANGE_COLUMNS
from market_pipeline.metrics.columns import (
    DEPTH_COLUMNS,
    FLOW_COLUMNS,
    TOUCH_COLUMNS,
    TRADE_COLUMNS,
)
from market_pipeline.metrics.day_rows import (
    Chosen,
    Filled,
    InstrumentRows,
    NestedGrids,
    changes_at,
)
from market_pipeline.metrics.depth import depth_columns
from market_pipeline.metrics.flow import FLOW_INPUT, flow_columns
from market_pipeline.metrics.metric_column import MetricColumn
from market_pipeline.metrics.touch import touch_columns
from market_pipeline.metrics.traded import TRADED_INPUT, traded_columns
from market_pipeline.quality.intervals import IntArray

__all__ = ["GROUPS", "Group", "of_trades"]

_Fill = Callable[[InstrumentRows, NestedGrids], Filled]
_FillOfTrades = Callable[[Iterable[pl.DataFrame], Sequence[IntArray]], Filled]


@dataclass(frozen=True, slots=True)
class Group:
    """Columns that are made together.

    Attributes:
        columns: Those it fills.
        fill: Makes them of a day, for all intervals of grids from midnight to midnight.
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
        fill: Makes them of batches of rows, in file order, for grids given by their edges in ns.
    """

    def fill_each(day: InstrumentRows, grids: NestedGrids) -> Filled:
        if day.trades is not None:
            return fill(day.trades(input_columns), grids.edges_ns)
        names = [each.name for each in columns]

        def nulls(chosen: Chosen) -> dict[str, pl.Series]:
            number = sum(len(each) for each in chosen)
            return dict.fromkeys(names, pl.Series([None] * number, dtype=pl.Null))

        empty = [np.zeros(len(edges) - 1, np.bool_) for edges in grids.edges_ns]
        return Filled([changes_at(each) for each in empty], nulls)

    return Group(columns, fill_each)


GROUPS: Final = (
    Group(TOUCH_COLUMNS, touch_columns),
    Group((*DEPTH_COLUMNS, *DEPTH_CHANGE_COLUMNS), depth_columns),
    of_trades(TRADE_COLUMNS, TRADED_INPUT, traded_columns),
    of_trades(FLOW_COLUMNS, FLOW_INPUT, flow_columns),
)
"""All there are, in the order of their columns."""
