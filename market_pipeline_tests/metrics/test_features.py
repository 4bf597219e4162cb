"""What columns declare of their values is held against rows."""

from __future__ import annotations

import math

import polars as pl
import pytest

from market_pipeline.metrics.columns import METRIC_COLUMNS
from market_pipeline.metrics.features import Features
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline_tests.metrics.rows import START_NS, made
from market_pipeline_tests.metrics.test_intervals import a_busy_day

COLUMNS = [column for column in METRIC_COLUMNS if not column.only_daily]


@pytest.fixture(scope="module")
def minutes():
    """The minutes of a day without a fault."""
    return made(a_busy_day(), 60).intervals[0]


def features_of(rows, **options):
    """Of rows that stand for one interval each."""
    features = Features(COLUMNS, **options)
    features.add([rows.with_columns(rows=pl.lit(1, pl.Int64))])
    return features


def found_in(rows, **options):
    """What breaks a rule."""
    return [*features_of(rows, **options).violations()]


def with_value(rows, name, row, value):
    """The rows with another value in one place."""
    changed = pl.when(pl.int_range(pl.len()) == row).then(pl.lit(value)).otherwise(pl.col(name))
    return rows.with_columns(changed.cast(rows.schema[name]).alias(name))


def test_rows_as_they_are(minutes):
    """Nothing is found."""
    assert [] == found_in(minutes)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("spread_bps", math.nan, "a finite number"),
        ("mid", math.inf, "a finite number"),
        ("ofi", -math.inf, "a finite number"),
        ("touch_imbalance", 1.5, "in the column's domain"),
        ("valid_seconds", 60.1, "in the column's domain"),
        ("bid_change_count", 10, "in the column's domain"),
        ("trade_count", -1, "in the column's domain"),
        ("spread_ticks", None, "nothing explains a null"),
        ("bid_touch_size", None, "nothing explains a null"),
        ("ofi", None, "nothing explains a null"),
        ("bid_depth_1", None, "nothing explains a null"),
        ("ask_depth_10bps", None, "nothing explains a null"),
        ("realised_variance_1s", None, "nothing explains a null"),
        ("inter_arrival_p50_ms", None, "nothing explains a null"),
        ("trade_count", None, "nothing explains a null"),
        ("trade_to_book_ratio", None, "nothing explains a null"),
    ],
)
def test_a_value_that_breaks_a_rule(minutes, name, value, text):
    """It is located: column, interval, value."""
    found = found_in(with_value(minutes, name, 7, value))

    start_ns = START_NS + 7 * 60 * NS_PER_SECOND
    (same,) = [each for each in found if each.column == name and text in each.expected]
    assert (1, 60, start_ns) == (same.count, same.seconds, same.start_ns)
    assert ("null" if value is None else repr(value)) == same.value


def test_infinities_that_cancel_out(minutes):
    """Neither hides the other, nor do values that sum up to more than any number."""
    infinite = with_value(with_value(minutes, "ofi", 7, math.inf), "ofi", 8, -math.inf)
    large = with_value(with_value(minutes, "ofi", 7, 1e308), "ofi", 8, 1.5e308)

    assert [("ofi", 2, "a finite number")] == [
        (each.column, each.count, each.expected) for each in found_in(infinite)
    ]
    assert [] == found_in(large)


def test_nulls_that_something_explains(minutes):
    """No valid time, no confirmed depth, no message, no trades file."""
    in_gap = minutes.filter(pl.col("valid_seconds") == 0)
    no_file = minutes.with_columns(
        pl.lit(None, minutes.schema[each.name]).alias(each.name)
        for each in COLUMNS
        if each.name.startswith(("trade_", "buy_", "sell_", "taker_"))
    )

    assert (True, 0) == (in_gap.height > 1_000, in_gap["mid"].drop_nulls().len())
    assert [] == [*found_in(in_gap), *found_in(no_file)]


def test_a_column_with_one_value(minutes):
    """Of a busy day a size at the touch is not the same all day; of a quiet one it may be."""
    frozen = minutes.with_columns(
        pl.when(pl.col("ask_touch_size").is_not_null()).then(0.5).alias("ask_touch_size")
    )
    assert [] == found_in(frozen)
    (found,) = found_in(frozen, is_busy=True)
    assert ("ask_touch_size", "0.5", "more than one value in a busy day") == (
        *(found.column, found.value),
        found.expected,
    )


def test_figures_of_a_day(minutes):
    """All are counted, the first ten columns named."""
    broken = minutes.with_columns(pl.lit(-1.0).alias(each.name) for each in COLUMNS[:14])
    features = features_of(broken)
    figures, found = features.figures(), [*features.violations()]

    assert (1_440 * len(COLUMNS), sum(each.count for each in found)) == (
        figures.feature_values,
        figures.feature_violations,
    )
    assert (10, 10) == (len(figures.violation_columns), len(figures.violation_expected))


def test_rows_that_stand_for_several(minutes):
    """A fault counts for each interval that its row stands for, in parts as at once."""
    broken = with_value(minutes, "spread_bps", 7, math.nan).with_columns(rows=pl.lit(3, pl.Int64))
    features = Features(COLUMNS)
    for start in range(0, 1_440, 500):
        features.add([broken[start : start + 500]])
    again = broken.with_columns(interval_seconds=pl.lit(120, pl.Int32))
    features.add([again])

    assert [("spread_bps", 3, 60), ("spread_bps", 3, 120)] == [
        (each.column, each.count, each.seconds) for each in features.violations()
    ]
