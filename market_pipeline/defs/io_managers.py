"""The two ways an asset's partition is published: Delta for files, DuckDB rows for small tables.

Both replace the partition of exactly the instruments a run worked on, in one commit. At the end
of the run they swap in a fresh catalogue, so that whoever opens `warehouse/market.duckdb` sees all
that the run published at once, and before that nothing of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import dagster as dg
import duckdb
import polars as pl
from dagster._core.storage.db_io_manager import DbIOManager, DbTypeHandler, TableSlice
from dagster_duckdb import DuckDBIOManager
from dagster_duckdb.io_manager import DuckDbClient

from market_pipeline.audit.record import record
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import load_settings
from market_pipeline.defs.interrupts import run_step
from market_pipeline.defs.step_times import loading, publishing
from market_pipeline.defs.telemetry import record_files, record_rows, timed
from market_pipeline.machine import reports_machine_errors
from market_pipeline.tables import TABLES, refresh_catalogue, run_alive, with_catalogue
from market_pipeline.telemetry.metrics.recording import flush
from market_pipeline.telemetry.metrics.table import CATALOGUE_DURATION
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import (
    LINEAGE,
    NO_ROWS_SHA256,
    LineageRow,
    MadeOf,
    PartName,
    commit_properties,
    files_sha256,
    lineage_row,
    record_lineage,
    rows_sha256_of_each,
)
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.read import DayRows, day_rows
from market_pipeline.warehouse.staging import StagedFile
from market_pipeline.warehouse.tables import Table
from market_pipeline.warehouse.working import read_day, replace_rows_within
from market_pipeline.warehouse.working_file import writing

__all__ = ["DuckDBLakeIOManager", "PartitionFiles", "PartitionRows", "SmallTablesIOManager"]


@dataclass(frozen=True, slots=True)
class PartitionFiles:
    """The staged files of a day, the instruments without one, and by id what each is made of."""

    files: Sequence[StagedFile]
    withdrawn: Sequence[str] = ()
    made_of: Mapping[str, MadeOf] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartitionRows:
    """The rows of a day for the instruments a run worked on; those of others are kept.

    `made_of` says by id what they are made of; the raw tables say it themselves.
    """

    frame: pl.DataFrame
    instruments: Sequence[Instrument]
    made_of: Mapping[str, MadeOf] = field(default_factory=dict)


_TOGETHER = [
    table
    for table in TABLES.values()
    if table.storage == "duckdb" and table.schema in {"lake", "books"}
]
"""The small tables that steps take as inputs beside each other."""

_runs: Counter[Path] = Counter()
_unshown: set[Path] = set()
_unrecorded: defaultdict[Path, dict[PartName, LineageRow | None]] = defaultdict(dict)
"""What was published as files and is recorded with the next small table, or as the run ends.

To open and close the working database costs as much as to write to it. What a kill leaves
unrecorded is made again, as what is recorded is not what is there.
"""


@contextmanager
def _one_switch(warehouse: Warehouse) -> Iterator[None]:
    """Show what this process publishes meanwhile in one refresh at the end, also of a failure."""
    with ExitStack() as alive:
        with suppress(OSError):  # the first step will meet it, too, and fail with it
            alive.enter_context(run_alive(warehouse))
        _runs[warehouse.data_dir] += 1
        try:
            yield
        finally:
            _runs[warehouse.data_dir] -= 1
            # The first manager that ends shows what the other one published, too.
            if warehouse.data_dir in _unshown:
                _unshown.discard(warehouse.data_dir)
                _refresh(warehouse)
            flush()


@contextmanager
def _recording(warehouse: Warehouse, *tables: Table) -> Iterator[duckdb.DuckDBPyConnection]:
    """`writing` of some tables, which at its end also records what waits for that."""
    before = dict(_unrecorded[warehouse.data_dir])
    try:
        with writing(warehouse, [*tables, LINEAGE]) as connection:
            yield connection
            # None where a run in another thread has recorded it meanwhile.
            rows = _unrecorded.pop(warehouse.data_dir, None)
            if rows:
                record_lineage(connection, rows)
    except BaseException:
        _unrecorded[warehouse.data_dir] = before
        raise


def _show(warehouse: Warehouse) -> None:
    """Show what was published at the end of the run; at once where none is under way."""
    if _runs[warehouse.data_dir]:
        _unshown.add(warehouse.data_dir)
    else:
        _refresh(warehouse)


def _refresh(warehouse: Warehouse) -> None:
    if _unrecorded[warehouse.data_dir]:
        with _recording(warehouse):
            pass
    with timed(CATALOGUE_DURATION):
        refresh_catalogue(warehouse)


def _warehouse(data_dir: str) -> Warehouse:
    return with_catalogue(Path(data_dir), load_settings().lock_timeout_seconds)


def _day(context: dg.OutputContext | dg.InputContext) -> date:
    return date.fromisoformat(context.asset_partition_key)


def _run_id(context: dg.InputContext) -> str:
    with suppress(dg.DagsterInvariantViolationError):
        return context.step_context.run_id
    return ""  # somebody loads it outside a run


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
        with _one_switch(Warehouse(Path(self.data_dir))):
            yield self

    @run_step
    def handle_output(self, context: dg.OutputContext, obj: PartitionFiles) -> None:
        """Publishes a day's files; a killed run leaves the partition that was there before."""
        table, day = TABLES[context.asset_key.path[-1]], _day(context)
        with publishing(context.add_output_metadata, table):
            warehouse = _warehouse(self.data_dir)
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
            _unrecorded[warehouse.data_dir] |= {
                (table.sql_name, day, each): lineage_row(
                    table, day, each, obj.made_of[each], hashes[each]
                )
                if each in hashes
                else None
                for each in [*obj.made_of, *obj.withdrawn]
            }
            _show(warehouse)
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
            warehouse, day = _warehouse(self.data_dir), _day(context)
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
        connection: duckdb.DuckDBPyConnection,
    ) -> Mapping[str, int]:
        ids = [instrument.id for instrument in obj.instruments]
        table = TABLES[table_slice.table]
        day = _day(context)
        rows = replace_rows_within(connection, table, day, ids, obj.frame)
        hashes = rows_sha256_of_each(table, obj.frame)
        # Before the transaction ends: what cannot be recorded is not published.
        what = {"table": table.sql_name, "day": f"{day}", "instruments": ids, "sha256": hashes}
        folder = Path(str((context.resource_config or {})["data_dir"]))
        record(folder, "write", what | _objects(obj.frame), why=context.run_id)
        if obj.made_of:
            _unrecorded[folder] |= {
                (table.sql_name, day, each): lineage_row(
                    table, day, each, obj.made_of[each], hashes.get(each, NO_ROWS_SHA256)
                )
                for each in ids
            }
        record_rows(table, obj.frame)
        return {"dagster/partition_row_count": rows}

    def load_input(
        self, context: dg.InputContext, table_slice: TableSlice, connection: Warehouse
    ) -> pl.DataFrame:
        table, day = TABLES[table_slice.table], _day(context)
        together = _TOGETHER if table in _TOGETHER else [table]
        what = {"table": table.sql_name, "day": f"{day}"}
        record(connection.data_dir, "read", what, why=_run_id(context))
        return read_day(connection, together, day)[table.sql_name]


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
    ) -> Iterator[duckdb.DuckDBPyConnection | Warehouse]:
        """For an output the connection of its transaction; for an input where to read."""
        warehouse = _warehouse(str((context.resource_config or {})["data_dir"]))
        if isinstance(context, dg.InputContext):
            yield warehouse
            return
        with _recording(warehouse, TABLES[table_slice.table]) as connection:
            yield connection
        _show(warehouse)


class _SmallTables(DbIOManager):
    """The stock manager, which says what it took."""

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        table = TABLES[context.asset_key.path[-1]]
        with publishing(context.add_output_metadata, table):
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
        with _one_switch(Warehouse(Path(self.data_dir))):
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
