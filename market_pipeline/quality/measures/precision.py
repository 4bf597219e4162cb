"""Values that are not a whole number of ticks or lots: how many, and where the first ones stand.

The rebuild finds them while it turns prices and sizes into integers (`books.scale`); here is the
form in which they are counted and shown. A value is off its step if it is further than 1e-6 of a
step from a whole multiple. From 2^51 steps up a 64-bit float cannot tell a step from half of one,
so a value so large is a loss too, whatever it looks like. No loss enters the book, because its
rounded neighbour is another level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Literal

from market_pipeline.books.scale import EXACT_STEPS

__all__ = [
    "MAX_OFFENDERS",
    "TOO_LARGE",
    "PrecisionLoss",
    "PrecisionReport",
    "is_too_large",
    "loss_expected",
    "loss_note",
    "nearest_step",
]

MAX_OFFENDERS = 10
"""So many offenders are kept by place and value; all are counted."""

TOO_LARGE = "too large for a 64-bit float to be exact"
"""Of a loss that is no multiple because too many values share its float."""

_STEP_NAMES = {"price": "tick", "size": "lot"}

# A float64 has at most 309 digits before the point and 1,074 after it.
_EXACT = Context(prec=1400)


@dataclass(frozen=True, slots=True)
class PrecisionLoss:
    """One value that is not a whole number of steps, and where it stands.

    Attributes:
        file: The raw file, as a path below the lake.
        row: Zero-based row of that file.
        value: As the vendor wrote it.
    """

    file: str
    row: int
    value: float


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


def is_too_large(value: float, step: Decimal) -> bool:
    """Whether a value is so many steps that its float stands for several multiples, or halves."""
    if not math.isfinite(value):
        return False
    return abs(_EXACT.divide(Decimal(value), step)) > EXACT_STEPS - Decimal("0.5")


def loss_note(column: str, value: float, step: Decimal) -> str:
    """Why a price or size was refused, in a sentence."""
    name = _STEP_NAMES[column]
    if is_too_large(value, step):
        return (
            f"This {column} is {TOO_LARGE}: from 2^51 {name}s of {step:f} up it cannot tell one "
            f"{name} from half of one. It was refused."
        )
    return f"This {column} is no whole number of {name}s of {step:f}, and was refused."


def loss_expected(value: float, step: Decimal) -> str | None:
    """What would have been right: the nearest multiple, or a value that a float can tell."""
    if is_too_large(value, step):
        return f"below {_EXACT.multiply(EXACT_STEPS, step):f}"
    nearest = nearest_step(value, step)
    return None if nearest is None else f"{nearest:f}"


def nearest_step(value: float, step: Decimal) -> Decimal | None:
    """The multiple of a step nearest to a value, exactly; None if the value is not finite.

    Halfway values go to the even multiple.
    """
    if not math.isfinite(value):
        return None
    multiple = _EXACT.divide(Decimal(value), step).to_integral_value(ROUND_HALF_EVEN, _EXACT)
    return _EXACT.multiply(multiple, step)
