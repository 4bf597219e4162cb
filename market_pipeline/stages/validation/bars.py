"""Measures the minute bars of trades for the report."""

from __future__ import annotations

from market_pipeline.quality.findings import Finding, Measured, Place, first_and_worst
from market_pipeline.quality.measures.bars import BadBar, bars_report, trade_bars
from market_pipeline.stages.validation.context import InstrumentDay

__all__ = ["measure_bars"]


def measure_bars(day: InstrumentDay) -> Measured:
    """What the minute bars of trades add to the report; nothing without a trades file.

    Raises:
        MarketPipelineError: If the trades cannot be read.
    """
    if day.trades is None:
        return Measured()
    thresholds = day.instrument.thresholds
    report = bars_report(
        trade_bars(day.trades, day.day),
        outlier_sigmas=thresholds.bar_outlier_sigmas,
        volume_factor=thresholds.bar_volume_factor,
    )
    return Measured((report.figures,), _findings(report.bad))


def _findings(bad: tuple[BadBar, ...]) -> list[Finding]:
    """The first bar, the worst, and further ones in order of time."""
    worst = max(range(len(bad)), key=lambda each: bad[each].excess, default=0)
    return [_finding(place, bad[each]) for each, place in first_and_worst(len(bad), worst)]


def _finding(place: Place, bar: BadBar) -> Finding:
    return Finding(
        check="bars",
        place=place,
        ts_receipt_ns=bar.start_ns,
        end_ns=bar.end_ns,
        column=bar.column,
        value=bar.value,
        expected=bar.expected,
        note=" ".join(bar.notes),
    )
