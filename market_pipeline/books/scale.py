"""Prices as whole ticks and sizes as whole lots: exact conversion, its losses, and inference.

A step (a tick or a lot) is `coefficient x 10^-decimals` with both integers, never a float, so that
`steps x coefficient / 10^decimals` is the float nearest to the decimal the venue printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.jit import kernel
from market_pipeline.books.state import read_only

__all__ = ["MAX_DECIMALS", "NOT_REPRESENTABLE", "Scale", "StepInference", "to_steps"]

MAX_DECIMALS = 15
NOT_REPRESENTABLE = -1
"""Stands in an array of steps for a value that is not a whole number of steps."""

_TOLERANCE_STEPS = 1e-6
# A float64 near x carries an error of x * 2^-53, and the scaling multiplies and divides once each.
_RELATIVE_TOLERANCE = 2.0**-51
# Half of what 64 bits hold, so that no kernel can overflow adding two of them.
_STEPS_LIMIT = float(2**62 - 512)


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
        # Python's integers, because a product may pass 64 bits where the quotient does not.
        exact = [divmod(step * numerator, denominator) for step in steps.tolist()]
        if any(rest or abs(whole) > _STEPS_LIMIT for whole, rest in exact):
            return None
        return np.array([whole for whole, _ in exact], np.int64)

    def to_floats(self, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """The values of whole steps, each the float64 nearest to the exact decimal."""
        scaled = steps if self.coefficient == 1 else steps * np.int64(self.coefficient)
        return np.asarray(scaled / 10.0**self.decimals, dtype=np.float64)


@kernel
def _to_steps(values, power, coefficient, steps):
    # Without a branch, so that the compiler computes several values at a time.
    losses = 0
    for i in range(values.size):
        exact = values[i] * power / coefficient
        whole = np.rint(exact)
        tolerance = max(_TOLERANCE_STEPS, abs(exact) * _RELATIVE_TOLERANCE)
        # NaN fails every comparison and so counts as a loss.
        is_whole = (abs(exact - whole) <= tolerance) & (abs(whole) <= _STEPS_LIMIT)
        losses += not is_whole
        steps[i] = np.int64(whole) if is_whole else NOT_REPRESENTABLE
    return losses


def to_steps(values: NDArray[np.float64], scale: Scale, steps: NDArray[np.int64]) -> int:
    """Writes each value as a whole number of steps and counts those that are none.

    A value counts as whole within 1e-6 of a step, or within the rounding error of a float64 of its
    size where that is more. The others become `NOT_REPRESENTABLE` and are never rounded, since a
    rounded price is another, real level.

    Args:
        values: float64, shape (n,), zero or positive.
        scale: The tick or lot of the instrument on that day.
        steps: int64, shape (n,), written.

    Returns:
        How many values are not a whole number of steps.
    """
    power, coefficient = 10.0**scale.decimals, float(scale.coefficient)
    return int(_to_steps(read_only(values), power, coefficient, steps))


@kernel
def _fold_step(values, decimals, divisor):
    power = 10.0**decimals
    for i in range(values.size):
        value = values[i]
        if value == 0.0:
            continue
        while decimals < MAX_DECIMALS:
            exact = value * power
            # Only the float's own error is forgiven here: a millionth may be the lot itself.
            if abs(exact - np.rint(exact)) <= exact * _RELATIVE_TOLERANCE:
                break
            decimals += 1
            power *= 10.0
            divisor *= 10
        whole = np.int64(np.rint(value * power))
        if divisor == 0:
            divisor = whole
        elif whole % divisor != 0:
            a, b = divisor, whole % divisor
            while b != 0:
                a, b = b, a % b
            divisor = a
    return decimals, divisor


class StepInference:
    """Finds the coarsest step that a day's values are all whole multiples of, batch by batch.

    The answer is what the data shows: a day that only touched every second tick gives twice the
    venue's tick.
    """

    def __init__(self) -> None:
        self._decimals = 0
        self._divisor = 0

    def add(self, values: NDArray[np.float64]) -> None:
        """Takes a batch of finite, non-negative float64 values into account."""
        decimals, divisor = _fold_step(read_only(values), self._decimals, self._divisor)
        self._decimals, self._divisor = int(decimals), int(divisor)

    @property
    def scale(self) -> Scale | None:
        """The step found, or None before the first value above zero."""
        if self._divisor == 0:
            return None
        return Scale.of(Decimal(self._divisor).scaleb(-self._decimals))
