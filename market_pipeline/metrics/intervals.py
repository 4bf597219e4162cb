"""The metrics of a day: every group's columns for intervals of several widths, and for the day.

Every interval of the UTC day has a row, with or without a message, as every bar has: a join with
`metrics.bars` loses none, the row before is the interval before, and valid_seconds says how much of
one is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from market_pipeline.config.instruments import Instrument
from market_pipeline.metrics.columns import METRIC_COLUMNS, RATIO_COLUMN
from market_pipeline.metrics.day_rows import Filled, InstrumentRows, NestedGrids
from market_pipeline.metrics.features import BUSY_MESSAGES, Features
from market_pipeline.metrics.groups import GROUPS
from market_pipeline.metrics.tables import DAILY_METRICS, HOURLY
from market_pipeline.quality.figures.features import FeatureFigures
from market_pipeline.quality.intervals import (
    NS_PER_SECOND,
    SECONDS_PER_DAY,
    IntArray,
    day_bounds_ns,
)
from market_pipeline.warehouse.runs import RowRuns
from market_pipeline.warehouse.tables import Record

__all__ = ["day_metrics"]

_HOUR: Final = 3_600
_BLOCK_RUNS: Final = 1 << 14
_IN_TABLE: Final = tuple(column for column in METRIC_COLUMNS if not column.only_daily)
_NAMES: Final = [column.name for column in _IN_TABLE]
_TYPES: Final = DAILY_METRICS.empty().schema


def day_metrics(
    rows: InstrumentRows,
    *,
    instrument: Instrument,
    day: date,
    metrics_seconds: Sequence[int],
    write: Callable[[RowRuns], None],
) -> Record:
    """Makes the metrics of one instrument's day; where batches are cut changes nothing.

    Rows of `metrics.book_metrics` that follow each other and differ in nothing but their start are
    made, looked at and written as one, a bounded number of them at a time.

    Args:
        rows: The published rows of the day.
        instrument, day: What they are of.
        metrics_seconds: The widths, ascending, each a divisor of the day.
        write: Takes the rows of `metrics.book_metrics`, width by width.

    Returns:
        The row of `metrics.daily`.

    Raises:
        DomainError: Of a column that cannot be summed.
    """
    start_ns, end_ns = day_bounds_ns(day)
    # The day comes first: whether it is a busy one says what is looked at in the others.
    widths = (SECONDS_PER_DAY, _HOUR, *metrics_seconds)
    grids = NestedGrids([np.arange(start_ns, end_ns + 1, w * NS_PER_SECOND) for w in widths])
    filled = [group.fill(rows, grids) for group in GROUPS]
    constants: dict[str, str | date] = {
        "exchange": instrument.venue,
        "symbol": instrument.symbol,
        "dt": day,
    }
    features, whole, hours = Features(_IN_TABLE), None, None
    for block in _blocks(filled, len(widths)):
        parts = _frames(filled, block, widths, start_ns)
        if whole is None or hours is None:
            whole, hours, *parts = parts
            features.is_busy = whole["message_count"].item() >= BUSY_MESSAGES
        features.add(parts)
        for part in parts:
            width_us = int(part["interval_seconds"][0]) * 1_000_000
            write(
                RowRuns(
                    {**constants, "interval_seconds": width_us // 1_000_000},
                    "interval_start",
                    int(part["interval_start"].dt.timestamp("us")[0]),
                    width_us,
                    part.select(_NAMES),
                    part["rows"].to_numpy(),
                )
            )
    if whole is None or hours is None:
        raise AssertionError("a day has a row")
    return _daily(constants, whole, hours, features.figures())


class _Runs(NamedTuple):
    """Rows of one grid: the first interval of each, and how many intervals are like it."""

    first: IntArray
    rows: IntArray


def _blocks(filled: Sequence[Filled], grids: int) -> Iterator[list[_Runs]]:
    """All rows of all grids, grid after grid, a bounded number at a time; the first two by itself.

    The intervals of the day and of its hours are rows each.
    """
    runs = []
    for grid in range(grids):
        changed = np.logical_or.reduce([each.changes[grid] for each in filled])
        first = np.flatnonzero(changed) if grid > 1 else np.arange(len(changed))
        runs.append(_Runs(first, np.diff(first, append=len(changed))))
    offsets = np.cumsum([0, *(len(each.first) for each in runs)])
    for start in range(0, int(offsets[-1]), _BLOCK_RUNS):
        cuts = [
            slice(max(0, start - int(offset)), max(0, start + _BLOCK_RUNS - int(offset)))
            for offset in offsets[:-1]
        ]
        yield [_Runs(each.first[cut], each.rows[cut]) for each, cut in zip(runs, cuts, strict=True)]


def _frames(
    filled: Sequence[Filled], block: Sequence[_Runs], widths: Sequence[int], start_ns: int
) -> list[pl.DataFrame]:
    """The rows of a block with their types, a frame for each grid that has any."""
    sizes = [len(each.first) for each in block]
    chosen = [each.first for each in block]
    width = np.repeat(np.array(widths, np.int32), sizes)
    starts_us = start_ns // 1_000 + np.concatenate(chosen) * width * 1_000_000
    columns = {
        "interval_seconds": pl.Series(width),
        "interval_start": pl.Series(starts_us).cast(pl.Datetime("us")),
        "rows": pl.Series(np.concatenate([each.rows for each in block])),
    }
    for group in filled:
        for name, made in group.columns(chosen).items():
            column = made if isinstance(made, pl.Series) else pl.Series(made)
            columns[name] = column if column.dtype == _TYPES[name] else column.cast(_TYPES[name])
    frame = pl.DataFrame(columns).with_columns(
        pl.when(pl.col("message_count") > 0)
        .then(pl.col("taker_order_count") / pl.col("message_count"))
        .alias(RATIO_COLUMN.name)
    )
    ends = np.cumsum(sizes).tolist()
    return [frame[end - size : end] for end, size in zip(ends, sizes, strict=True) if size]


def _daily(
    constants: Mapping[str, str | date],
    whole: pl.DataFrame,
    hours: pl.DataFrame,
    figures: FeatureFigures,
) -> Record:
    """The row of the day, with its course by hour and what breaks a rule."""
    course = hours.with_columns((pl.col("buy_volume") + pl.col("sell_volume")).alias("volume"))
    row = {
        **constants,
        **whole.row(0, named=True),
        **{f"{name}_by_hour": course[name].to_list() for name, _, _ in HOURLY},
        **figures.as_record(),
    }
    return {name: row[name] for name in _TYPES}
