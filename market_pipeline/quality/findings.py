"""Where exactly a day is wrong: one row of `quality.findings` for each place that is shown."""

# ruff: noqa: RUF009 - `table_column` and `figure` make dataclass fields, which is what belongs there.

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np

from market_pipeline.quality.intervals import IntArray
from market_pipeline.warehouse.records import Columns, Identity, figure, table_column
from market_pipeline.warehouse.tables import Table

__all__ = [
    "FINDINGS",
    "MAX_PLACES",
    "Finding",
    "FindingRow",
    "Measured",
    "Place",
    "chosen_places",
    "first_and_worst",
    "first_marked",
    "merged",
    "with_first",
]

Place = Literal["first", "worst", "further"]
_Item = TypeVar("_Item")

MAX_PLACES = 100
"""So many places of a check are kept for an instrument and day; all are counted in the report."""


@dataclass(frozen=True, kw_only=True)
class Finding(Columns):
    """One place at which a check found something; the fields are the columns, in order."""

    check: str = table_column("The check's name.")
    place: Place = table_column("first, worst (unless the first is the worst too) or further.")
    ts_receipt_ns: int | None = figure("When, on the receipt clock, ns UTC.")
    end_ns: int | None = figure("End of the span; null for a single instant.")
    sequence_number: int | None = figure("Sequence number of the message.")
    file: str | None = figure("The raw file, as a path below the lake.")
    row: int | None = figure("Its zero-based row.")
    column: str | None = figure("The column of the value.")
    value: str | None = figure("What was found.")
    expected: str | None = figure("What would have been right.")
    note: str = table_column("What it means, in a sentence.")


@dataclass(frozen=True, kw_only=True)
class FindingRow(Identity, Finding):
    """A row of `quality.findings`."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one measurement adds to a day.

    Attributes:
        figures: Columns of its report row; where two groups are of one kind, the last counts.
        findings: Places.
        unmeasured: By the name of a check, the error for which its figures could not be measured.
    """

    figures: tuple[Columns, ...] = ()
    findings: list[Finding] = field(default_factory=list)
    unmeasured: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, Any]:
        """The figures by column."""
        return {name: value for group in self.figures for name, value in vars(group).items()}


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


def first_and_worst(count: int, worst: int) -> list[tuple[int, Place]]:
    """Which of so many places to show: the first, the worst, and further ones in order of time.

    Returns:
        At most `MAX_PLACES` indices, each with what it is.
    """
    shown = min(count, MAX_PLACES)
    order = list(dict.fromkeys((0, worst, *range(shown))))[:shown]
    names: dict[int, Place] = {worst: "worst", 0: "first"}
    return [(index, names.get(index, "further")) for index in order]


def first_marked(
    items: Iterable[_Item], kind: Callable[[_Item], Hashable] = lambda _: None
) -> Iterator[tuple[Place, _Item]]:
    """What is shown, in its order, each with its place: the first of a kind is marked as such."""
    met = set()
    for item in items:
        yield "further" if kind(item) in met else "first", item
        met.add(kind(item))


def with_first(findings: Iterable[Finding]) -> list[Finding]:
    """The findings of one check in their order, the first marked as such and no other."""
    return [replace(finding, place=place) for place, finding in first_marked(findings)]


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
    columns=FindingRow.columns(),
    storage="duckdb",
)
