"""Read what is published: a table's current files, and their rows as a lazy frame."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from pathlib import Path

import polars as pl

from market_pipeline.warehouse.conform import empty_frame, stored_schema
from market_pipeline.warehouse.delta import delta_table, files_now, published_files
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.staging import StagedFile
from market_pipeline.warehouse.tables import Table

__all__ = ["DayRows", "current_files", "day_rows", "scan", "scan_files", "staged_as_published"]


@dataclass(frozen=True)
class DayRows:
    """A day's rows of a big table, each instrument's in files of its own.

    Attributes:
        table: The table.
        files: By instrument id, its files in order; one without any is left out.
    """

    table: Table
    files: Mapping[str, Sequence[Path]]
    _scans: dict[str, pl.LazyFrame] = field(default_factory=dict, init=False, compare=False)

    def of(self, instrument: str, columns: Sequence[str] | None = None) -> pl.LazyFrame:
        """The rows of an instrument, of whose files alone anything is read.

        To plan the computed columns takes longer than to read a short day: name those you need.
        """
        if instrument not in self._scans:
            self._scans[instrument] = _scan_stored(self.table, self.files.get(instrument, ()))
        rows = self.table.with_computed(self._scans[instrument], columns)
        return rows if columns is None else rows.select(columns)


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
    folder = warehouse.table_dir(table)
    if version is None:
        files = files_now(warehouse, table, day, instruments)
    else:
        delta = delta_table(warehouse, table, version)
        files = [] if delta is None else published_files(delta, day, instruments)
    return [folder / file.path for file in files]


def staged_as_published(
    warehouse: Warehouse, table: Table, day: date
) -> dict[str, list[StagedFile]]:
    """By instrument, a day's published files in order, as they were staged.

    Publishing these again changes nothing. No file is opened: the log says how many rows it has.
    """
    found: dict[str, list[StagedFile]] = {}
    for file in files_now(warehouse, table, day):
        path = warehouse.table_dir(table) / file.path
        part, _, sha256 = path.stem.partition("-")
        staged = StagedFile(file.instrument, path, file.rows, file.bytes, sha256, int(part))
        found.setdefault(file.instrument, []).append(staged)
    return found


def day_rows(warehouse: Warehouse, table: Table, day: date) -> DayRows:
    """A day's published rows, to be read one instrument after the other."""
    published = staged_as_published(warehouse, table, day).items()
    return DayRows(table, {name: [file.path for file in files] for name, files in published})


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
    return table.with_computed(_scan_stored(table, files))


def _scan_stored(table: Table, files: Sequence[Path]) -> pl.LazyFrame:
    """As `scan_files`, without the computed columns."""
    stored, declared, differing = _schemas(table)
    if not files:
        return pl.LazyFrame(schema=declared)
    rows = pl.scan_parquet(
        list(files),
        glob=False,  # a folder name may hold glob characters
        hive_partitioning=False,
        schema=stored,
        missing_columns="insert",
        extra_columns="ignore",
    )
    return rows.cast(differing)


@lru_cache
def _schemas(table: Table) -> tuple[pl.Schema, pl.Schema, pl.Schema]:
    """The columns of the table's files, those that readers get before the computed ones, and of
    these what is stored otherwise: to plan a cast of a column that stays as it is takes time, too.
    """
    stored = empty_frame(stored_schema(table)).schema
    declared = empty_frame(table.arrow_schema).schema
    differing = {name: kind for name, kind in declared.items() if kind != stored[name]}
    return stored, declared, pl.Schema(differing)
