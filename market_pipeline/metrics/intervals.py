"""The metrics of a day: every group's columns for intervals of several widths, and for the day.

Every interval of the UTC day has a row, with or without a message, as every bar has: a join with
`metrics.bars` loses none, the row before is the interval before, and valid_seconds says how much of
one is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
import polars as pl

from market_pipeline.config.instruments import Instrument
from market_pipeline.metrics.columns import METRIC_COLUMNS, RATIO_COLUMN
from market_pipeline.metrics.day_rows import InstrumentRows
from market_pipeline.metrics.features import feature_figures, violations
from market_pipeline.metrics.groups import GROUPS
from market_pipeline.metrics.tables import BOOK_METRICS, DAILY_METRICS, HOURLY
from market_pipeline.quality.figures.features import FeatureFigures
from market_pipeline.quality.intervals import NS_PER_SECOND, SECONDS_PER_DAY, day_bounds_ns

__all__ = ["DayMetrics", "day_metrics"]

_HOUR: Final = 3_600
_COURSE: Final = {"buy_volume", *(name for name, _, _ in HOURLY)}
_INTERVAL_COLUMNS: Final = [column.name for column in BOOK_METRICS.columns]
_TYPES: Final = DAILY_METRICS.empty().schema


@dataclass(frozen=True, slots=True, eq=False)
class DayMetrics:
    """The metrics of one instrument's day.

    Attributes:
        intervals: Rows of `metrics.book_metrics`, a frame for each width.
        daily: The row of `metrics.daily`.
    """

    intervals: list[pl.DataFrame]
    daily: pl.DataFrame


def day_metrics(
    rows: InstrumentRows, *, instrument: Instrument, day: date, metrics_seconds: Sequence[int]
) -> DayMetrics:
    """The metrics of one instrument's day; where batches are cut changes nothing.

    Args:
        rows: The published rows of the day.
        instrument, day: What they are of.
        metrics_seconds: The widths, ascending, each a divisor of the day.

    Raises:
        DomainError: Of a column that cannot be summed.
    """
    start_ns, end_ns = day_bounds_ns(day)
    widths = list(dict.fromkeys((*metrics_seconds, _HOUR, SECONDS_PER_DAY)))
    edges = {w: np.arange(start_ns, end_ns + 1, w * NS_PER_SECOND) for w in widths}
    filled: dict[int, list[pl.DataFrame]] = {width: [] for width in widths}
    for group in GROUPS:
        # Of hours that nobody asked for only what the row of the day has by hour is made.
        has_course = not _COURSE.isdisjoint(column.name for column in group.columns)
        made = [w for w in widths if w != _HOUR or w in metrics_seconds or has_course]
        for width, frame in zip(made, group.fill(rows, [edges[w] for w in made]), strict=True):
            filled[width].append(frame)
    of_width = {
        width: _with_key(pl.concat(frames, how="horizontal"), instrument, day, width)
        for width, frames in filled.items()
    }
    intervals = [of_width[width] for width in metrics_seconds]
    in_table = [column for column in METRIC_COLUMNS if not column.only_daily]
    found = [each for frame in intervals for each in violations(frame, in_table)]
    values = sum(frame.height for frame in intervals) * len(in_table)
    return DayMetrics(
        [frame.select(_INTERVAL_COLUMNS) for frame in intervals],
        _daily(of_width[SECONDS_PER_DAY], of_width[_HOUR], feature_figures(values, found)),
    )


def _with_key(rows: pl.DataFrame, instrument: Instrument, day: date, width: int) -> pl.DataFrame:
    """Rows of one width with their types, what they are of, and the ratio of two groups."""
    first = pl.datetime(day.year, day.month, day.day, time_unit="us")
    columns = [pl.col(name).cast(_TYPES[name]) for name in rows.columns]
    return rows.select(
        pl.lit(instrument.venue).alias("exchange"),
        pl.lit(instrument.symbol).alias("symbol"),
        pl.lit(day).alias("dt"),
        pl.lit(width, pl.Int32).alias("interval_seconds"),
        (first + pl.duration(seconds=pl.int_range(pl.len()) * width)).alias("interval_start"),
        *columns,
    ).with_columns(
        pl.when(pl.col("message_count") > 0)
        .then(pl.col("taker_order_count") / pl.col("message_count"))
        .alias(RATIO_COLUMN.name)
    )


def _daily(day: pl.DataFrame, hours: pl.DataFrame, figures: FeatureFigures) -> pl.DataFrame:
    """The row of the day, with its course by hour and what breaks a rule."""
    course = hours.with_columns((pl.col("buy_volume") + pl.col("sell_volume")).alias("volume"))
    row = {
        **day.row(0, named=True),
        **{f"{name}_by_hour": course[name].to_list() for name, _, _ in HOURLY},
        **figures.as_record(),
    }
    return DAILY_METRICS.frame([{name: row[name] for name in _TYPES}])
