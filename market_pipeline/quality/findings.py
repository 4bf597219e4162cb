"""Where exactly a day is wrong: one row of `quality.findings` for each place that is shown."""

# ruff: noqa: RUF009 - `column` makes dataclass fields, which is what belongs there.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from market_pipeline.books.tables import IDENTITY
from market_pipeline.quality.intervals import IntArray
from market_pipeline.warehouse.tables import Column, Table

__all__ = ["FINDINGS", "MAX_PLACES", "Finding", "Measured", "Place", "chosen_places", "merged"]

Place = Literal["first", "worst", "further"]

MAX_PLACES = 100
"""So many places of a check are kept for an instrument and day; all are counted in the report."""


def _column(sql_type: str, description: str, **default: Any) -> Any:
    return field(metadata={"type": sql_type, "description": description}, **default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place at which a check found something; the fields are the columns, in order."""

    check: str = _column("VARCHAR", "The check's name.")
    place: Place = _column(
        "VARCHAR", "first, worst (unless the first is the worst too) or further."
    )
    ts_receipt_ns: int | None = _column(
        "BIGINT", "When, on the receipt clock, ns UTC.", default=None
    )
    end_ns: int | None = _column(
        "BIGINT", "End of the span; null for a single instant.", default=None
    )
    sequence_number: int | None = _column("BIGINT", "Sequence number of the message.", default=None)
    file: str | None = _column("VARCHAR", "The raw file, as a path below the lake.", default=None)
    row: int | None = _column("BIGINT", "Its zero-based row.", default=None)
    column: str | None = _column("VARCHAR", "The column of the value.", default=None)
    value: str | None = _column("VARCHAR", "What was found.", default=None)
    expected: str | None = _column("VARCHAR", "What would have been right.", default=None)
    note: str = _column("VARCHAR", "What it means, in a sentence.")

    def as_record(self) -> dict[str, Any]:
        """The finding as a dict of columns."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, slots=True)
class Measured:
    """What one measurement adds to a day.

    Attributes:
        columns: Columns of its report row.
        findings: Places.
        unmeasured: By the name of a check, the error for which its figures could not be measured.
    """

    columns: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    unmeasured: dict[str, str] = field(default_factory=dict)


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
    columns: dict[str, Any] = {}
    found: dict[str, list[Finding]] = {}
    errors: dict[str, dict[str, None]] = {}
    for part in parts:
        columns |= part.columns
        for finding in part.findings:
            found.setdefault(finding.check, []).append(finding)
        for check, error in part.unmeasured.items():
            errors.setdefault(check, {})[error] = None
    return Measured(
        columns,
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
