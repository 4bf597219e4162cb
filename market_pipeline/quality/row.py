"""The row of `quality.validation_report`: the verdict, and the figures of every measurement."""

# ruff: noqa: RUF009 - `table_column` and `figure` make dataclass fields, which is what belongs there.

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from market_pipeline.books.record import Outcome
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
    ListingFigures,
    OutsideDayFigures,
    RawOrderFigures,
    SchemaFigures,
    SeenStepFigures,
)
from market_pipeline.quality.intervals import SECONDS_PER_DAY
from market_pipeline.warehouse.records import Columns, Identity, figure, table_column
from market_pipeline.warehouse.tables import Table

__all__ = ["VALIDATION_REPORT", "Condition", "ReportRow"]

Condition = Literal["available", "degraded", "pending", "missing"]


@dataclass(frozen=True, kw_only=True)
class _Verdict(Columns):
    """What became of the day, and why."""

    condition: Condition | None = figure("available, degraded, pending or missing.")
    reasons: tuple[str, ...] = table_column(
        "One sentence per reason; empty if available.", default=()
    )
    warnings: tuple[str, ...] = table_column(
        "Failed checks that do not change the condition.", default=()
    )
    unmeasured_checks: tuple[str, ...] = table_column(
        "Checks whose figures could not be measured; each has failed.", default=()
    )
    unmeasured_errors: tuple[str, ...] = table_column(
        "The error that each of these checks met.", default=()
    )
    thresholds: str | None = figure("The thresholds that the verdict was given by, a JSON object.")
    outcome: Outcome = table_column("rebuilt, no_data (no file or no row) or quarantined.")
    failure_kind: str | None = figure("Class of the error; null if rebuilt.")
    failure: str | None = figure("The error with file, row and next step; null if rebuilt.")


@dataclass(frozen=True, kw_only=True)
class ReportRow(
    Identity,
    _Verdict,
    ListingFigures,
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
    def expected(self) -> float:
        """The seconds expected of the day: all of it in a row of a version that did not know."""
        return SECONDS_PER_DAY if self.expected_seconds is None else self.expected_seconds


VALIDATION_REPORT = Table(
    schema="quality",
    name="validation_report",
    description=(
        "One row per configured instrument and UTC day: whether the rebuilt book can be used, why "
        "not, and every figure behind that. Figures are null where no book could be rebuilt."
    ),
    columns=ReportRow.columns(),
    storage="duckdb",
)
