"""Holds rows of metrics against what their columns declare (`columns.MetricColumn`).

A rule is broken by a number that is none, by a value outside the column's domain, by a null that
nothing explains, and by a column that ought to vary and has one value all over a busy day.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import polars as pl

from market_pipeline.metrics.columns import MetricColumn
from market_pipeline.quality.figures.features import FeatureFigures

__all__ = ["BUSY_MESSAGES", "Violation", "feature_figures", "violations"]

BUSY_MESSAGES: Final = 10_000
"""A day with so many messages is busy: sizes at the touch stay the same over none."""

_FEW_INTERVALS: Final = 24
_PLACES: Final = 10


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a column breaks, how often, and where first.

    Attributes:
        column: Its name.
        count: Values that break it.
        seconds: Width of the intervals.
        start_ns: Of the first interval.
        value, expected: What was found there, and what would have been right.
    """

    column: str
    count: int
    seconds: int
    start_ns: int
    value: str
    expected: str


def violations(rows: pl.DataFrame, columns: Sequence[MetricColumn]) -> Iterator[Violation]:
    """What breaks a rule in all rows of one width of a day, column by column.

    Args:
        rows: With interval_seconds, interval_start and the columns.
        columns: Which are looked at.
    """
    rules = _rules_of(tuple(columns))
    counts = rows.select(
        broken.sum().alias(str(at)) for at, (_, broken, _) in enumerate(rules)
    ).row(0)
    for (column, broken, expected), count in zip(rules, counts, strict=True):
        if count:
            where = rows.filter(broken).row(0, named=True)
            yield _violation(column, count, where, expected)
    if rows["message_count"].sum() >= BUSY_MESSAGES:
        yield from _constant(rows, [each for each in columns if each.varies])


@cache
def _rules_of(columns: tuple[MetricColumn, ...]) -> list[tuple[MetricColumn, pl.Expr, str]]:
    """What may be broken; of many columns it takes longer to say than to look."""
    return [rule for column in columns for rule in _rules(column)]


def _rules(column: MetricColumn) -> Iterator[tuple[MetricColumn, pl.Expr, str]]:
    value = pl.col(column.name)
    if column.type == "DOUBLE":
        yield column, (~value.is_finite()).fill_null(value=False), "a finite number"
    is_outside = value.is_finite() & ((value < column.lowest) | (value > column.highest))
    domain = "a value in the column's domain (docs/metrics.md)"
    yield column, is_outside.fill_null(value=False), domain
    yield column, value.is_null() & ~column.null_where, "a value: nothing explains a null here"


def _constant(rows: pl.DataFrame, columns: Sequence[MetricColumn]) -> Iterator[Violation]:
    """Columns with one value in all of many rows."""
    names = [each.name for each in columns]
    least, most, there = (
        rows.select(statistic).row(0, named=True)
        for statistic in (pl.col(names).min(), pl.col(names).max(), pl.col(names).count())
    )
    for column in columns:
        name = column.name
        if there[name] >= _FEW_INTERVALS and least[name] == most[name]:
            where = rows.filter(pl.col(name).is_not_null()).row(0, named=True)
            yield _violation(column, 1, where, "more than one value in a busy day")


def _violation(
    column: MetricColumn, count: int, where: dict[str, object], expected: str
) -> Violation:
    start = pl.Series([where["interval_start"]], dtype=pl.Datetime("us")).dt.timestamp("ns")
    value = where[column.name]
    return Violation(
        column.name,
        count,
        int(str(where["interval_seconds"])),
        int(start[0]),
        "null" if value is None else repr(value),
        expected,
    )


def feature_figures(values: int, found: Sequence[Violation]) -> FeatureFigures:
    """The figures of a day.

    Args:
        values: How many were looked at.
        found: Of every width.
    """
    first = found[:_PLACES]
    return FeatureFigures(
        feature_values=values,
        feature_violations=sum(each.count for each in found),
        violation_columns=tuple(each.column for each in first),
        violation_seconds=tuple(each.seconds for each in first),
        violation_starts_ns=tuple(each.start_ns for each in first),
        violation_values=tuple(each.value for each in first),
        violation_expected=tuple(each.expected for each in first),
    )
