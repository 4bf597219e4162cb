"""Values that are not a whole number of ticks or lots: how many, and where the first ones stand.

The rebuild finds them while it turns prices and sizes into integers (`books.scale`); here is the
form in which they are counted, merged over batches and files, and shown. A value is off its step if
it is further than 1e-6 of a step from a whole multiple, or if the multiple exceeds int64. It never
enters the book, because its rounded neighbour is another level.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Literal

__all__ = [
    "MAX_OFFENDERS",
    "PrecisionLoss",
    "PrecisionReport",
    "nearest_step",
    "precision_table",
]

MAX_OFFENDERS = 10
"""So many offenders are kept by place and value; all are counted."""

# A float64 has at most 309 digits before the point and 1,074 after it.
_EXACT = Context(prec=1400)


@dataclass(frozen=True, slots=True)
class PrecisionLoss:
    """One value that is not a whole number of steps, and where it stands.

    Attributes:
        file: The raw file, as a path below the lake.
        row: Zero-based row of that file.
        value: As the vendor wrote it.
        nearest: The nearest multiple of the step; None if the value is not finite.
    """

    file: str
    row: int
    value: float
    nearest: Decimal | None

    @classmethod
    def at(cls, file: str, row: int, value: float, step: Decimal) -> PrecisionLoss:
        """The loss of a value against a step."""
        return cls(file=file, row=row, value=value, nearest=nearest_step(value, step))


@dataclass(frozen=True, slots=True)
class PrecisionReport:
    """The precision losses of one column of one instrument's day.

    Attributes:
        column: "price" (step: tick) or "size" (step: lot).
        step: The step of that day.
        losses: How many values are not on it.
        first: The first of them in file and row order, at most `MAX_OFFENDERS`.
    """

    column: Literal["price", "size"]
    step: Decimal
    losses: int = 0
    first: tuple[PrecisionLoss, ...] = field(default=())

    def __post_init__(self) -> None:
        if len(self.first) != min(self.losses, MAX_OFFENDERS):
            raise ValueError(
                f"{self.losses} losses need {min(self.losses, MAX_OFFENDERS)} located offenders, "
                f"found {len(self.first)}: a count without a place helps nobody"
            )

    def merged(self, later: PrecisionReport) -> PrecisionReport:
        """This report and that of a later batch or file, as one.

        Raises:
            ValueError: If the two are of different columns or steps.
        """
        if (self.column, self.step) != (later.column, later.step):
            raise ValueError(
                f"reports of {self.column} in steps of {self.step} and of {later.column} in steps "
                f"of {later.step} cannot be merged: their losses mean different things"
            )
        return PrecisionReport(
            column=self.column,
            step=self.step,
            losses=self.losses + later.losses,
            first=(self.first + later.first)[:MAX_OFFENDERS],
        )

    def describe(self) -> str:
        """One sentence: how many values are off the step, and the first of them."""
        if not self.first:
            return f"Every {self.column} is a whole multiple of {self.step:f}."
        offender = self.first[0]
        nearest = f", nearest {offender.nearest:f}" if offender.nearest is not None else ""
        return (
            f"{self.losses:,} {self.column} value{'s are' if self.losses > 1 else ' is'} not a "
            f"whole multiple of {self.step:f}; first {offender.value!r}{nearest} in "
            f"{offender.file}, row {offender.row}."
        )


def nearest_step(value: float, step: Decimal) -> Decimal | None:
    """The multiple of a step nearest to a value, exactly; None if the value is not finite.

    Halfway values go to the even multiple.
    """
    if not math.isfinite(value):
        return None
    multiple = _EXACT.divide(Decimal(value), step).to_integral_value(ROUND_HALF_EVEN, _EXACT)
    return _EXACT.multiply(multiple, step)


def precision_table(reports: Iterable[PrecisionReport]) -> str:
    """The located offenders as a Markdown table; one sentence per report if there is none."""
    reports = tuple(reports)
    offenders = [
        f"| {report.column} | {report.step:f} | {loss.file} | {loss.row} | {loss.value!r} "
        f"| {'' if loss.nearest is None else format(loss.nearest, 'f')} |"
        for report in reports
        for loss in report.first
    ]
    if not offenders:
        return "\n".join(report.describe() for report in reports)
    head = ["| column | step | file | row | value | nearest |", "|---|---|---|---|---|---|"]
    return "\n".join(head + offenders)
