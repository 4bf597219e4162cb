"""The row of `quality.validation_report`: the verdict, and the figures of every measurement."""

# ruff: noqa: RUF009 - `table_column` and `figure` make dataclass fields, which is what belongs there.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, Literal

from market_pipeline.quality.figures.base import Figures, figure, table_column
from market_pipeline.quality.figures.book import (
    AppliedOrderFigures,
    BadStampFigures,
    CoverFigures,
    CrossedFigures,
    GapFigures,
    PrecisionFigures,
    ProvenGapFigures,
    RebuildFigures,
    SkewFigures,
    ValidTimeFigures,
)
from market_pipeline.quality.figures.comparisons import (
    BarFigures,
    DayBoundaryFigures,
    ReferenceReplayFigures,
    SnapshotMatchFigures,
    SnapshotPrecisionFigures,
    TradeThroughFigures,
)
from market_pipeline.quality.figures.raw import (
    DeliveryFigures,
    DomainFigures,
    IdentityFigures,
    OutsideDayFigures,
    RawOrderFigures,
    SchemaFigures,
    SeenStepFigures,
)
from market_pipeline.warehouse.tables import Column, Table

__all__ = ["VALIDATION_REPORT", "Condition", "Outcome", "ReportRow"]

Condition = Literal["available", "degraded", "pending", "missing"]
Outcome = Literal["rebuilt", "no_data", "quarantined"]


@dataclass(frozen=True, kw_only=True)
class _Verdict(Figures):
    """Whose day it is, what became of it, and why."""

    exchange: str = table_column("VARCHAR", "Venue, upper case.")
    symbol: str = table_column("VARCHAR", "Symbol at the venue, upper case.")
    dt: date = table_column("DATE", "UTC day of receipt.")
    condition: Condition | None = figure("VARCHAR", "available, degraded, pending or missing.")
    reasons: tuple[str, ...] = table_column(
        "VARCHAR[]", "One sentence per reason; empty if available.", default=()
    )
    warnings: tuple[str, ...] = table_column(
        "VARCHAR[]", "Failed checks that do not change the condition.", default=()
    )
    unmeasured_checks: tuple[str, ...] = table_column(
        "VARCHAR[]", "Checks whose figures could not be measured; each has failed.", default=()
    )
    unmeasured_errors: tuple[str, ...] = table_column(
        "VARCHAR[]", "The error that each of these checks met.", default=()
    )
    thresholds: str | None = figure(
        "VARCHAR", "The thresholds that the verdict was given by, a JSON object."
    )
    outcome: Outcome = table_column(
        "VARCHAR", "rebuilt, no_data (no file or no row) or quarantined."
    )
    failure_kind: str | None = figure("VARCHAR", "Class of the error; null if rebuilt.")
    failure: str | None = figure(
        "VARCHAR", "The error with file, row and next step; null if rebuilt."
    )


@dataclass(frozen=True, kw_only=True)
class ReportRow(
    _Verdict,
    RebuildFigures,
    CoverFigures,
    ValidTimeFigures,
    GapFigures,
    ProvenGapFigures,
    RawOrderFigures,
    AppliedOrderFigures,
    SchemaFigures,
    DeliveryFigures,
    DomainFigures,
    OutsideDayFigures,
    IdentityFigures,
    CrossedFigures,
    SkewFigures,
    BadStampFigures,
    PrecisionFigures,
    SnapshotPrecisionFigures,
    SnapshotMatchFigures,
    DayBoundaryFigures,
    TradeThroughFigures,
    ReferenceReplayFigures,
    BarFigures,
    SeenStepFigures,
):
    """One row of `quality.validation_report`; the fields are its columns.

    None is SQL's null. Every figure is None for a day that was not rebuilt.
    """

    @property
    def instrument_id(self) -> str:
        """The instrument as VENUE:SYMBOL."""
        return f"{self.exchange}:{self.symbol}"

    def as_record(self) -> dict[str, Any]:
        """The row as a dict of columns, lists in place of tuples."""
        record = {name: getattr(self, name) for name in _COLUMNS}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in record.items()
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ReportRow:
        """The row back from a dict of columns, as read from DuckDB, Polars or Arrow.

        Columns that this version does not know are left out; those it misses are None.
        """
        known = _COLUMNS.keys() & record.keys()
        values: dict[str, Any] = {name: record[name] for name in known}
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = tuple(value)
        return cls(**values)


_COLUMNS = {each.name: each for group in ReportRow.__bases__ for each in fields(group)}
"""In the order in which the row names its groups."""

VALIDATION_REPORT = Table(
    schema="quality",
    name="validation_report",
    description=(
        "One row per configured instrument and UTC day: whether the rebuilt book can be used, why "
        "not, and every figure behind that. Figures are null where no book could be rebuilt."
    ),
    columns=tuple(Column(name=name, **each.metadata) for name, each in _COLUMNS.items()),
    storage="duckdb",
)
