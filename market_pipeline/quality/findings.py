"""Where exactly a day is wrong: one row of `quality.findings` for each place that is shown."""

# ruff: noqa: RUF009 - `table_column` and `figure` make dataclass fields, which is what belongs there.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from market_pipeline.books.tables import IDENTITY
from market_pipeline.quality.figures.base import Figures, columns_of, figure, table_column
from market_pipeline.quality.intervals import IntArray
from market_pipeline.warehouse.tables import Column, Table

__all__ = ["FINDINGS", "MAX_PLACES", "Finding", "Measured", "Place", "chosen_places", "merged"]

Place = Literal["first", "worst", "further"]

MAX_PLACES = 100
"""So many places of a check are kept for an instrument and day; all are counted in the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place at which a check found something; the fields are the columns, in order."""

    check: str = table_column("VARCHAR", "The check's name.")
    place: Place = table_column(
        "VARCHAR", "first, worst (unless the first is the worst too) or further."
    )
    ts_receipt_ns: int | None = figure("BIGINT", "When, on the receipt clock, ns UTC.")
    end_ns: int | None = figure("BIGINT", "End of the span; null for a single instant.")
    sequence_number: int | None = figure("BIGINT", "Sequence number of the message.")
    file: str | None = figure("VARCHAR", "The raw file, as a path below the lake.")
    row: int | None = figure("BIGINT", "Its zero-based row.")
    column: str | None = figure("VARCHAR", "The column of the value.")
    value: str | None = figure("VARCHAR", "What was found.")
    expected: str | None = figure("VARCHAR", "What would have been right.")
    note: str = table_column("VARCHAR", "What it means, in a sentence.")

    def as_record(self) -> dict[str, Any]:
        """The finding as a dict of columns."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, slots=True)
class Measured:
    """What one measurement adds to a day.

    Attributes:
        figures: Columns of its report row; where two groups are of one kind, the last counts.
        findings: Places.
        unmeasured: By the name of a check, the error for which its figures could not be measured.
    """

    figures: tuple[Figures, ...] = ()
    findings: list[Finding] = field(default_factory=list)
    unmeasured: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, Any]:
        """The figures by column."""
        return columns_of(self.figures)


def chosen_places(sizes: IntArray) -> list[tuple[int, Place]]:
    """Which of many places to show: the first, and then the largest, at most `MAX_PLACES`.

    Args:
        sizes: int64, shape (n,): how bad each is, in the order of time.

    Returns:
        Indices in ascending order, each with what it is.
    """
    if len(sizes) == 0:
        return []
    worst = int(np.argmax(sizes))
    largest = np.argsort(-sizes, kind="stable")[:MAX_PLACES]
    kept = sorted({0, worst, *largest[: MAX_PLACES - 1].tolist()})
    names: dict[int, Place] = {worst: "worst", 0: "first"}
    return [(index, names.get(index, "further")) for index in kept]


def merged(parts: Sequence[Measured]) -> Measured:
    """Several measurements as one; of each check at most `MAX_PLACES` places are kept.

    The first and the worst places are never those that are left out.
    """
    found: dict[str, list[Finding]] = {}
    errors: dict[str, dict[str, None]] = {}
    for part in parts:
        for finding in part.findings:
            found.setdefault(finding.check, []).append(finding)
        for check, error in part.unmeasured.items():
            errors.setdefault(check, {})[error] = None
    return Measured(
        tuple(figures for part in parts for figures in part.figures),
        [finding for places in found.values() for finding in _cut(places)],
        {check: "; ".join(texts) for check, texts in errors.items()},
    )


def _cut(places: list[Finding]) -> list[Finding]:
    """At most `MAX_PLACES` of a check's places, in their order; further ones are left out first."""
    room = MAX_PLACES - sum(finding.place != "further" for finding in places)
    kept = []
    for finding in places:
        if finding.place == "further":
            room -= 1
            if room < 0:
                continue
        kept.append(finding)
    return kept[:MAX_PLACES]


FINDINGS = Table(
    schema="quality",
    name="findings",
    description=(
        "Where a day is wrong: the first, the worst and further places of every check, at most "
        f"{MAX_PLACES} each."
    ),
    columns=(
        *IDENTITY,
        *(Column(name=each.name, **each.metadata) for each in fields(Finding)),
    ),
    storage="duckdb",
)
