"""A column of metrics together with what may stand in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import polars as pl

from market_pipeline.warehouse.tables import Column

__all__ = ["MetricColumn"]


@dataclass(frozen=True, slots=True)
class MetricColumn(Column):
    """A column with what may stand in it, which the check `features` holds it against.

    Attributes:
        null_where: Where a null is explained; nowhere else may there be one.
        lowest, highest: Its domain, both included; of a number or of the row.
        varies: Whether one value over a busy day is a fault.
        only_daily: Whether it is a column of `metrics.daily` alone.
    """

    null_where: pl.Expr = field(default=pl.lit(value=False), compare=False)
    lowest: float = 0.0
    highest: float | pl.Expr = field(default=math.inf, compare=False)
    varies: bool = False
    only_daily: bool = False
