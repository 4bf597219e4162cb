"""Ticks, lots and steps of bars: exact decimals that fit integers of 64 bits."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from market_pipeline.config.values import Integer

__all__ = ["Amounts", "Counts", "Step"]

_MAX_DECIMALS = 15
_INT64_MAX = 2**63 - 1


def _step(value: object) -> object:
    """A tick or lot as an exact decimal, or "infer"."""
    return value if value == "infer" else _exact(value, ", or infer")


def _exact(value: object, otherwise: str = "") -> Decimal:
    """A positive decimal; a float is read as it is printed, without its noise."""
    rule = f"expected a positive number such as 0.01{otherwise}"
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise ValueError(rule)
    try:
        step = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(rule) from None
    if not step.is_finite() or step <= 0:
        raise ValueError(rule)
    # The exponent is looked at first: a fraction of 1e999999 would be a number of a million digits.
    if step.adjusted() > 18 or step.adjusted() < -_MAX_DECIMALS:
        raise ValueError(f"expected a number between 1e-{_MAX_DECIMALS} and {_INT64_MAX}")
    ratio = Fraction(step)
    decimals = next((d for d in range(_MAX_DECIMALS + 1) if (ratio * 10**d).denominator == 1), None)
    if decimals is None:
        raise ValueError(f"expected at most {_MAX_DECIMALS} decimals")
    if ratio * 10**decimals > _INT64_MAX:
        raise ValueError("expected a number whose digits fit a 64-bit integer")
    return step


def _several(value: object) -> object:
    """The values of a list, or the one that stands there without brackets."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _each_once(values: tuple[Decimal, ...]) -> tuple[Decimal, ...]:
    if len(set(values)) < len(values):
        raise ValueError("expected each step once")
    return tuple(sorted(values))


_Several = BeforeValidator(_several), AfterValidator(_each_once)
Amounts = Annotated[tuple[Annotated[Decimal, BeforeValidator(_exact)], ...], *_Several]
Counts = Annotated[tuple[Annotated[Integer, Field(ge=1, le=_INT64_MAX)], ...], *_Several]
Step = Annotated[Decimal | Literal["infer"], BeforeValidator(_step)]
