"""Reads one instrument's rows of a published day, a bounded number at a time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import TypeVar

import polars as pl

from market_pipeline.config.instruments import Instrument
from market_pipeline.warehouse.records import Columns

__all__ = ["count_rows", "of_instrument", "read_rows", "records_of"]

_Row = TypeVar("_Row", bound=Columns)


def of_instrument(instrument: Instrument) -> pl.Expr:
    """Selects the rows of one instrument."""
    return (pl.col("exchange") == instrument.venue) & (pl.col("symbol") == instrument.symbol)


def records_of(table: pl.DataFrame, instrument: Instrument, row: type[_Row]) -> list[_Row]:
    """The rows of one instrument in a day of a small table, each as an object of its type."""
    return row.read(table.filter(of_instrument(instrument)))


def count_rows(table: pl.LazyFrame, instrument: Instrument) -> int:
    """How many rows an instrument has; Parquet statistics tell, so no row is read."""
    return int(table.filter(of_instrument(instrument)).select(pl.len()).collect().item())


def read_rows(
    table: pl.LazyFrame, instrument: Instrument, columns: Sequence[str], batch_rows: int
) -> Iterator[pl.DataFrame]:
    """Yields an instrument's rows in the order of the table, none twice and none left out.

    A scan is cut by the places of its rows and not by their times, because a clock may run back,
    and not by Polars' own streaming, which reads a day's row groups ahead of whoever takes them.

    Args:
        table: The day's rows of all instruments, with exchange and symbol.
        instrument: Whose rows to read.
        columns: Which columns.
        batch_rows: So many rows of the table at most are in memory, and the row groups they are of.
    """
    starts = range(0, table.select(pl.len()).collect().item(), batch_rows)

    def rows_before(start: int) -> int:
        return count_rows(table.head(start), instrument)

    # The rows of an instrument lie together in its own file: leave out what is before and after.
    first = max(bisect_right(starts, 0, key=rows_before) - 1, 0)
    after = bisect_left(starts, count_rows(table, instrument), key=rows_before)
    for start in starts[first:after]:
        rows = table.slice(start, batch_rows).filter(of_instrument(instrument))
        yield rows.select(columns).collect()
