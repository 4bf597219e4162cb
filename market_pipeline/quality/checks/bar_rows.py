"""Whether the published bars are bars."""

from __future__ import annotations

from datetime import date

import polars as pl

from market_pipeline.quality.checks.base import Check, CheckOutcome, Fault, outcome
from market_pipeline.quality.findings import FindingRow, first_and_worst
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.quality.words import number_of, time_text

__all__ = ["BAR_ROWS", "bar_places", "check_bar_rows"]

BAR_ROWS = Check(
    name="bar_rows",
    sentence="Every published bar is consistent, and the sum of the smaller ones; none is missing.",
    asset="bars",
    severity="ERROR",
    degrades="never",
)


def check_bar_rows(bars: int, violations: pl.DataFrame) -> CheckOutcome:
    """Counts the intervals with a violation.

    Args:
        bars: How many rows were looked at.
        violations: See `bar_violations`.
    """
    faults = []
    if violations.height:
        width, (note, *_) = violations["width_seconds"][0], violations["notes"][0]
        text = (
            f"{number_of(violations.height, 'bar')} of {bars:,} violate a rule, first the one of "
            f"{width} s of {time_text(_ns(violations)[0])}: {note}"
        )
        faults.append(Fault("ERROR", float(violations.height), 0.0, text))
    return outcome(
        BAR_ROWS,
        faults,
        figure=float(violations.height),
        threshold=0.0,
        fine=f"{number_of(bars, 'bar')} keep every rule.",
    )


def bar_places(exchange: str, symbol: str, day: date, violations: pl.DataFrame) -> list[FindingRow]:
    """The first places, as findings: the narrowest bars first, and in order of time.

    Args:
        exchange, symbol, day: What they are of.
        violations: See `bar_violations`.
    """
    starts_ns = _ns(violations)
    worst = int(violations["notes"].list.len().arg_max() or 0)
    return [
        FindingRow(
            exchange=exchange,
            symbol=symbol,
            dt=day,
            check=BAR_ROWS.name,
            place=place,
            ts_receipt_ns=starts_ns[at],
            end_ns=starts_ns[at] + violations["width_seconds"][at] * NS_PER_SECOND,
            value=f"bar of {violations['width_seconds'][at]:,} s",
            note=" ".join(violations["notes"][at]),
        )
        for at, place in first_and_worst(violations.height, worst)
    ]


def _ns(violations: pl.DataFrame) -> list[int]:
    starts: list[int] = violations["bar_start"].dt.epoch("ns").to_list()
    return starts
