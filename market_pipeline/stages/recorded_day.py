"""What is recorded and published of a day, and what of it a run would only make again as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import polars as pl

from market_pipeline.books.tables import (
    REBUILDS,
)
from market_pipeline.config.instruments import Instrument
from market_pipeline.metrics.tables import DAILY_METRICS
from market_pipeline.quality.profile import PROFILES
from market_pipeline.quality.row import VALIDATION_REPORT
from market_pipeline.stages.published_rows import of_instrument
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import (
    LINEAGE,
    NO_ROWS_SHA256,
    LineageRow,
    MadeOf,
    files_sha256,
    rows_sha256_of_each,
)
from market_pipeline.warehouse.read import staged_as_published
from market_pipeline.warehouse.staging import StagedFile
from market_pipeline.warehouse.tables import Table
from market_pipeline.warehouse.working import read_day

__all__ = ["RecordedDay", "UnchangedDay", "recorded_day", "with_unchanged"]

# What failed is tried again, whatever it was made of: it is soon done, and the reason may be gone.
_SUCCEEDED: Mapping[str, pl.Expr] = {
    PROFILES.sql_name: pl.col("status") != "unusable",
    REBUILDS.sql_name: pl.col("outcome") == "rebuilt",
    VALIDATION_REPORT.sql_name: (pl.col("outcome") == "rebuilt")
    & (pl.col("unmeasured_checks").list.len().fill_null(0) == 0),
    DAILY_METRICS.sql_name: pl.lit(value=True),
}


@dataclass(frozen=True)
class UnchangedDay:
    """An instrument's published day that a run would only make again.

    Attributes:
        since: When it was made, UTC.
        files: By big table, its published files in order.
        rows: By small table, its published rows.
    """

    since: datetime
    files: Mapping[str, list[StagedFile]]
    rows: Mapping[str, pl.DataFrame]

    @property
    def text(self) -> str:
        """For a person: since when."""
        return f"unchanged since {self.since:%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True)
class RecordedDay:
    """What is recorded and published of a day's tables that are made together.

    Attributes:
        tables: These tables.
        lineage: The day's rows of `lake.lineage`.
        rows: By small table, the published rows.
        files: By big table and instrument, the published files.
    """

    tables: Sequence[Table]
    lineage: pl.DataFrame
    rows: Mapping[str, pl.DataFrame]
    files: Mapping[str, Mapping[str, list[StagedFile]]]
    _hashes: dict[str, Mapping[str, str]] = field(default_factory=dict, init=False)

    def unchanged(self, instrument: Instrument, made_of: MadeOf) -> UnchangedDay | None:
        """What is published of an instrument if it need not be made again; None if it must.

        That is if each table was made of the same inputs with the same parameters and code, is
        there byte for byte as it was recorded, and did not fail. The files are read for it.
        """
        recorded = {
            row.output_table: row
            for row in LineageRow.read(self.lineage.filter(of_instrument(instrument)))
        }
        files: dict[str, list[StagedFile]] = {}
        rows: dict[str, pl.DataFrame] = {}
        for table in self.tables:
            name = table.sql_name
            row = recorded.get(name)
            if row is None or row.made_key != made_of.key(table):
                return None
            if table.storage == "delta":
                files[name] = self.files[name].get(instrument.id, [])
                there = files_sha256(part.sha256 for part in files[name])
            else:
                rows[name] = self.rows[name].filter(of_instrument(instrument))
                there = self._hashes_of(table).get(instrument.id, NO_ROWS_SHA256)
                succeeded = _SUCCEEDED.get(name)
                if succeeded is not None and (
                    rows[name].is_empty() or not rows[name].select(succeeded).to_series().all()
                ):
                    return None
            if row.output_sha256 != there:
                return None
        if not all(part.lies_at(part.path) for parts in files.values() for part in parts):
            return None
        since = max(recorded[table.sql_name].made_at for table in self.tables)
        return UnchangedDay(since, files, rows)

    def _hashes_of(self, table: Table) -> Mapping[str, str]:
        if table.sql_name not in self._hashes:
            self._hashes[table.sql_name] = rows_sha256_of_each(table, self.rows[table.sql_name])
        return self._hashes[table.sql_name]


def recorded_day(warehouse: Warehouse, tables: Sequence[Table], day: date) -> RecordedDay:
    """Reads what is recorded and published of a day.

    Args:
        warehouse: Where.
        tables: The tables that are made together.
        day: The UTC day.

    Raises:
        WarehouseBusyError: Another process kept the working database for the whole wait.
    """
    small = [table for table in tables if table.storage == "duckdb"]
    rows = read_day(warehouse, [LINEAGE, *small], day)
    return RecordedDay(
        tables,
        rows.pop(LINEAGE.sql_name),
        rows,
        {
            table.sql_name: staged_as_published(warehouse, table, day)
            for table in tables
            if table.storage == "delta"
        },
    )


def with_unchanged(
    table: Table,
    made: pl.DataFrame,
    unchanged: Mapping[str, UnchangedDay],
    instruments: Sequence[Instrument],
) -> pl.DataFrame:
    """The rows of all instruments in their order: those made now, and the unchanged ones."""
    return pl.concat(
        [
            unchanged[each.id].rows[table.sql_name]
            if each.id in unchanged
            else made.filter(of_instrument(each))
            for each in instruments
        ]
        or [table.empty()]
    )
