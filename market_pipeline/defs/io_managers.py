"""The two ways an asset's partition is published: Delta for files, DuckDB rows for small tables.

Both replace the partition of exactly the instruments a run worked on, in one commit. At the end
of the run they swap in a fresh catalogue, so that whoever opens `warehouse/market.duckdb` sees all
that the run published at once, and before that nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import dagster as dg
import polars as pl
from dagster._core.storage.db_io_manager import DbIOManager, DbTypeHandler, TableSlice
from dagster_duckdb import DuckDBIOManager
from dagster_duckdb.io_manager import DuckDbClient

from market_pipeline.audit.record import record
from market_pipeline.config.instruments import Instrument
from market_pipeline.defs._one_switch import (
    Transaction,
    of_run,
    one_switch,
    recording,
    show,
    unrecorded,
)
from market_pipeline.defs.interrupts import run_step
from market_pipeline.defs.step_times import loading, publishing
from market_pipeline.defs.telemetry import record_files, record_rows
from market_pipeline.machine import reports_machine_errors
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import (
    NO_ROWS_SHA256,
    MadeOf,
    commit_properties,
    files_sha256,
    lineage_row,
    rows_sha256_of_each,
)
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.read import DayRows, day_rows
from market_pipeline.warehouse.staging import StagedFile
from market_pipeline.warehouse.tables import Table
from market_pipeline.warehouse.working import (
    read_day,
    read_day_within,
    replace_rows_within,
    replaced,
)

__all__ = [
    "DuckDBLakeIOManager",
    "PartitionFiles",
    "PartitionRows",
    "PublishedRows",
    "SmallTablesIOManager",
    "published_together",
]


@dataclass(frozen=True, slots=True)
class PartitionFiles:
    """The staged files of a day, the instruments without one, and by id what each is made of."""

    files: Sequence[StagedFile]
    withdrawn: Sequence[str] = ()
    made_of: Mapping[str, MadeOf] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartitionRows:
    """The rows of a day for the instruments a run worked on; those of others are kept.

    Attributes:
        made_of: By id, what they are made of; the raw tables say it themselves.
        beside: By asset, what `published_together` publishes in the same transaction.
    """

    frame: pl.DataFrame
    instruments: Sequence[Instrument]
    made_of: Mapping[str, MadeOf] = field(default_factory=dict)
    beside: Mapping[str, PartitionRows] = field(default_factory=dict)

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to publish, as of a run about no instrument."""
        return not any(
            each.instruments or each.frame.height for each in (self, *self.beside.values())
        )


@dataclass(frozen=True, slots=True)
class PublishedRows:
    """The rows of an output that an earlier one of its step has published."""

    frame: pl.DataFrame


def published_together(
    rows: Mapping[str, PartitionRows],
) -> dict[str, PartitionRows | PublishedRows]:
    """By asset, the outputs of a step in order: the first publishes the rows of all.

    To open and close the working database takes longer than to write to it.
    """
    (first, of_first), *later = rows.items()
    outputs: dict[str, PartitionRows | PublishedRows] = {
        first: replace(of_first, beside=dict(later))
    }
    return outputs | {name: PublishedRows(each.frame) for name, each in later}


_SMALL = [table for table in TABLES.values() if table.storage == "duckdb"]


def _day(context: dg.OutputContext | dg.InputContext) -> date:
    return date.fromisoformat(context.asset_partition_key)


def _run_id(context: dg.InputContext) -> str:
    with suppress(dg.DagsterInvariantViolationError):
        return context.step_context.run_id
    return ""  # loaded outside a run


def _objects(frame: pl.DataFrame) -> dict[str, dict[str, str]]:
    """Of a manifest, the hash of each raw object by its path."""
    if not {"path", "sha256"} <= {*frame.columns}:
        return {}
    known = frame.drop_nulls(["path", "sha256"])
    return {"objects": dict(zip(known["path"], known["sha256"], strict=True))}


class DuckDBLakeIOManager(dg.ConfigurableIOManager):
    """Publishes staged Parquet files as one Delta commit; reads a day back by instrument.

    The published tables are read with Polars, or with DuckDB through the catalogue's views.
    """

    data_dir: str

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Self]:
        """The manager, for a run at whose end the catalogue is refreshed."""
        with one_switch(Warehouse(Path(self.data_dir))):
            yield self

    @run_step
    def handle_output(self, context: dg.OutputContext, obj: PartitionFiles) -> None:
        """Publishes a day's files; a killed run leaves the partition that was there before."""
        table, day = TABLES[context.asset_key.path[-1]], _day(context)
        with publishing(context.add_output_metadata, table):
            warehouse = of_run(self.data_dir)
            hashes = {
                instrument: files_sha256(part.sha256 for part in parts)
                for instrument, parts in groupby(obj.files, key=lambda file: file.instrument)
            }
            what = {"table": table.sql_name, "day": f"{day}", "sha256": hashes}
            record(
                warehouse.data_dir,
                "write",
                what | {"withdrawn": [*obj.withdrawn]},
                why=context.run_id,
            )
            version = publish(
                warehouse,
                table,
                day,
                obj.files,
                withdrawn=obj.withdrawn,
                properties=commit_properties(table, obj.made_of),
            )
            unrecorded[warehouse.data_dir] |= {
                (table.sql_name, day, each): lineage_row(
                    table, day, each, obj.made_of[each], hashes[each]
                )
                if each in hashes
                else None
                for each in [*obj.made_of, *obj.withdrawn]
            }
            show(warehouse)
            context.add_output_metadata(
                {
                    "delta_version": version,
                    "dagster/table_name": table.sql_name,
                    "query": f"SELECT * FROM {table.sql_name} WHERE dt = '{day}'",
                }
            )
        record_files(table, obj.files)

    @run_step
    def load_input(self, context: dg.InputContext) -> DayRows:
        """The day's rows of the upstream table; none, with its columns, if nothing is there."""
        if context.upstream_output is None:
            raise dg.DagsterInvariantViolationError("an input of this manager is an asset")
        table = TABLES[context.asset_key.path[-1]]
        with loading():
            warehouse, day = of_run(self.data_dir), _day(context)
            rows = day_rows(warehouse, table, day)
            what = {"table": table.sql_name, "day": f"{day}", "instruments": [*rows.files]}
            record(warehouse.data_dir, "read", what, why=_run_id(context))
            return rows


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
        connection: Transaction,
    ) -> Mapping[str, int]:
        for name, rows in {table_slice.table: obj, **obj.beside}.items():
            self._replace(context, TABLES[name], rows, connection)
        return {"dagster/partition_row_count": obj.frame.height}

    @staticmethod
    def _replace(
        context: dg.OutputContext, table: Table, obj: PartitionRows, transaction: Transaction
    ) -> None:
        ids, day = [instrument.id for instrument in obj.instruments], _day(context)
        warehouse = of_run(str((context.resource_config or {})["data_dir"]))
        # All of them, and what becomes of these: later steps take them from here, as to open the
        # database takes longer than to read a day of it.
        before = read_day_within(transaction.connection, warehouse, _SMALL, day)[table]
        replace_rows_within(transaction.connection, table, day, ids, obj.frame)
        transaction.days[day, table] = replaced(before, table, ids, obj.frame)
        hashes = rows_sha256_of_each(table, obj.frame)
        # Before the transaction ends: what cannot be recorded is not published.
        what = {"table": table.sql_name, "day": f"{day}", "instruments": ids, "sha256": hashes}
        record(warehouse.data_dir, "write", what | _objects(obj.frame), why=context.run_id)
        if obj.made_of:
            unrecorded[warehouse.data_dir] |= {
                (table.sql_name, day, each): lineage_row(
                    table, day, each, obj.made_of[each], hashes.get(each, NO_ROWS_SHA256)
                )
                for each in ids
            }
        record_rows(table, obj.frame)

    def load_input(
        self, context: dg.InputContext, table_slice: TableSlice, connection: Warehouse
    ) -> pl.DataFrame:
        table, day = TABLES[table_slice.table], _day(context)
        what = {"table": table.sql_name, "day": f"{day}"}
        record(connection.data_dir, "read", what, why=_run_id(context))
        return read_day(connection, _SMALL, day)[table.sql_name]


class _WarehouseClient(DuckDbClient):
    """One transaction per output under the warehouse's lock.

    The stock client deletes in one transaction and inserts in another, so that a run killed in
    between loses the partition, and waits for a locked database without an end.
    """

    @staticmethod
    def delete_table_slice(
        context: dg.OutputContext, table_slice: TableSlice, connection: object
    ) -> None:
        """Nothing: the handler deletes exactly the rows of the instruments it brings."""

    @staticmethod
    def ensure_schema_exists(
        context: dg.OutputContext, table_slice: TableSlice, connection: object
    ) -> None:
        """Nothing: the handler makes schema and table with their declared columns."""

    @staticmethod
    def get_table_name(table_slice: TableSlice) -> str:
        """The name in the catalogue, which is what users query."""
        return TABLES[table_slice.table].sql_name

    @staticmethod
    def get_select_statement(table_slice: TableSlice) -> str:
        """A query of the partition that runs against the catalogue."""
        name = TABLES[table_slice.table].name
        return DuckDbClient.get_select_statement(table_slice._replace(table=name))

    @staticmethod
    @contextmanager
    @reports_machine_errors
    def connect(
        context: dg.OutputContext | dg.InputContext, table_slice: TableSlice
    ) -> Iterator[Transaction | Warehouse]:
        """For an output its transaction; for an input where to read."""
        warehouse = of_run(str((context.resource_config or {})["data_dir"]))
        if isinstance(context, dg.InputContext):
            yield warehouse
            return
        with recording(warehouse) as transaction:
            yield transaction
        show(warehouse)


class _SmallTables(DbIOManager):
    """The stock manager, which says what it took."""

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        table = TABLES[context.asset_key.path[-1]]
        with publishing(context.add_output_metadata, table):
            if isinstance(obj, PublishedRows) or (
                isinstance(obj, PartitionRows) and obj.is_nothing
            ):
                query = self._get_table_slice(context, context)
                context.add_output_metadata(
                    {
                        "dagster/partition_row_count": obj.frame.height,
                        "dagster/table_name": table.sql_name,
                        "Query": _WarehouseClient.get_select_statement(query),
                    }
                )
                return
            super().handle_output(context, obj)

    def load_input(self, context: dg.InputContext) -> object:
        with loading():
            return super().load_input(context)


class SmallTablesIOManager(DuckDBIOManager):
    """Keeps small tables in the private DuckDB database of the warehouse in `data_dir`."""

    data_dir: str

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[DbIOManager]:
        """The manager, for a run at whose end the catalogue is refreshed."""
        with one_switch(Warehouse(Path(self.data_dir))):
            yield self.create_io_manager(context)

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
        return _SmallTables(
            db_client=_WarehouseClient(),
            database=self.database,
            type_handlers=self.type_handlers(),
            default_load_type=self.default_load_type(),
            io_manager_name=type(self).__name__,
        )
