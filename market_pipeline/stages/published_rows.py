"""Reads the published rows of one instrument, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from market_pipeline.config.instruments import Instrument
from market_pipeline.warehouse.read import DayRows
from market_pipeline.warehouse.records import Columns

__all__ = ["count_rows", "in_batches", "of_instrument", "read_rows", "records_of"]

_Row = TypeVar("_Row", bound=Columns)


def of_instrument(instrument: Instrument) -> pl.Expr:
    """Selects the rows of one instrument."""
    return (pl.col("exchange") == instrument.venue) & (pl.col("symbol") == instrument.symbol)


def records_of(table: pl.DataFrame, instrument: Instrument, row: type[_Row]) -> list[_Row]:
    """The rows of one instrument in a day of a small table, each as an object of its type."""
    # Of so few rows a filter's query takes longer than all the rest.
    is_of = (table["exchange"] == instrument.venue) & (table["symbol"] == instrument.symbol)
    places = np.flatnonzero(is_of.to_numpy()).tolist()
    return [row.from_record(table.row(at, named=True)) for at in places]


def count_rows(rows: DayRows, instrument: Instrument) -> int:
    """How many rows an instrument has; the footers of its files tell, so no row is read."""
    files = rows.files.get(instrument.id, ())
    return sum(pq.read_metadata(file).num_rows for file in files)


def read_rows(
    rows: DayRows, instrument: Instrument, columns: Sequence[str], batch_rows: int
) -> Iterator[pl.DataFrame]:
    """Yields an instrument's rows in the order of its files, as `in_batches` does.

    Args:
        rows: The day's rows of all instruments.
        instrument: Whose rows to read.
        columns: Which columns.
        batch_rows: So many rows at most are in memory, and the row groups they are of.
    """
    return in_batches(rows.of(instrument.id, columns), batch_rows)


def in_batches(rows: pl.LazyFrame, batch_rows: int, first_row: int = 0) -> Iterator[pl.DataFrame]:
    """Yields the rows of a scan from one on in its order, none twice and none left out.

    It is cut by the places of its rows and not by their times, because a clock may run back, and
    not by Polars' own streaming, which reads a day's row groups ahead of whoever takes them.

    Args:
        rows: A scan with nothing behind it that drops rows: behind a filter each batch would read
            all rows before it.
        batch_rows: So many rows at most are in memory, and the row groups they are of.
        first_row: Where to begin.
    """
    first = first_row
    while (batch := rows.slice(first, batch_rows).collect()).height:
        yield batch
        if batch.height < batch_rows:
            return
        first += batch_rows
