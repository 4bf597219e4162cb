"""Prices as whole ticks and sizes as whole lots: exact conversion, and its losses.

A step (a tick or a lot) is `coefficient x 10^-decimals` with both integers, never a float, so that
`steps x coefficient / 10^decimals` is the float nearest to the decimal the venue printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.state import read_only
from market_pipeline.jit import inlined_kernel, kernel

__all__ = [
    "EXACT_STEPS",
    "LARGEST_VALUE",
    "MAX_DECIMALS",
    "NOT_REPRESENTABLE",
    "RELATIVE_TOLERANCE",
    "ROUNDED_STEPS",
    "Scale",
    "scales_of",
    "to_steps",
]

MAX_DECIMALS = 15

EXACT_STEPS = 2**51
"""From so many steps up a float64 cannot tell a whole step from half of one: it stands for values
up to half a step apart. Below it every multiple of the step has a float of its own.
"""

NOT_REPRESENTABLE = -1
"""Stands in an array of steps for a value that is not a whole number of steps, or too many."""

_TOLERANCE_STEPS = 1e-6
# A float64 near x carries an error of x * 2^-53, and the scaling multiplies and divides once each.
RELATIVE_TOLERANCE = 2.0**-51
# Up to so many steps these errors add up to less than a quarter of one: further up, it takes an
# exact residual to say whether a value is nearer to a whole step than to half of one.
ROUNDED_STEPS = 2.0**49
LARGEST_VALUE = 2.0**53
# Splits a float64 into two halves whose products are exact.
_SPLITTER = 2.0**27 + 1.0


@dataclass(frozen=True, slots=True)
class Scale:
    """One step of a price or size: `coefficient x 10^-decimals`.

    `decimals` is between 0 and 15 and `coefficient` at least 1.
    """

    coefficient: int
    decimals: int

    @classmethod
    def of(cls, step: Decimal) -> Scale:
        """The scale of a positive decimal step, e.g. `Decimal("0.05")` is 5 x 10^-2.

        Raises:
            ValueError: If the step is not positive or has more than 15 decimals.
        """
        if not step.is_finite() or step <= 0:
            raise ValueError(f"a step must be a positive number, found {step}")
        exponent = step.normalize().as_tuple().exponent
        decimals = max(0, -int(exponent))
        if decimals > MAX_DECIMALS:
            raise ValueError(f"a step has at most {MAX_DECIMALS} decimals, found {step}")
        return cls(coefficient=int(step.scaleb(decimals)), decimals=decimals)

    @property
    def step(self) -> Decimal:
        """The step as an exact decimal."""
        return Decimal(self.coefficient).scaleb(-self.decimals)

    def steps_from(self, steps: NDArray[np.int64], other: Scale) -> NDArray[np.int64] | None:
        """Whole steps of another scale in this one's; None if one is none here, or too many."""
        decimals = self.decimals - other.decimals
        numerator = other.coefficient * 10 ** max(0, decimals)
        denominator = self.coefficient * 10 ** max(0, -decimals)
        if numerator == denominator:  # as on most days, and a book has thousands of levels
            fits = (steps > -EXACT_STEPS) & (steps < EXACT_STEPS)
            return steps.copy() if fits.all() else None
        # Python's integers, because a product may pass 64 bits where the quotient does not.
        exact = [divmod(step * numerator, denominator) for step in steps.tolist()]
        if any(rest or abs(whole) >= EXACT_STEPS for whole, rest in exact):
            return None
        return np.array([whole for whole, _ in exact], np.int64)

    def to_floats(self, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """The values of whole steps, each the float64 nearest to the exact decimal."""
        if self.coefficient == 1:
            return np.asarray(steps / 10.0**self.decimals, dtype=np.float64)
        most = int(np.abs(steps).max(initial=0))
        if most * self.coefficient > LARGEST_VALUE:
            # Two roundings would be one too many; Python's division of integers has one.
            denominator = 10**self.decimals
            exact = [step * self.coefficient / denominator for step in steps.ravel().tolist()]
            return np.array(exact, dtype=np.float64).reshape(steps.shape)
        scaled = steps * np.int64(self.coefficient)
        return np.asarray(scaled / 10.0**self.decimals, dtype=np.float64)


def scales_of(tick: str | None, lot: str | None) -> tuple[Scale, Scale]:
    """The tick and the lot as the tables have them, exact decimals.

    Raises:
        ValueError: One is null, as of a day that was not rebuilt, or no step.
    """
    if tick is None or lot is None:
        raise ValueError(f"a day without a tick or a lot, found {tick} and {lot}")
    return Scale.of(Decimal(tick)), Scale.of(Decimal(lot))


@kernel
def _to_steps(values, power, coefficient, steps):
    # Without a branch, so that the compiler computes several values at a time.
    losses = 0
    for i in range(values.size):
        exact = values[i] * power / coefficient
        whole = np.rint(exact)
        tolerance = max(_TOLERANCE_STEPS, abs(exact) * RELATIVE_TOLERANCE)
        # NaN fails every comparison and so counts as a loss.
        is_whole = (abs(exact - whole) <= tolerance) & (abs(whole) <= ROUNDED_STEPS)
        losses += not is_whole
        steps[i] = np.int64(whole) if is_whole else NOT_REPRESENTABLE
    return losses


@inlined_kernel
def _product(one, other):
    # Dekker's: the product as the float64 nearest to it and the exact rest.
    scaled = _SPLITTER * one
    one_high = scaled - (scaled - one)
    one_low = one - one_high
    scaled = _SPLITTER * other
    other_high = scaled - (scaled - other)
    other_low = other - other_high
    nearest = one * other
    rest = one_low * other_low - (
        ((nearest - one_high * other_high) - one_low * other_high) - one_high * other_low
    )
    return nearest, rest


@kernel
def _large_to_steps(values, power, coefficient, steps):
    found = 0
    for i in range(values.size):
        whole = np.rint(values[i] * power / coefficient)
        if not ROUNDED_STEPS < whole <= EXACT_STEPS:
            continue
        # Both products are within a step of each other, so that their difference is exact.
        scaled, scaled_rest = _product(values[i], power)
        multiple, multiple_rest = _product(whole, coefficient)
        off = (scaled - multiple) + (scaled_rest - multiple_rest)
        if abs(off) > 0.5 * coefficient:
            away = 1.0 if off > 0.0 else -1.0
            whole += away
            off -= away * coefficient
        if abs(off) <= 0.25 * coefficient and whole < EXACT_STEPS:
            steps[i] = np.int64(whole)
            found += 1
    return found


def to_steps(values: NDArray[np.float64], scale: Scale, steps: NDArray[np.int64]) -> int:
    """Writes each value as a whole number of steps and counts those that are none.

    A value counts as whole within 1e-6 of a step, or within the rounding error of a float64 of its
    size where that is more, but never if it is further than a quarter of a step away. `EXACT_STEPS`
    steps or more count as none, because their float stands for other values too. What is none
    becomes `NOT_REPRESENTABLE` and is never rounded, since a rounded price is another, real level.

    Args:
        values: float64, shape (n,), zero or positive.
        scale: The tick or lot of the instrument on that day.
        steps: int64, shape (n,), written.

    Returns:
        How many values are not a whole number of steps, or too large to be distinguished from their
        neighbours.
    """
    power, coefficient = 10.0**scale.decimals, float(scale.coefficient)
    losses = int(_to_steps(read_only(values), power, coefficient, steps))
    if losses and coefficient == scale.coefficient:
        losses -= int(_large_to_steps(read_only(values), power, coefficient, steps))
    return losses
