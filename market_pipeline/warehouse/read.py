"""Read what is published: a table's current files, and their rows as a lazy frame."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from market_pipeline.warehouse.conform import empty_frame, stored_schema
from market_pipeline.warehouse.delta import delta_table, published_files
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.staging import StagedFile
from market_pipeline.warehouse.tables import Table

__all__ = ["current_files", "scan", "scan_files", "staged_as_published"]


def current_files(
    warehouse: Warehouse,
    table: Table,
    day: date | None = None,
    instruments: Collection[str] | None = None,
    *,
    version: int | None = None,
) -> list[Path]:
    """The absolute paths of the published files, sorted by day and instrument.

    Args:
        warehouse: Where to look.
        table: A table whose `storage` is "delta".
        day: Only this UTC day; None is every day.
        instruments: Only these instrument ids; None is every instrument.
        version: An earlier version of the table; None is the newest.
    """
    delta = delta_table(warehouse, table, version)
    if delta is None:
        return []
    folder = warehouse.table_dir(table)
    return [folder / file.path for file in published_files(delta, day, instruments)]


def staged_as_published(
    warehouse: Warehouse, table: Table, day: date
) -> dict[str, list[StagedFile]]:
    """By instrument, a day's published files in order, as they were staged.

    Publishing these again changes nothing. A file whose footer cannot be read any more has no row.
    """
    found: dict[str, list[StagedFile]] = {}
    delta = delta_table(warehouse, table)
    for file in [] if delta is None else published_files(delta, day):
        path = warehouse.table_dir(table) / file.path
        part, _, sha256 = path.stem.partition("-")
        try:
            rows = pq.read_metadata(path).num_rows
        except (pa.ArrowException, OSError):
            rows = 0
        staged = StagedFile(file.instrument, path, rows, file.bytes, sha256, int(part))
        found.setdefault(file.instrument, []).append(staged)
    return found


def scan(
    warehouse: Warehouse,
    table: Table,
    day: date | None = None,
    instruments: Collection[str] | None = None,
    *,
    version: int | None = None,
) -> pl.LazyFrame:
    """The published rows as a lazy frame with the table's columns; empty where nothing is.

    Arguments as for `current_files`.
    A column that came to the table after a file was published is null in that file's rows.
    """
    files = current_files(warehouse, table, day, instruments, version=version)
    return scan_files(table, files)


def scan_files(table: Table, files: Sequence[Path]) -> pl.LazyFrame:
    """The rows of a table's files as a lazy frame of what readers get, in the order of the files.

    A column that came to the table after a file was written is null in that file's rows.
    """
    declared = empty_frame(table.arrow_schema).schema
    if not files:
        return table.with_computed(pl.LazyFrame(schema=declared))
    rows = pl.scan_parquet(
        list(files),
        glob=False,  # a folder name may hold glob characters
        hive_partitioning=False,
        schema=empty_frame(stored_schema(table)).schema,
        missing_columns="insert",
        extra_columns="ignore",
    )
    return table.with_computed(rows.cast(declared))
