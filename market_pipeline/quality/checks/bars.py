"""Whether the day's minute bars are bars."""

from __future__ import annotations

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import Check, CheckOutcome, Fault, in_force, outcome
from market_pipeline.quality.row import ReportRow
from market_pipeline.quality.words import number_of, time_text

__all__ = ["BARS", "check_bars"]

BARS = Check(
    name="bars",
    sentence="Every minute bar of trades is consistent, none is missing, none is far out.",
    asset="bars",
    severity="WARN",
    degrades="never",
)


def check_bars(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Counts the bars with a violation; not asked without trades."""
    if row.bars is None or row.bar_violations is None:
        return None
    faults = []
    if row.bar_violations:
        text = (
            f"{number_of(row.bar_violations, 'bar')} of {row.bars:,} violate a rule, first the one "
            f"of {time_text(row.first_bar_violation_ns)}"
        )
        faults.append(Fault("WARN", float(row.bar_violations), 0.0, text))
    return outcome(
        BARS,
        faults,
        figure=float(row.bar_violations),
        threshold=0.0,
        fine=f"{number_of(row.bars, 'bar')} keep every rule.",
        thresholds=in_force(thresholds, "bar_outlier_sigmas", "bar_volume_factor"),
    )
