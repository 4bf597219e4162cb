"""Raw values that cannot be what their column says: counted row by row, the first ones located.

Nothing is refused here: a reader that turns rows into a book refuses them, and this says what it
will meet. A row counts once for each kind of fault that it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.state import read_only
from market_pipeline.jit import kernel
from market_pipeline.shown import shown
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawBatch, RawTable

__all__ = ["EXPECTED", "REFUSED", "VIOLATIONS", "DomainCount", "DomainFault", "DomainPlace"]

_MAX_PLACES = 10
_MAX_VALUE = 200
_Mask = NDArray[np.bool_]


class DomainFault(StrEnum):
    """How a row's values can be wrong; the names are those of the columns that count them."""

    NULL = "null_rows"
    ZERO_PRICE = "zero_prices"
    NEGATIVE_PRICE = "negative_prices"
    ZERO_SIZE = "zero_sizes"
    NEGATIVE_SIZE = "negative_sizes"
    NOT_FINITE = "not_finite"
    UNKNOWN_SIDE = "unknown_sides"
    ZERO_TIME = "zero_times"
    NEGATIVE_TIME = "negative_times"
    FUTURE_TIME = "future_times"
    OUTSIDE_DAY = "times_outside_day"
    NEGATIVE_LATENCY = "negative_latencies"


_F = DomainFault
REFUSED = (
    _F.NULL,
    _F.ZERO_PRICE,
    _F.NEGATIVE_PRICE,
    _F.ZERO_SIZE,
    _F.NEGATIVE_SIZE,
    _F.NOT_FINITE,
    _F.UNKNOWN_SIDE,
)
"""Of which a single one keeps rows from being used."""
VIOLATIONS = (*REFUSED, _F.ZERO_TIME, _F.NEGATIVE_TIME, _F.FUTURE_TIME)
"""What no value may be; the others only say how the clocks of venue and host lie to each other."""

EXPECTED = {
    _F.NULL: "a value",
    _F.ZERO_PRICE: "a price above 0",
    _F.NEGATIVE_PRICE: "a price above 0",
    _F.ZERO_SIZE: "a traded size above 0",
    _F.NEGATIVE_SIZE: "a size of at least 0",
    _F.NOT_FINITE: "a finite number",
    _F.UNKNOWN_SIDE: "buy or sell",
    _F.ZERO_TIME: "a time of the day",
    _F.NEGATIVE_TIME: "a time of the day",
    _F.FUTURE_TIME: "a time of the day",
}
"""What would have been right."""


class DomainPlace(NamedTuple):
    """A row with a violation: where, in which column of the file, and the value as text."""

    kind: DomainFault
    file: Path
    row: int
    column: str
    value: str
    ts_receipt_ns: int | None
    sequence_number: int | None


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of a raw table by what they hold. Levels of a snapshot may be absent."""

    price: tuple[str, ...]
    size: tuple[str, ...]
    sequence: str
    levels_may_be_absent: bool = False
    zero_size_is_removal: bool = False


def _levels(part: str) -> tuple[str, ...]:
    return tuple(name for name in SNAPSHOTS.columns if name.endswith(f"_{part}"))


_TIMES = ("timestamp", "receipt_timestamp")
_COLUMNS = {
    DELTAS.name: _Columns(("price",), ("size",), "sequence_number", zero_size_is_removal=True),
    SNAPSHOTS.name: _Columns(
        _levels("price"), _levels("size"), "sequence_number", levels_may_be_absent=True
    ),
    TRADES.name: _Columns(("price",), ("amount",), "id"),
}


@dataclass
class DomainCount:
    """Counts the rows of a raw table whose values are outside their domain, batch by batch.

    A null, NaN or 0 in a level of a snapshot is no fault: the level is not there.

    Attributes:
        day_start_ns, day_end_ns: The UTC day.
        tolerance_ns: A time further than this after the day's end is in the future.
        counts: Rows by kind of fault.
        removals: Rows of deltas with size 0, which remove a level; normal.
        places: The first places of each kind that is a violation, in feed order within it.
    """

    table: RawTable
    day_start_ns: int
    day_end_ns: int
    tolerance_ns: int
    counts: dict[DomainFault, int] = field(default_factory=lambda: dict.fromkeys(DomainFault, 0))
    removals: int = 0
    places: dict[DomainFault, list[DomainPlace]] = field(
        default_factory=lambda: {kind: [] for kind in VIOLATIONS}
    )

    def add(self, batch: RawBatch) -> None:
        """Takes a batch of rows with all columns of the table into account."""
        found: dict[DomainFault, dict[str, _Mask]] = {}
        for kind, column, mask in self._faults(batch):
            if mask.any():
                found.setdefault(kind, {})[column] = mask
        for kind, masks in found.items():
            rows = np.flatnonzero(np.logical_or.reduce(list(masks.values())))
            self.counts[kind] += rows.size
            if kind in self.places:
                places = self.places[kind]
                for at in rows[: _MAX_PLACES - len(places)].tolist():
                    column = next(name for name, mask in masks.items() if mask[at])
                    places.append(self._place(kind, batch, at, column))

    def _faults(self, batch: RawBatch) -> Iterator[tuple[DomainFault, str, _Mask]]:
        columns = _COLUMNS[self.table.name]
        faults = early = 1
        if not columns.levels_may_be_absent:
            names = (*_TIMES, *columns.price, *columns.size)
            origin, receipt, price, size = (read_only(batch.arrays[name]) for name in names)
            faults, early, removals = _count_faults(
                origin, receipt, price, size, self.day_start_ns, self.day_end_ns
            )
            if columns.zero_size_is_removal:
                self.removals += removals
            else:
                faults += removals
        if faults or batch.nulls:
            yield from self._value_faults(batch, columns)
        if early:
            origin, receipt = (batch.arrays[name] for name in _TIMES)
            yield DomainFault.NEGATIVE_LATENCY, _TIMES[1], _there(batch, receipt < origin, *_TIMES)
        if "side" in batch.arrays:
            side = batch.arrays["side"]
            yield (
                DomainFault.UNKNOWN_SIDE,
                "side",
                _there(batch, (side != "buy") & (side != "sell"), "side"),
            )

    def _value_faults(
        self, batch: RawBatch, columns: _Columns
    ) -> Iterator[tuple[DomainFault, str, _Mask]]:
        levels = {*columns.price, *columns.size} if columns.levels_may_be_absent else set()
        for name, absent in batch.nulls.items():
            if name not in levels:
                yield DomainFault.NULL, name, absent
        for name in _TIMES:
            yield from self._time_faults(batch, name)
        for name in columns.price:
            yield from _number_faults(
                batch, name, DomainFault.NEGATIVE_PRICE, DomainFault.ZERO_PRICE, levels
            )
        for name in columns.size:
            yield from _number_faults(
                batch, name, DomainFault.NEGATIVE_SIZE, DomainFault.ZERO_SIZE, levels,
                zero_is_fine=columns.zero_size_is_removal,
            )  # fmt: skip

    def _time_faults(self, batch: RawBatch, name: str) -> Iterator[tuple[DomainFault, str, _Mask]]:
        times = batch.arrays[name]
        if not times.size or (times.min() >= self.day_start_ns and times.max() < self.day_end_ns):
            return
        late_ns = self.day_end_ns + self.tolerance_ns
        for kind, mask in (
            (DomainFault.ZERO_TIME, times == 0),
            (DomainFault.NEGATIVE_TIME, times < 0),
            (DomainFault.FUTURE_TIME, times >= late_ns),
            (DomainFault.OUTSIDE_DAY, (times < self.day_start_ns) | (times >= self.day_end_ns)),
        ):
            yield kind, name, _there(batch, mask, name)

    def _place(self, kind: DomainFault, batch: RawBatch, at: int, column: str) -> DomainPlace:
        sequence = _COLUMNS[self.table.name].sequence
        return DomainPlace(
            kind,
            batch.file,
            batch.first_row + at,
            batch.names[column],
            _text(batch, at, column),
            *(_integer(batch, at, name) for name in ("receipt_timestamp", sequence)),
        )


@kernel
def _count_faults(origin, receipt, price, size, start_ns, end_ns):
    """One pass over all columns: how many rows have a value at fault, are early, have size 0."""
    faults = early = removals = 0
    for row in range(receipt.size):
        sent, received, value, amount = origin[row], receipt[row], price[row], size[row]
        # NaN fails every comparison.
        passes = (sent >= start_ns) & (sent < end_ns) & (received >= start_ns) & (received < end_ns)
        passes &= (value > 0.0) & (value < np.inf) & (amount >= 0.0) & (amount < np.inf)
        faults += not passes
        early += received < sent
        removals += amount == 0.0
    return faults, early, removals


def _number_faults(
    batch: RawBatch,
    name: str,
    negative: DomainFault,
    zero: DomainFault,
    levels: set[str],
    *,
    zero_is_fine: bool = False,
) -> Iterator[tuple[DomainFault, str, _Mask]]:
    values = batch.arrays[name]
    may_be_absent = name in levels
    # Both are NaN where a value is, and NaN fails every comparison.
    low, high = (values.min(), values.max()) if values.size else (1.0, 1.0)
    if (low >= 0.0 if zero_is_fine or may_be_absent else low > 0.0) and high < np.inf:
        return
    yield negative, name, (values < 0.0) & np.isfinite(values)
    if may_be_absent:
        yield DomainFault.NOT_FINITE, name, np.isinf(values)
        return
    yield DomainFault.NOT_FINITE, name, _there(batch, ~np.isfinite(values), name)
    if not zero_is_fine:
        yield zero, name, values == 0.0


def _there(batch: RawBatch, mask: _Mask, *names: str) -> _Mask:
    """The mask without the rows in which one of these columns is null."""
    for name in names:
        if name in batch.nulls:
            mask = mask & ~batch.nulls[name]
    return mask


def _text(batch: RawBatch, at: int, column: str) -> str:
    if column in batch.nulls and batch.nulls[column][at]:
        return "null"
    value = batch.arrays[column][at]
    return shown(repr(value), _MAX_VALUE) if isinstance(value, str) else repr(value.item())


def _integer(batch: RawBatch, at: int, column: str) -> int | None:
    if column in batch.nulls and batch.nulls[column][at]:
        return None
    return int(batch.arrays[column][at])
