"""What Crypto Lake has of contracts besides their books: funding, marks, and open interest.

These tables are optional: spot has none, and a day without one has a book all the same.
Mark, index and next funding time are NaN or null where the venue does not tell them. The time is
in seconds, milliseconds, microseconds or nanoseconds since the epoch, which its size tells apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from market_pipeline.errors import DomainError, LakeFileError
from market_pipeline.mapped import ColumnArray
from market_pipeline.sources.crypto_lake import (
    RawBatch,
    RawTable,
    count_rows,
    read_whole,
    refuse_outside,
)
from market_pipeline.sources.memory_limits import MAX_CONTRACT_ROWS

__all__ = ["FUNDING", "OPEN_INTEREST", "OPTIONAL_TABLES", "read_funding", "read_open_interest"]

_RAW_TIMES = {"timestamp": "int64", "receipt_timestamp": "int64"}
FUNDING = RawTable(
    "funding",
    dict.fromkeys(("mark_price", "rate", "next_funding_time"), "double")
    | _RAW_TIMES
    | {"index_price": "double"},
)
OPEN_INTEREST = RawTable("open_interest", {"open_interest": "double"} | _RAW_TIMES)
OPTIONAL_TABLES = (FUNDING, OPEN_INTEREST)
"""What a contract's day may have besides."""

_BATCH_ROWS = 1 << 18
_MAY_BE_ABSENT = ("mark_price", "index_price", "next_funding_time")

# 2001 to 2261 in seconds; a thousand times as much is the next finer unit.
_LEAST_TIME, _MOST_TIME = 1e9, 9.2e9
_NS_PER_UNIT = {1_000_000_000: 1.0, 1_000_000: 1e3, 1_000: 1e6, 1: 1e9}


def read_funding(files: Sequence[Path]) -> pl.DataFrame:
    """Reads the funding rows of a day's shards, in file order.

    Returns:
        ts_origin_ns, ts_receipt_ns (int64), rate, mark_price, index_price (float64),
        next_funding_ns (int64); the last three are null where the venue does not tell them.

    Raises:
        LakeFileError: See `open_shard`; also if there are more than `MAX_CONTRACT_ROWS`.
        SchemaError: See `open_shard`.
        DomainError: On a rate that is null or not finite, a price that is not above 0, or a time
            that is none.
    """
    parts = []
    for batch in _batches(files, FUNDING):
        arrays = batch.arrays
        _refuse_infinite(batch, "rate")
        for price in ("mark_price", "index_price"):
            given = np.where(np.isnan(arrays[price]), 1.0, arrays[price])
            refuse_outside(replace(batch, arrays={price: given}), price, above=0.0)
        parts.append(
            pl.DataFrame(
                {
                    "ts_origin_ns": arrays["timestamp"],
                    "ts_receipt_ns": arrays["receipt_timestamp"],
                    "rate": arrays["rate"],
                    "mark_price": pl.Series(arrays["mark_price"], nan_to_null=True),
                    "index_price": pl.Series(arrays["index_price"], nan_to_null=True),
                    "next_funding_ns": _next_funding_ns(batch),
                }
            )
        )
    return pl.concat([_NO_FUNDING, *parts])


def read_open_interest(files: Sequence[Path]) -> pl.DataFrame:
    """Reads the open interest of a day's shards, in file order.

    Returns:
        ts_origin_ns, ts_receipt_ns (int64), open_interest (float64).

    Raises:
        LakeFileError, SchemaError: As `read_funding`.
        DomainError: On a value that is null, below 0 or not finite.
    """
    parts = []
    for batch in _batches(files, OPEN_INTEREST):
        refuse_outside(batch, "open_interest")
        arrays = batch.arrays
        columns = arrays["timestamp"], arrays["receipt_timestamp"], arrays["open_interest"]
        parts.append(pl.DataFrame(dict(zip(_NO_OPEN_INTEREST.columns, columns, strict=True))))
    return pl.concat([_NO_OPEN_INTEREST, *parts])


_TIMES = {"ts_origin_ns": pl.Int64, "ts_receipt_ns": pl.Int64}
_PRICES = dict.fromkeys(("rate", "mark_price", "index_price"), pl.Float64)
_NO_FUNDING = pl.DataFrame(schema={**_TIMES, **_PRICES, "next_funding_ns": pl.Int64})
_NO_OPEN_INTEREST = pl.DataFrame(schema={**_TIMES, "open_interest": pl.Float64})


def _batches(files: Sequence[Path], table: RawTable) -> list[RawBatch]:
    """All rows, which are few."""
    rows = count_rows(files, table)
    if rows > MAX_CONTRACT_ROWS:
        raise LakeFileError(
            f"The day has more rows of {table.name} than may be held in memory",
            next_step="Report the file to the vendor, or take it out of the lake.",
            file=files[-1],
            expected=f"at most {MAX_CONTRACT_ROWS} rows",
            found=str(rows),
        )
    return list(read_whole(files, table, list(table.columns), _BATCH_ROWS, nullable=_MAY_BE_ABSENT))


def _refuse_infinite(batch: RawBatch, column: str) -> None:
    bad = ~np.isfinite(batch.arrays[column])
    if bad.any():
        raise _bad_value(batch, column, bad, "a finite number")


def _bad_value(batch: RawBatch, column: str, bad: ColumnArray, expected: str) -> DomainError:
    at = int(np.flatnonzero(bad)[0])
    return DomainError(
        f"A {column} is outside its domain",
        next_step="Report the row to the vendor or fetch the file again.",
        file=batch.file,
        row=batch.first_row + at,
        column=batch.names[column],
        expected=expected,
        found=repr(float(batch.arrays[column][at])),
    )


def _next_funding_ns(batch: RawBatch) -> pl.Series:
    """When funding is paid next; null where the file has NaN, null or 0."""
    given = batch.arrays["next_funding_time"]
    is_absent = np.isnan(given) | (given == 0.0)
    times_ns = np.zeros(given.size, np.int64)
    known = is_absent.copy()
    for ns, scale in _NS_PER_UNIT.items():
        of_unit = ~is_absent & (given >= _LEAST_TIME * scale) & (given < _MOST_TIME * scale)
        times_ns[of_unit] = np.rint(given[of_unit] * (ns / 1e3)).astype(np.int64) * 1_000
        known |= of_unit
    if not known.all():
        raise _bad_value(batch, "next_funding_time", ~known, "a time since the epoch")
    return pl.Series(times_ns).set(pl.Series(is_absent), None)
