"""Levels as a venue writes them, and as a snapshot has them beside a book."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.levels import BID
from market_pipeline.books.walk import Side

__all__ = ["levels_differing", "numbers"]


def numbers(texts: Sequence[str]) -> NDArray[np.float64]:
    """Float64 (n,) of texts; NaN, which is no whole number of steps, for what is no number."""
    try:
        return np.array([float(text) for text in texts])
    except ValueError:
        return np.array([_number(text) for text in texts])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def levels_differing(
    side: int, own: Side, whole: NDArray[np.int64], after: list[NDArray[np.int64]]
) -> int:
    """How many levels of a side differ from a snapshot's with the messages after it."""
    theirs = dict(zip(*whole.tolist(), strict=True))
    reach = (min if side == BID else max)(theirs, default=0)
    for steps in after:
        theirs.update(zip(*steps.tolist(), strict=True))
    ours = dict(zip(*(each.tolist() for each in own), strict=True))
    differing = 0
    for price in theirs.keys() | ours.keys():
        is_within = price >= reach if side == BID else price <= reach
        differing += is_within and ours.get(price, 0) != max(theirs.get(price, 0), 0)
    return differing
