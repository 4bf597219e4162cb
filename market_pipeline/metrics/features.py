"""Holds rows of metrics against what their columns declare (`metric_column.MetricColumn`).

A rule is broken by a number that is none, by a value outside the column's domain, by a null that
nothing explains, and by a column that ought to vary and has one value all over a busy day.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, NamedTuple

import polars as pl

from market_pipeline.metrics.metric_column import MetricColumn
from market_pipeline.quality.figures.features import FeatureFigures

__all__ = ["BUSY_MESSAGES", "Features", "Violation"]

BUSY_MESSAGES: Final = 10_000
"""A day with so many messages is busy: sizes at the touch stay the same over none."""

_FEW_INTERVALS: Final = 24
_PLACES: Final = 10
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - Polars' naive UTC


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


class Features:
    """Holds the rows of a day's metrics against what is declared of their columns.

    Args:
        columns: Those that are looked at.

    Attributes:
        is_busy: Whether the day is one of `BUSY_MESSAGES`; to be set before anything is added.
    """

    def __init__(self, columns: Sequence[MetricColumn], *, is_busy: bool = False) -> None:
        self.is_busy = is_busy
        self._columns = tuple(columns)
        self._varying = tuple(column for column in columns if column.varies)
        self._values = 0
        self._widths: dict[int, _OfWidth] = {}

    def add(self, of_widths: Sequence[pl.DataFrame]) -> None:
        """Looks at rows, which follow those of the same width that were added before.

        Args:
            of_widths: Each of one width, with interval_seconds, interval_start, the columns, and in
                `rows` how many intervals each row stands for.
        """
        suspects = _suspects(self._columns, pl.concat(of_widths)) if of_widths else []
        for rows in of_widths:
            seconds = int(rows["interval_seconds"][0])
            found = self._widths.setdefault(seconds, _OfWidth({}, {}))
            self._values += int(rows["rows"].sum()) * len(self._columns)
            for at in suspects:
                column, _, is_broken, expected = _rules_of(self._columns)[at]
                where = rows.filter(is_broken)
                if where.height:
                    first = found.broken.get(at) or _violation(
                        column, where.row(0, named=True), expected
                    )
                    count = first.count + int(where["rows"].sum())
                    found.broken[at] = replace(first, count=count)
            if self.is_busy:
                self._add_varying(rows, found)

    def _add_varying(self, rows: pl.DataFrame, found: _OfWidth) -> None:
        """Notes the only value of columns that ought to have several."""
        there = iter(rows.select(_spread_of(self._varying)).row(0))
        for column, least, most, count in zip(self._varying, there, there, there, strict=True):
            name = column.name
            if not count:
                continue
            if name not in found.only:
                where = rows.row(int(rows[name].is_not_null().arg_max() or 0), named=True)
                expected = "more than one value in a busy day"
                found.only[name] = _Only(_violation(column, where, expected), least, most, 0)
            only = found.only[name]
            found.only[name] = _Only(
                only.violation, min(only.least, least), max(only.most, most), only.rows + count
            )

    def violations(self) -> Iterator[Violation]:
        """What breaks a rule, width by width, column by column."""
        for found in self._widths.values():
            yield from (found.broken[at] for at in sorted(found.broken))
            for column in self._varying:
                only = found.only.get(column.name)
                if only and only.rows >= _FEW_INTERVALS and only.least == only.most:
                    yield replace(only.violation, count=1)

    def figures(self) -> FeatureFigures:
        """The figures of the day."""
        found = [*self.violations()]
        first = found[:_PLACES]
        return FeatureFigures(
            feature_values=self._values,
            feature_violations=sum(each.count for each in found),
            violation_columns=tuple(each.column for each in first),
            violation_seconds=tuple(each.seconds for each in first),
            violation_starts_ns=tuple(each.start_ns for each in first),
            violation_values=tuple(each.value for each in first),
            violation_expected=tuple(each.expected for each in first),
        )


class _Only(NamedTuple):
    """What a column has: where a value first is, the least and the most, and in how many rows."""

    violation: Violation
    least: float
    most: float
    rows: int


class _OfWidth(NamedTuple):
    """What was found in the rows of one width: by number of the rule, and by column."""

    broken: dict[int, Violation]
    only: dict[str, _Only]


class _Rule(NamedTuple):
    """What may be broken, where it is, and what would have been right.

    Attributes:
        of_nulls: Whether only a null can break it; else only a value.
    """

    column: MetricColumn
    of_nulls: bool
    is_broken: pl.Expr
    expected: str


def _suspects(columns: tuple[MetricColumn, ...], rows: pl.DataFrame) -> list[int]:
    """The numbers of the rules that some row breaks.

    To state so many rules takes longer than to look at the values, and most columns are cleared by
    their number of nulls and by their least and most value.
    """
    nulls = {column.name for column in columns if rows[column.name].null_count()}
    values = {column.name for column in columns if not _is_within(rows[column.name], column)}
    at_all = [
        rule.is_broken.any().alias(str(at))
        for at, rule in enumerate(_rules_of(columns))
        if rule.column.name in (nulls if rule.of_nulls else values)
    ]
    broken = rows.select(at_all).row(0, named=True) if at_all else {}
    return [int(at) for at, is_broken in broken.items() if is_broken]


def _is_within(values: pl.Series, column: MetricColumn) -> bool:
    """Whether all values are in a column's domain, as far as that is no matter of the row."""
    if isinstance(column.highest, pl.Expr):
        return False
    least: Any = values.min()
    most: Any = values.max()
    if least is None:
        return True
    # Only of finite numbers is the sum finite, which is the quickest way to find one that is not.
    is_finite = math.isfinite(values.sum())
    return bool(is_finite and column.lowest <= least and most <= column.highest)


@cache
def _spread_of(columns: tuple[MetricColumn, ...]) -> list[pl.Expr]:
    """Of each column the least, the most, and how many intervals have a value."""
    return [
        each
        for column in columns
        for value in [pl.col(column.name)]
        for each in (
            value.min().name.suffix(":least"),
            value.max().name.suffix(":most"),
            pl.col("rows").filter(value.is_not_null()).sum().alias(f"{column.name}:rows"),
        )
    ]


@cache
def _rules_of(columns: tuple[MetricColumn, ...]) -> list[_Rule]:
    """What may be broken; of many columns it takes longer to say than to look."""
    return [rule for column in columns for rule in _rules(column)]


def _rules(column: MetricColumn) -> Iterator[_Rule]:
    value = pl.col(column.name)
    if column.type == "DOUBLE":
        is_none = (~value.is_finite()).fill_null(value=False)
        yield _Rule(column, False, is_none, "a finite number")
    is_outside = value.is_finite() & ((value < column.lowest) | (value > column.highest))
    domain = "a value in the column's domain (docs/metrics.md)"
    yield _Rule(column, False, is_outside.fill_null(value=False), domain)
    is_bare = value.is_null() & ~column.null_where
    yield _Rule(column, True, is_bare, "a value: nothing explains a null here")


def _violation(column: MetricColumn, where: dict[str, Any], expected: str) -> Violation:
    """One that was not counted yet."""
    start_us = (where["interval_start"] - _EPOCH) // timedelta(microseconds=1)
    value = where[column.name]
    return Violation(
        column.name,
        0,
        where["interval_seconds"],
        start_us * 1_000,
        "null" if value is None else repr(value),
        expected,
    )
