"""What the check of metrics says of the figures of a day."""

from __future__ import annotations

from market_pipeline.quality.checks.features import check_features, feature_places
from market_pipeline.quality.figures.features import FeatureFigures

FINE = FeatureFigures(feature_values=1_440, feature_violations=0)
BAD = FeatureFigures(
    feature_values=1_440,
    feature_violations=3,
    violation_columns=("mid", "ofi"),
    violation_seconds=(60, 1),
    violation_starts_ns=(1_723_075_200_000_000_000, 1_723_075_260_000_000_000),
    violation_values=("nan", "null"),
    violation_expected=("a finite number", "a value"),
)


def test_nothing_was_looked_at():
    """Without metrics it is not asked."""
    assert check_features(FeatureFigures()) is None


def test_a_day_that_keeps_every_rule():
    """It passes, and says of how many values."""
    outcome = check_features(FINE)

    assert (True, "1,440 values keep every rule.") == (outcome.passed, outcome.summary)
    assert [] == list(feature_places(FINE))


def test_values_that_break_a_rule():
    """They are counted, the first is named, and no day is degraded for them."""
    outcome = check_features(BAD)

    assert (False, "WARN", False) == (outcome.passed, outcome.severity, outcome.degrades)
    assert (
        "3 values of 1,440 break a rule, first mid = nan of 00:00:00.000000 UTC."
    ) == outcome.summary
    first, second = feature_places(BAD)
    assert ("first", "mid", "nan", 60) == (
        *(first.place, first.column, first.value),
        (first.end_ns - first.ts_receipt_ns) // 10**9,
    )
    assert ("further", "In metrics.book_metrics, interval_seconds = 1.") == (
        second.place,
        second.note,
    )
