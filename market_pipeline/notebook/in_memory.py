"""Frames and arrays as the batches of a source, checked by the rules of the lake's files.

They are in memory already, so they are checked as a whole and passed on in slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market_pipeline.errors import DomainError, SchemaError
from market_pipeline.mapped import ColumnArray
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch, TradeTimes

__all__ = ["Columns", "delta_slices", "snapshot_slices", "times_of_trades"]

_Kind = Literal["time", "int64", "bool", "float64"]

_Values = pl.Series | ColumnArray
Columns = Mapping[str, pl.Series | ColumnArray | Sequence[object]]
"""One-dimensional arrays by column name."""

_Scalar = TypeVar("_Scalar", bound=np.generic)

_SLICE_ROWS = 1 << 18
_SNAPSHOT_SLICE_ROWS = 1 << 13
_VENDOR_CLIENT_SPELLING = {"timestamp": "origin_time", "receipt_timestamp": "received_time"}
_TIMES: dict[str, _Kind] = {"timestamp": "time", "receipt_timestamp": "time"}
_DELTAS: dict[str, _Kind] = _TIMES | {
    "sequence_number": "int64",
    "side_is_bid": "bool",
    "price": "float64",
    "size": "float64",
}


def delta_slices(rows: object) -> Callable[[], Iterator[DeltaBatch]]:
    """A function that yields the delta rows of a table in slices, every time it is called.

    Raises:
        SchemaError, DomainError: The table's columns, or a value, are not those of delta rows.
    """
    columns = _columns(rows, "deltas")
    arrays = {raw: _array(columns, raw, kind, "deltas") for raw, kind in _DELTAS.items()}
    price, size = arrays["price"], arrays["size"]
    _refuse("deltas", "price", price, ~np.isfinite(price) | (price <= 0), "a finite number above 0")
    _refuse("deltas", "size", size, ~np.isfinite(size) | (size < 0), "a finite number, at least 0")
    return lambda: (
        _delta_slice(arrays, slice(first, first + _SLICE_ROWS))
        for first in range(0, price.size, _SLICE_ROWS)
    )


def _delta_slice(arrays: Mapping[str, ColumnArray], rows: slice) -> DeltaBatch:
    cut = {name: _writable(values[rows]) for name, values in arrays.items()}
    return DeltaBatch(
        file=Path("deltas"),
        first_row=rows.start,
        ts_origin_ns=cut["timestamp"],
        ts_receipt_ns=cut["receipt_timestamp"],
        sequence_number=cut["sequence_number"],
        is_bid=cut["side_is_bid"],
        price=cut["price"],
        size=cut["size"],
    )


def _writable(values: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """The values, copied if they are read-only: for those numba would compile the kernels again."""
    return np.require(values, requirements=["C", "W"])


def snapshot_slices(rows: object) -> Iterator[SnapshotBatch]:
    """The snapshots of a table, with as many levels as it has columns for.

    A level whose price or size is null, not finite or not above 0 is not there.

    Raises:
        SchemaError, DomainError: The table's columns, or a value, are not those of snapshots.
    """
    columns = _columns(rows, "snapshots")
    receipt = _array(columns, "receipt_timestamp", "time", "snapshots")
    sequence = _array(columns, "sequence_number", "int64", "snapshots")
    # As many levels as the longer side has; then the shorter one's columns are missed by name.
    levels = max(
        sum(f"{side}_{level}_price" in columns for level in range(len(columns)))
        for side in ("bid", "ask")
    )
    parts = {
        (side, part): [
            _array(columns, f"{side}_{level}_{part}", "float64", "snapshots", nullable=True)
            for level in range(max(levels, 1))
        ]
        for side in ("bid", "ask")
        for part in ("price", "size")
    }
    return (
        _snapshot_slice(receipt, sequence, parts, slice(first, first + _SNAPSHOT_SLICE_ROWS))
        for first in range(0, receipt.size, _SNAPSHOT_SLICE_ROWS)
    )


def _snapshot_slice(
    receipt: NDArray[np.int64],
    sequence: NDArray[np.int64],
    parts: Mapping[tuple[str, str], Sequence[NDArray[np.float64]]],
    rows: slice,
) -> SnapshotBatch:
    cut = {key: np.stack([level[rows] for level in levels], 1) for key, levels in parts.items()}
    for side in ("bid", "ask"):
        price, size = cut[side, "price"], cut[side, "size"]
        absent = ~(np.isfinite(price) & np.isfinite(size)) | (price <= 0) | (size <= 0)
        price[absent] = size[absent] = 0.0
    return SnapshotBatch(
        file=Path("snapshots"),
        first_row=rows.start,
        ts_receipt_ns=_writable(receipt[rows]),
        sequence_number=_writable(sequence[rows]),
        bid_price=cut["bid", "price"],
        bid_size=cut["bid", "size"],
        ask_price=cut["ask", "price"],
        ask_size=cut["ask", "size"],
    )


def times_of_trades(rows: object) -> TradeTimes:
    """When the trades of a table were.

    Raises:
        SchemaError, DomainError: A time is missing, or is no time.
    """
    columns = _columns(rows, "trades")
    return TradeTimes._make(_array(columns, name, kind, "trades") for name, kind in _TIMES.items())


def _columns(rows: object, name: str) -> Columns:
    """The columns of a table in memory, all of one length and of one instrument.

    `name` is the argument's, for the errors.
    """
    if isinstance(rows, pl.LazyFrame):
        rows = rows.collect()
    if hasattr(rows, "__arrow_c_stream__"):  # pandas, pyarrow and DuckDB have it too
        rows = pl.DataFrame(rows).to_dict()
    if not isinstance(rows, Mapping):
        raise SchemaError(
            f"`{name}` is no table",
            next_step="Give a Polars frame, a mapping of arrays by column name, or files.",
            found=type(rows).__name__,
        )
    lengths = {column: len(values) for column, values in rows.items()}
    if len(set(lengths.values())) > 1:
        raise SchemaError(
            f"The columns of `{name}` differ in length",
            next_step="Give every column one value for each row.",
            found=", ".join(f"{column}: {length}" for column, length in lengths.items()),
        )
    for column in ("exchange", "symbol"):
        if column in rows and (found := pl.Series(rows[column]).unique().sort()).len() > 1:
            raise DomainError(
                f"`{name}` holds rows of more than one {column}",
                next_step="Filter by exchange and symbol: one book is of one instrument.",
                column=column,
                expected="one value",
                found=", ".join(map(str, found.head(5))),
            )
    return rows


def _array(
    columns: Columns, raw: str, kind: _Kind, name: str, *, nullable: bool = False
) -> ColumnArray:
    """One column as an array of its kind, under either of its names; a nullable null is NaN."""
    other = _VENDOR_CLIENT_SPELLING.get(raw, raw)
    spelt = [column for column in dict.fromkeys((raw, other)) if column in columns]
    if len(spelt) != 1:
        raise SchemaError(
            f"`{name}` does not have the columns of its table",
            next_step="Give the vendor's columns under the names of docs/sources/crypto_lake.md.",
            column=raw,
            expected=raw if raw == other else f"{raw} or {other}",
            found="both" if spelt else f"columns {', '.join(map(str, columns))}",
        )
    values = columns[spelt[0]]
    if isinstance(values, pl.Series):
        if not nullable:
            _refuse(name, spelt[0], values, values.is_null().to_numpy(), "a value")
        values = values.to_numpy()
    values = np.asarray(values)
    array = _of_kind(values, kind) if values.ndim == 1 else None
    if array is None:
        raise SchemaError(
            f"A column of `{name}` has another type than its table",
            next_step="Convert the column first; a float32 has already lost the exact price.",
            column=spelt[0],
            expected="int64 ns or datetimes" if kind == "time" else kind,
            found=f"{values.dtype} of shape {values.shape}",
        )
    if values.dtype.kind == "M":
        _refuse(name, spelt[0], values, np.isnat(values), "a time")
    return array


def _of_kind(values: ColumnArray, kind: _Kind) -> ColumnArray | None:
    """The values as int64, float64 or bool where that loses nothing; None where it might."""
    if kind == "time" and values.dtype.kind == "M":
        return values.astype("datetime64[ns]").view(np.int64)
    wanted = np.dtype(np.int64 if kind == "time" else kind)
    # numpy also calls float32 to float64 safe, but a float32 has lost the price already.
    is_exact = values.dtype.kind in "iu" and np.can_cast(values.dtype, wanted)
    return values.astype(wanted, copy=False) if is_exact or values.dtype == wanted else None


def _refuse(name: str, column: str, values: _Values, bad: NDArray[np.bool_], expected: str) -> None:
    """Refuses the first of the values that are marked as bad."""
    if bad.any():
        row = int(bad.argmax())
        found = values[row]
        raise DomainError(
            f"A value in `{name}` is outside its domain",
            next_step="Correct or remove the row; nothing is dropped or rounded for you.",
            row=row,
            column=column,
            expected=expected,
            found="null" if found is None else str(found),
        )
