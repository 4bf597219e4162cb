"""Where exactly a day is wrong: one row of `quality.findings` for each place that is shown."""

# ruff: noqa: RUF009 - `column` makes dataclass fields, which is what belongs there.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from market_pipeline.books.tables import IDENTITY
from market_pipeline.lake.tables import Column, Table

__all__ = ["FINDINGS", "MAX_PLACES", "Finding", "Measured", "Place", "merged"]

Place = Literal["first", "worst", "further"]

MAX_PLACES = 100
"""So many places of a check are kept for an instrument and day; all are counted in the report."""


def _column(sql_type: str, description: str, **default: Any) -> Any:
    return field(metadata={"type": sql_type, "description": description}, **default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place at which a check found something; the fields are the columns, in order."""

    check: str = _column("VARCHAR", "The check's name.")
    place: Place = _column("VARCHAR", "first, worst or further.")
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
    """What one measurement adds to a day: columns of its report row, and places."""

    columns: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def merged(parts: Sequence[Measured]) -> Measured:
    """Several measurements as one; of each check at most `MAX_PLACES` places are kept."""
    columns: dict[str, Any] = {}
    kept: dict[str, list[Finding]] = {}
    for part in parts:
        columns |= part.columns
        for finding in part.findings:
            places = kept.setdefault(finding.check, [])
            if len(places) < MAX_PLACES:
                places.append(finding)
    return Measured(columns, [finding for places in kept.values() for finding in places])


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
