"""What a comparison of two books tells: a row of the pair and a row of each figure."""

# ruff: noqa: RUF009 - `table_column` and `figure` make dataclass fields, which is what belongs there.

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from market_pipeline.quality.words import time_text
from market_pipeline.warehouse.records import Columns, Identity, figure, table_column
from market_pipeline.warehouse.tables import Table

__all__ = [
    "FIDELITY_METRICS",
    "FIDELITY_REPORT",
    "Comparison",
    "FidelityMetric",
    "FidelityMetricRow",
    "FidelityPair",
    "FidelityRow",
    "Grade",
]

Grade = Literal["pass", "warn", "fail"]


@dataclass(frozen=True, kw_only=True)
class FidelityMetric(Columns):
    """One figure; the fields are the columns, in order."""

    metric: str = table_column("What was measured (see docs/fidelity.md).")
    level: int | None = figure("The level it is about, 1 the best; null for none.")
    side: Literal["bid", "ask"] | None = figure("The side it is about; null for none.")
    grid_ms: int | None = figure("The time grid it was measured on; null for none.")
    value: float = table_column("The figure.")
    bound: float | None = figure(
        "Up to here it passes: a threshold, or the noise floor of the golden book; null: no bound."
    )
    ratio: float | None = figure("value over bound.")
    grade: Grade | None = figure("pass up to a ratio of 1, warn up to 2, fail above.")
    samples: int | None = figure("Messages or instants it was measured on.")
    differing: int | None = figure("Messages at which it differs.")
    price_differing: int | None = figure("Those at which the price differs too.")
    runs: int | None = figure("Runs of messages at which it differs, none agreeing in between.")
    longest_run: int | None = figure("Messages of the longest of them.")
    longest_run_number: int | None = figure("Sequence number of its first message.")
    longest_run_seconds: float | None = figure(
        "From its first message to the one that agrees again, on the golden receipt clock."
    )
    first_number: int | None = figure("Sequence number of the first message at which it differs.")
    first_ns: int | None = figure(
        "When it first differs or is missing, or was worst, on the golden book's clock, ns UTC."
    )
    golden_price: float | None = figure("What the golden book had there; null without a level.")
    golden_size: float | None = figure("What the golden book had there; null without a level.")
    other_price: float | None = figure("What the other book had there; null without a level.")
    other_size: float | None = figure("What the other book had there; null without a level.")

    @property
    def title(self) -> str:
        """The figure with its side, level and grid, such as `size_error ask 3 at 100 ms`."""
        parts = [self.metric, self.side, None if self.level is None else str(self.level)]
        name = " ".join(part for part in parts if part)
        return name if self.grid_ms is None else f"{name} at {self.grid_ms} ms"

    @property
    def place(self) -> str:
        """Where it first differs, or was worst, in words; empty where that is not known."""
        if self.first_ns is None:
            return ""
        when = time_text(self.first_ns)
        if self.first_number is None:
            return when
        text = f"message {self.first_number}, {when}"
        if self.level is None:
            return text
        golden, other = (
            "no level" if price is None else f"{size:g} at {price:g}"
            for price, size in (
                (self.golden_price, self.golden_size),
                (self.other_price, self.other_size),
            )
        )
        return f"{text}: {other} instead of {golden}"


@dataclass(frozen=True, kw_only=True)
class FidelityPair(Columns):
    """What is known of a pair; the fields are the columns, in order."""

    golden: str = table_column("The book that the day is compared with.")
    grade: Grade | None = figure("The worst grade of any figure; null if nothing was comparable.")
    reason: str = table_column("Why, in a sentence: the worst figure, or why nothing was compared.")
    notes: tuple[str, ...] = table_column("What could not be compared, a sentence each.")
    worst_metric: str | None = figure("The figure with the highest ratio.")
    worst_ratio: float | None = figure("Its ratio; infinite if its bound is 0.")
    matched_by: Literal["number", "time"] = table_column(
        "number: messages are paired by update id; time: ids are not comparable, grids only."
    )
    clock: Literal["exchange", "receipt"] = table_column("The clock of the time grids.")
    matched: int = table_column("Messages that both books have.")
    compared: int = table_column("Those at which both books are valid.")
    golden_invalid: int = table_column("Matched messages at which the golden book is not valid.")
    other_invalid: int = table_column("Those at which only the other book is not.")
    only_golden: int = table_column("Messages in the common span of ids that the other book lacks.")
    only_other: int = table_column("Messages in it that the golden book lacks.")
    first_divergence_number: int | None = figure("Sequence number of the first that differs.")
    first_divergence_ns: int | None = figure("When, on the golden receipt clock, ns UTC.")
    first_divergence_level: int | None = figure("The level, 1 the best.")
    first_divergence_side: Literal["bid", "ask"] | None = figure("The side.")
    start_ns: int | None = figure("Where the common time begins, ns UTC; null without any.")
    common_seconds: float = table_column("From the later beginning to the earlier end.")
    both_valid_seconds: float = table_column("Of these, those in which both books are valid.")
    golden_only_seconds: float = table_column("Those in which only the golden book is valid.")
    other_only_seconds: float = table_column("Those in which only the other book is.")
    receipt_shift_ns: int | None = figure(
        "Other minus golden receipt time of a message, or of a touch, median."
    )
    receipt_shift_p01_ns: int | None = figure("The same, 1 % quantile.")
    receipt_shift_p99_ns: int | None = figure("The same, 99 % quantile.")
    exchange_shift_ns: int | None = figure("Other minus golden exchange time of these, median.")
    exchange_shift_p01_ns: int | None = figure("The same, 1 % quantile.")
    exchange_shift_p99_ns: int | None = figure("The same, 99 % quantile.")
    blocks: int = table_column("Five-minute blocks in which both books are valid long enough.")


@dataclass(frozen=True, kw_only=True)
class FidelityRow(Identity, FidelityPair):
    """A row of `quality.fidelity_report`."""


@dataclass(frozen=True, kw_only=True)
class FidelityMetricRow(Identity, FidelityMetric):
    """A row of `quality.fidelity_metrics`."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A compared pair and its figures.

    Attributes:
        other: The name of the measured book.
        pair: What is known of both.
        metrics: The figures.
    """

    other: str
    pair: FidelityPair
    metrics: list[FidelityMetric]

    @property
    def title(self) -> str:
        """Which book is compared with which."""
        return f"{self.other} against {self.pair.golden}"

    @property
    def figures(self) -> pl.DataFrame:
        """A row of each figure, in the columns of `quality.fidelity_metrics`."""
        return FIDELITY_METRICS.frame(self.metrics).select(FidelityMetric.names())


FIDELITY_REPORT = Table(
    schema="quality",
    name="fidelity_report",
    description="How far each instrument's day is from the golden book it is compared with.",
    columns=FidelityRow.columns(),
    storage="duckdb",
)

FIDELITY_METRICS = Table(
    schema="quality",
    name="fidelity_metrics",
    description="Every figure of the fidelity report: levels, time grids, distributions.",
    columns=FidelityMetricRow.columns(),
    storage="duckdb",
)
