"""What every planter of a fault needs: its span in ns, and some rows of a batch."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, date, datetime
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from market_pipeline.sources.simulated.market import Batch, Deltas, Snapshots, Trades
from market_pipeline.sources.simulated.plan import Fault

__all__ = ["BoolArray", "IntArray", "Planter", "midnight_ns", "rows_of", "span_ns", "within"]

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

_NS_PER_SECOND = 1_000_000_000
_Rows = TypeVar("_Rows", Deltas, Snapshots, Trades)


class Planter(Protocol):
    """Gives each batch of a day, in order, its faulty form."""

    def __call__(self, batch: Batch) -> Batch:
        """The batch as the files will have it."""
        ...


def midnight_ns(day: date) -> int:
    """The start of a UTC day, ns since the epoch."""
    return round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * _NS_PER_SECOND


def span_ns(fault: Fault) -> tuple[int, int]:
    """When a fault begins and when it is over, ns since the epoch."""
    start_ns = midnight_ns(fault.day)
    return (
        start_ns + round(fault.at_s * _NS_PER_SECOND),
        start_ns + round(fault.end_s * _NS_PER_SECOND),
    )


def within(receipt_ns: IntArray, span: tuple[int, int]) -> BoolArray:
    """True where a receipt time lies in `[start, end)`."""
    return (receipt_ns >= span[0]) & (receipt_ns < span[1])


def rows_of(table: _Rows, which: BoolArray | IntArray) -> _Rows:
    """Some rows of a table, by mask or in the order of their indices."""
    return type(table)(**{part.name: getattr(table, part.name)[which] for part in fields(table)})
