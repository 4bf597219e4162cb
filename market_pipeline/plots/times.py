"""The times of a frame that a notebook gives to a plot, as integers."""

from __future__ import annotations

import polars as pl

from market_pipeline.config.yaml_files import nearest_known
from market_pipeline.errors import SchemaError

__all__ = ["column_of", "times_ns"]


def times_ns(frame: pl.DataFrame, name: str) -> pl.Series:
    """A column of times as int64 ns since the epoch, UTC.

    Args:
        frame: Whose column; it may hold integers in ns, or datetimes in UTC of any unit.
        name: The column, with or without `_ns` at its end.

    Raises:
        SchemaError: There is no such column, or it holds no times.
    """
    base = name.removesuffix("_ns")
    values = column_of(frame, next((each for each in (base, f"{base}_ns") if each in frame), base))
    if isinstance(values.dtype, pl.Datetime):
        return values.dt.epoch("ns")
    if not values.dtype.is_integer():
        raise SchemaError(
            "A column of times is needed",
            next_step="Give integers in ns since the epoch or datetimes, UTC.",
            column=values.name,
            expected="integers or datetimes",
            found=str(values.dtype),
        )
    return values.cast(pl.Int64)


def column_of(frame: pl.DataFrame, name: str) -> pl.Series:
    """A column of a frame.

    Raises:
        SchemaError: There is none of that name.
    """
    if name not in frame.columns:
        raise SchemaError(
            "The frame does not have this column",
            next_step=f"Name columns that it has; {nearest_known(name, frame.columns)}",
            column=name,
        )
    return frame[name]
