"""The two ways an asset's partition is published: Delta for files, DuckDB rows for small tables.

Both replace the partition of exactly the instruments a run worked on, in one commit, and then swap
in a fresh catalogue, so that whoever opens `warehouse/market.duckdb` sees the new partition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg
import duckdb
import polars as pl
from dagster._core.storage.db_io_manager import DbIOManager, DbTypeHandler, TableSlice
from dagster_duckdb import DuckDBIOManager
from dagster_duckdb.io_manager import DuckDbClient

from market_pipeline.instruments import Instrument
from market_pipeline.lake.catalogue import refresh
from market_pipeline.lake.layout import Warehouse
from market_pipeline.lake.published import publish, scan
from market_pipeline.lake.staging import StagedFile
from market_pipeline.lake.working import read_rows, replace_rows
from market_pipeline.settings import load_settings
from market_pipeline.tables import TABLES, VIEWS

__all__ = ["DuckDBLakeIOManager", "PartitionFiles", "PartitionRows", "SmallTablesIOManager"]


@dataclass(frozen=True, slots=True)
class PartitionFiles:
    """The staged files of a day, one per instrument, and the instruments that have none any more."""

    files: Sequence[StagedFile]
    withdrawn: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PartitionRows:
    """The rows of a day for the instruments a run worked on; those of others are kept."""

    frame: pl.DataFrame
    instruments: Sequence[Instrument]


def _day(context: dg.OutputContext | dg.InputContext) -> date:
    return date.fromisoformat(context.asset_partition_key)


class DuckDBLakeIOManager(dg.ConfigurableIOManager):
    """Publishes staged Parquet files as one Delta commit; reads a day back as a lazy frame.

    The published tables are read with Polars, or with DuckDB through the catalogue's views.
    """

    data_dir: str

    def handle_output(self, context: dg.OutputContext, obj: PartitionFiles) -> None:
        """Publishes a day's files; a killed run leaves the partition that was there before."""
        warehouse = _prepared(self.data_dir)
        table = TABLES[context.asset_key.path[-1]]
        version = publish(warehouse, table, _day(context), obj.files, obj.withdrawn)
        refresh(warehouse, list(TABLES.values()), VIEWS)
        context.add_output_metadata(
            {
                "delta_version": version,
                "dagster/table_name": table.sql_name,
                "query": f"SELECT * FROM {table.sql_name} WHERE dt = '{_day(context)}'",
            }
        )

    def load_input(self, context: dg.InputContext) -> pl.LazyFrame:
        """The day's rows of the upstream table; none, with its columns, if nothing is there."""
        if context.upstream_output is None:
            raise dg.DagsterInvariantViolationError("an input of this manager is an asset")
        table = TABLES[context.asset_key.path[-1]]
        return scan(_prepared(self.data_dir), table, _day(context))


class _RowsHandler(DbTypeHandler[Any]):
    """Replaces the rows of a day's instruments and reads a day's rows back."""

    @property
    def supported_types(self) -> Sequence[type[object]]:
        return [PartitionRows, pl.DataFrame]

    def handle_output(
        self,
        context: dg.OutputContext,
        table_slice: TableSlice,
        obj: PartitionRows,
        connection: Warehouse,
    ) -> Mapping[str, Any]:
        ids = [instrument.id for instrument in obj.instruments]
        rows = replace_rows(connection, _table(table_slice), _day(context), ids, obj.frame)
        refresh(connection, list(TABLES.values()), VIEWS)
        return {"dagster/partition_row_count": rows}

    def load_input(
        self, context: dg.InputContext, table_slice: TableSlice, connection: Warehouse
    ) -> pl.DataFrame:
        return read_rows(connection, _table(table_slice), _day(context))


def _table(table_slice: TableSlice) -> Any:
    return TABLES[table_slice.table]


class _WarehouseClient(DuckDbClient):
    """Hands the warehouse to the handler, whose one transaction deletes and inserts.

    The stock client deletes in one transaction and inserts in another, so a run killed in between
    loses the partition; and it holds the database open while the handler waits.
    """

    @staticmethod
    def delete_table_slice(
        context: dg.OutputContext, table_slice: TableSlice, connection: Warehouse
    ) -> None:
        """Nothing: the handler replaces rows inside its transaction."""

    @staticmethod
    def ensure_schema_exists(
        context: dg.OutputContext, table_slice: TableSlice, connection: Warehouse
    ) -> None:
        """Nothing: the handler makes what is missing inside its transaction."""

    @staticmethod
    @contextmanager
    def connect(
        context: dg.OutputContext | dg.InputContext, table_slice: TableSlice
    ) -> Iterator[Warehouse]:
        """The warehouse; its functions take the lock and open the database as briefly as can be."""
        yield _prepared(str(load_settings().data_dir))


class SmallTablesIOManager(DuckDBIOManager):
    """Keeps small tables in the private DuckDB database of the warehouse."""

    @staticmethod
    def type_handlers() -> Sequence[DbTypeHandler[Any]]:
        """The one handler, for `PartitionRows` out and Polars frames in."""
        return [_RowsHandler()]

    @staticmethod
    def default_load_type() -> type:
        """A day's rows are loaded as a Polars frame."""
        return pl.DataFrame

    def create_io_manager(self, context: dg.InitResourceContext) -> DbIOManager:
        """The stock manager with our client and handler."""
        return DbIOManager(
            db_client=_WarehouseClient(),
            database=self.database,
            type_handlers=self.type_handlers(),
            default_load_type=self.default_load_type(),
            io_manager_name=type(self).__name__,
        )


def _prepared(data_dir: str) -> Warehouse:
    warehouse = Warehouse(data_dir)  # type: ignore[arg-type]
    warehouse.prepare()
    return warehouse
