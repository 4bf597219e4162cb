"""Whether the day's metrics are numbers that can be what they are.

It is asked of the row of `metrics.daily`, which is made after the verdict.
"""

from __future__ import annotations

from collections.abc import Iterator

from market_pipeline.quality.checks.base import Check, CheckOutcome, Fault, outcome
from market_pipeline.quality.figures.features import FeatureFigures
from market_pipeline.quality.findings import Finding, first_marked
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.quality.words import number_of, time_text

__all__ = ["FEATURES", "check_features", "feature_places"]

FEATURES = Check(
    name="features",
    sentence="Every metric is a number in its domain, and wherever one is null there is a reason.",
    asset="book_metrics",
    severity="WARN",
    degrades="never",
)


def check_features(figures: FeatureFigures) -> CheckOutcome | None:
    """Counts the values that break a rule; not asked where none was looked at."""
    if not figures.feature_values or figures.feature_violations is None:
        return None
    faults = []
    if figures.feature_violations:
        first = next(iter(feature_places(figures)))
        text = f"{number_of(figures.feature_violations, 'value')} of {figures.feature_values:,} "
        text += f"{'breaks' if figures.feature_violations == 1 else 'break'} a rule"
        if first.ts_receipt_ns is not None:
            text += f", first {first.column} = {first.value} of {time_text(first.ts_receipt_ns)}"
        faults.append(Fault("WARN", float(figures.feature_violations), 0.0, text))
    return outcome(
        FEATURES,
        faults,
        figure=float(figures.feature_violations),
        threshold=0.0,
        fine=f"{number_of(figures.feature_values, 'value')} keep every rule.",
    )


def feature_places(figures: FeatureFigures) -> Iterator[Finding]:
    """The first places: column, interval and value."""
    places = zip(
        figures.violation_columns or (),
        figures.violation_seconds or (),
        figures.violation_starts_ns or (),
        figures.violation_values or (),
        figures.violation_expected or (),
        strict=True,
    )
    for place, (column, seconds, start_ns, value, expected) in first_marked(places):
        yield Finding(
            check=FEATURES.name,
            place=place,
            ts_receipt_ns=start_ns,
            end_ns=start_ns + seconds * NS_PER_SECOND,
            column=column,
            value=value,
            expected=expected,
            note=f"In metrics.book_metrics, interval_seconds = {seconds}.",
        )
