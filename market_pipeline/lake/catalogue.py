"""The DuckDB file that users open: views of the published files, copies of the small tables.

It is built anew beside the old one and swapped in by a rename, so nobody waits for a lock: who has
the old one open goes on reading it, and who opens it next gets the new one. It is sealed: `seal`
keeps out what others write, and `connect` opens nothing but what was published.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import duckdb

from market_pipeline.errors import MissingDataError, PublishError, WarehouseBusyError
from market_pipeline.lake.delta import delta_table, has_columns_added_later, published_files
from market_pipeline.lake.layout import (
    PRIVATE_FILE,
    READ_ONLY_FILE,
    Warehouse,
    make_private_folder,
    sync,
)
from market_pipeline.lake.locks import DEFAULT_WAIT_SECONDS, holding, is_locked_elsewhere
from market_pipeline.lake.seal import check_seal, seal, set_aside
from market_pipeline.lake.tables import Table, View
from market_pipeline.lake.working import WORKING_LOCK, damaged, ensure_table, open_database

__all__ = ["FILES_SCHEMA", "connect", "refresh"]

FILES_SCHEMA = "published_files"
"""The catalogue's schema of views that name the files of the big tables; the others read these."""

_LOCK = "catalogue"
_BUILDING = ".building-"


def refresh(
    warehouse: Warehouse,
    tables: Sequence[Table],
    views: Sequence[View] = (),
    *,
    timeout_seconds: float = DEFAULT_WAIT_SECONDS,
) -> None:
    """Build `warehouse/market.duckdb` from what is published now, and swap it in.

    Tables nothing was published to yet are there, typed and empty.
    Paths in views are absolute: after moving the data folder, refresh.
    What somebody wrote into the old catalogue is set aside, with a warning in the log.

    Args:
        warehouse: Whose catalogue.
        tables: Every table users may query.
        views: More views, made in this order.
        timeout_seconds: How long to wait for another refresh, or for a writer of small tables.

    Raises:
        PublishError: A view's SQL is wrong, or a small table has another type of column; the old
            catalogue stays.
        WarehouseBusyError: Another process kept a lock for the whole wait.
    """
    folder = warehouse.warehouse_dir
    make_private_folder(folder)
    with holding(warehouse, _LOCK, timeout_seconds=timeout_seconds):
        # Whoever made these was killed: the lock is ours.
        for left_over in folder.glob(f"{_BUILDING}*"):
            left_over.unlink()
        building = folder / f"{_BUILDING}{uuid.uuid4().hex}.duckdb"
        try:
            _copy_small_tables(warehouse, building, timeout_seconds)
            _fill(warehouse, building, tables, views)
            building.chmod(READ_ONLY_FILE)
            sync(building)
            set_aside(warehouse)
            seal(warehouse, building)
            building.replace(warehouse.catalogue)
            sync(folder)
        finally:
            building.unlink(missing_ok=True)


def connect(data_dir: Path | str) -> duckdb.DuckDBPyConnection:
    """A read-only connection to the catalogue as it was published; no writer ever waits for it.

    `books.bbo` and the like are found at once; from a cursor of the connection write
    `market.books.bbo`, because a cursor does not take over the default database.
    It shows one state for as long as it is open: connect again to see what was published since.

    Args:
        data_dir: The data folder (`PIPELINE_DATA_DIR`).

    Raises:
        MissingDataError: There is no catalogue below that folder.
        WarehouseBusyError: Somebody has the catalogue open for writing.
        PublishError: The file is damaged, or somebody wrote into it.
    """
    warehouse = Warehouse(Path(data_dir))
    if not warehouse.catalogue.is_file():
        raise MissingDataError(
            "there is no catalogue yet",
            next_step="Run the pipeline once for any day, or check PIPELINE_DATA_DIR.",
            file=warehouse.catalogue,
        )
    while True:
        published = check_seal(warehouse)
        connection = _attached(warehouse.catalogue)
        try:
            # From now on DuckDB keeps writers out of the file, but before it was anybody's.
            if check_seal(warehouse) == published:
                return connection
        except PublishError:
            connection.close()
            raise
        connection.close()  # a refresh came in between


def _attached(catalogue: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    # Published files never change, so their footers may be kept.
    connection.execute("SET parquet_metadata_cache = true")
    try:
        # Attached, not opened: for a path that this process has open already DuckDB hands out the
        # database it knows, which after a refresh is the old one.
        connection.execute(f"ATTACH {_text(str(catalogue))} AS market (READ_ONLY)")
        connection.execute("USE market")
    except duckdb.Error as error:
        connection.close()
        # A binder's error: this very process has it open for writing.
        if is_locked_elsewhere(error) or isinstance(error, duckdb.BinderException):
            raise WarehouseBusyError(
                "somebody has the catalogue open for writing",
                next_step="Close the shell or notebook that opened it without READ_ONLY.",
                file=catalogue,
            ) from error
        raise PublishError(
            f"the catalogue cannot be opened: {error}",
            next_step="Run the pipeline for any day: each publish builds the catalogue anew.",
            file=catalogue,
        ) from error
    return connection


def _copy_small_tables(warehouse: Warehouse, building: Path, timeout_seconds: float) -> None:
    """Start the new catalogue as a copy of the working database's file.

    Measured with 2 million rows of 15 columns (178 MB): copying the file takes 0.1 s, copying the
    tables by SQL 2.0 s.
    """
    if not warehouse.working_database.exists():
        return
    with holding(warehouse, WORKING_LOCK, timeout_seconds=timeout_seconds):
        # A killed writer leaves its last commits in the log beside the file: opening and closing
        # moves them into the file.
        if warehouse.working_database.with_suffix(".duckdb.wal").exists():
            with closing(open_database(warehouse, timeout_seconds=timeout_seconds)) as connection:
                connection.execute("CHECKPOINT")
        descriptor = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        with warehouse.working_database.open("rb") as source, os.fdopen(descriptor, "wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)


def _fill(
    warehouse: Warehouse, building: Path, tables: Sequence[Table], views: Sequence[View]
) -> None:
    """Add to the copy what is not in it: views, empty tables, descriptions."""
    connection = _open_copy(warehouse, building)
    try:
        connection.begin()
        for table in tables:
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{table.schema}"')
            if table.storage == "delta":
                connection.execute(_view(warehouse, table, connection))
            else:
                ensure_table(connection, table)
            _describe(connection, table)
        for view in views:
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{view.schema}"')
            try:
                connection.execute(f'CREATE VIEW "{view.schema}"."{view.name}" AS {view.query}')
                _describe(connection, view)
            except duckdb.Error as error:
                raise PublishError(
                    f"the catalogue's view {view.sql_name} cannot be made: {error}",
                    next_step="Mend the view's SQL; the catalogue that was there still is.",
                ) from error
        connection.commit()
        # Closing does it too, but says nothing if the disk is full: an empty file would be left.
        connection.execute("CHECKPOINT")
    finally:
        connection.close()


def _open_copy(warehouse: Warehouse, building: Path) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(str(building))
    except duckdb.Error as error:
        raise damaged(warehouse, error) from error


def _view(warehouse: Warehouse, table: Table, connection: duckdb.DuckDBPyConnection) -> str:
    """The SQL that makes the view of a big table's current files, or an empty view of its types."""
    delta = delta_table(warehouse, table)
    files = [] if delta is None else published_files(delta)
    present = set(table.arrow_schema.names)
    source = ""
    if delta is not None and files:
        folder = f"{warehouse.table_dir(table)}{os.sep}"
        paths = ", ".join(_text(folder + file.path) for file in files)
        # Opens every file now and in each query, so only where files do differ.
        options = "union_by_name=true" if has_columns_added_later(delta, table) else ""
        # A view of its own: each description of a column copies the view that it is put on, and ten
        # years of ten instruments are 36,500 paths, which took 3 GB and 29 s.
        name = f'"{FILES_SCHEMA}"."{table.schema}_{table.name}"'
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{FILES_SCHEMA}"')
        connection.execute(
            f"CREATE VIEW {name} AS FROM read_parquet([{paths}], hive_partitioning=false"
            f"{options and ', '}{options})"
        )
        source = f"FROM {name}"
        if options:
            rows = connection.execute(f"DESCRIBE {source}").fetchall()
            present &= {column for column, *_ in rows}
    values = ", ".join(
        f"CAST({_quoted(column.name) if source and column.name in present else 'NULL'} "
        f"AS {column.type}) AS {_quoted(column.name)}"
        for column in table.columns
    )
    stored = f"SELECT {values} {source or 'WHERE false'}"
    if table.computed:
        more = ", ".join(f"{each.sql} AS {_quoted(each.column.name)}" for each in table.computed)
        stored = f"SELECT *, {more} FROM ({stored})"
    return f'CREATE VIEW "{table.schema}"."{table.name}" AS {stored}'


def _describe(connection: duckdb.DuckDBPyConnection, table: Table | View) -> None:
    """Put the table's and columns' descriptions where `duckdb_columns()` and tools find them."""
    is_stored_here = isinstance(table, Table) and table.storage == "duckdb"
    kind = "TABLE" if is_stored_here else "VIEW"
    name = f'"{table.schema}"."{table.name}"'
    comments = [f"COMMENT ON {kind} {name} IS {_text(table.description)}"]
    comments += [
        f"COMMENT ON COLUMN {name}.{_quoted(column.name)} IS {_text(column.description)}"
        for column in table.readable
    ]
    connection.execute("; ".join(comments))


def _text(value: str) -> str:
    """A SQL string literal; DDL takes no parameters."""
    return "'" + value.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return f'"{name}"'
