"""The DuckDB file that users open: views of the published files, copies of the small tables.

What does not change with each publish, such as descriptions, is drawn once into the working
database, of which the catalogue begins as a copy; each refresh adds which files are published.

It is built anew beside the old one and swapped in by a rename, so nobody waits for a lock: who has
the old one open goes on reading it, and who opens it next gets the new one. It is sealed: `seal`
keeps out what others write, and `connect` opens nothing but what was published.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import duckdb

from market_pipeline.errors import MissingDataError, PublishError, WarehouseBusyError
from market_pipeline.warehouse._seal import check_seal, seal, set_aside
from market_pipeline.warehouse.delta import share_log
from market_pipeline.warehouse.file_views import (
    FILES_SCHEMA,
    add_file_views,
    files_view,
    forget_file_views,
    nothing_of,
    quoted,
    shows_all_files,
    text,
)
from market_pipeline.warehouse.layout import (
    PRIVATE_FOLDER,
    READ_ONLY_FILE,
    Warehouse,
    make_private_folder,
    share_published,
    sync,
)
from market_pipeline.warehouse.locks import holding, is_locked_elsewhere
from market_pipeline.warehouse.tables import Macro, Table, View
from market_pipeline.warehouse.working import ensure_table
from market_pipeline.warehouse.working_file import (
    copy_working,
    damaged,
    working_mark,
    writing,
)

__all__ = ["FILES_SCHEMA", "connect", "is_current", "refresh"]

_OUTLINE = f'"{FILES_SCHEMA}"."outline"'
_COPIED = f'"{FILES_SCHEMA}"."copied"'
_LOCK = "catalogue"
_BUILDING = ".building-"


def refresh(
    warehouse: Warehouse,
    tables: Sequence[Table],
    views: Sequence[View] = (),
    macros: Sequence[Macro] = (),
) -> None:
    """Build `warehouse/market.duckdb` from what is published now, and swap it in.

    Tables nothing was published to yet are there, typed and empty.
    Paths in views are absolute: after moving the data folder, refresh.
    What somebody wrote into the old catalogue is set aside, with a warning in the log.

    Args:
        warehouse: Whose catalogue.
        tables: Every table users may query.
        views: More views, made in this order.
        macros: Queries with parameters.

    Raises:
        PublishError: A view's SQL is wrong, or a small table has another type of column; the old
            catalogue stays.
        WarehouseBusyError: Another process kept a lock for the whole wait.
    """
    folder = warehouse.warehouse_dir
    make_private_folder(folder)
    with holding(warehouse, _LOCK):
        # Whoever made these was killed: the lock is ours.
        for left_over in folder.glob(f"{_BUILDING}*"):
            left_over.unlink()
        # One that was killed right after a commit left it closed to the readers' group.
        for table in _of_files(tables):
            share_log(warehouse.table_dir(table))
        building = folder / f"{_BUILDING}{uuid.uuid4().hex}.duckdb"
        try:
            try:
                _build(warehouse, building, tables, views, macros)
            except duckdb.Error:
                # What is kept of the file views may be damaged: it is made anew from the tables.
                forget_file_views(warehouse)
                _build(warehouse, building, tables, views, macros)
            building.chmod(READ_ONLY_FILE)
            share_published(building)
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
    if warehouse.catalogue.exists() and not warehouse.catalogue.is_file():
        raise PublishError(
            "something that is no file lies in the catalogue's place",
            next_step="Move it away, then run this again.",
            file=warehouse.catalogue,
            expected="a DuckDB file",
        )
    if not warehouse.catalogue.exists():
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
    connection.execute(f"SET temp_directory = {text(_spill_folder())}")
    # Published files never change, so their footers may be kept.
    connection.execute("SET parquet_metadata_cache = true")
    # DuckDB takes the rows of an instrument in a list for one or two, and would find what is in
    # force at each by comparing it with every other row: a minute for the bars of a day.
    connection.execute("SET asof_loop_join_threshold = 0")
    try:
        # Attached, not opened: for a path that this process has open already DuckDB hands out the
        # database it knows, which after a refresh is the old one.
        connection.execute(f"ATTACH {text(str(catalogue))} AS market (READ_ONLY)")
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
            next_step="Run the pipeline for any day: each run builds the catalogue anew.",
            file=catalogue,
        ) from error
    return connection


def _spill_folder() -> str:
    """Where a connection puts what its memory does not hold; DuckDB makes it and takes it away.

    By itself it would be `.tmp` in the current folder, with the modes of the process's umask, and
    the same for all processes there. Where nothing can be made, nothing is put anywhere.
    """
    try:
        private = Path(tempfile.gettempdir()) / f"market-pipeline-{os.geteuid()}"
        with suppress(FileExistsError):
            private.mkdir(PRIVATE_FOLDER)
        found = private.lstat()  # of a link that somebody else made it is theirs
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            private = Path(tempfile.mkdtemp(prefix="market-pipeline-"))
    except OSError:
        return ""
    return str(private / uuid.uuid4().hex)


def _build(
    warehouse: Warehouse,
    building: Path,
    tables: Sequence[Table],
    views: Sequence[View],
    macros: Sequence[Macro],
) -> None:
    digest = _digest(tables, views, macros)
    copied = copy_working(warehouse, building)
    if not _show_files(warehouse, building, tables, digest, copied):
        _draw_outline(warehouse, tables, views, macros, digest)
        copied = copy_working(warehouse, building)
        _show_files(warehouse, building, tables, digest, copied)


def is_current(
    connection: duckdb.DuckDBPyConnection,
    warehouse: Warehouse,
    tables: Sequence[Table],
    views: Sequence[View] = (),
    macros: Sequence[Macro] = (),
) -> bool:
    """Whether a connection from `connect` shows what is published now, as `refresh` would show it.

    It costs some milliseconds: neither rows nor lists of files are compared, but what they are of.
    """
    try:
        drawn = connection.execute(f"SELECT digest FROM {_OUTLINE}").fetchall()
        copied = connection.execute(f"SELECT working FROM {_COPIED}").fetchall()
    except duckdb.CatalogException:
        return False  # a release before made it
    return (
        drawn == [(_digest(tables, views, macros),)]
        and copied == [(working_mark(warehouse),)]
        and shows_all_files(connection, warehouse, _of_files(tables))
    )


def _of_files(tables: Sequence[Table]) -> list[Table]:
    return [table for table in tables if table.storage == "delta"]


def _draw_outline(
    warehouse: Warehouse,
    tables: Sequence[Table],
    views: Sequence[View],
    macros: Sequence[Macro],
    digest: str,
) -> None:
    """Put into the working database what every catalogue of these tables has, without any file.

    Each description of a view's column copies the view, which took half of a refresh.
    """
    with writing(warehouse) as connection:
        drawn = connection.execute(
            "SELECT schema_name, view_name FROM duckdb_views() "
            "WHERE database_name = current_database() AND NOT internal"
        ).fetchall()
        for schema, name in drawn:
            connection.execute(f'DROP VIEW "{schema}"."{name}"')
        drawn = connection.execute(
            "SELECT schema_name, function_name FROM duckdb_functions() "
            "WHERE database_name = current_database() AND NOT internal "
            "AND function_type = 'table_macro'"
        ).fetchall()
        for schema, name in drawn:
            connection.execute(f'DROP MACRO TABLE "{schema}"."{name}"')
        for table in tables:
            if table.storage == "duckdb":
                ensure_table(connection, table)
            else:
                # A release before kept it here; its days are there again once they are run again.
                connection.execute(f"DROP TABLE IF EXISTS {table.sql_name}")
        for statement in _outline(tables):
            connection.execute(statement)
        for view in views:
            try:
                for statement in _further_view(view):
                    connection.execute(statement)
            except duckdb.Error as error:
                raise PublishError(
                    f"the catalogue's view {view.sql_name} cannot be made: {error}",
                    next_step="Fix the view's SQL; the catalogue that was there still is.",
                ) from error
        for statement in _parametrised(macros):
            connection.execute(statement)
        connection.execute(f"CREATE VIEW {_OUTLINE} AS SELECT '{digest}' AS digest")


def _digest(tables: Sequence[Table], views: Sequence[View], macros: Sequence[Macro]) -> str:
    """Names an outline by all that it is made of."""
    digest = hashlib.sha256()
    of_views = (each for view in views for each in _further_view(view))
    for statement in (*_outline(tables), *of_views, *_parametrised(macros)):
        digest.update(statement.encode() + b"\0")
    for table in tables:
        types = [(column.name, column.type) for column in table.columns]
        digest.update(repr((table.sql_name, table.storage, types)).encode())
    return digest.hexdigest()


def _outline(tables: Sequence[Table]) -> Iterator[str]:
    """The SQL of what is there without any file: a view for each big table, and descriptions."""
    yield f'CREATE SCHEMA IF NOT EXISTS "{FILES_SCHEMA}"'
    for table in tables:
        yield f'CREATE SCHEMA IF NOT EXISTS "{table.schema}"'
        if table.storage == "delta":
            yield f"CREATE VIEW {files_view(table)} AS {nothing_of(table)}"
            more = (f"{each.sql} AS {quoted(each.column.name)}" for each in table.computed)
            yield (
                f'CREATE VIEW "{table.schema}"."{table.name}" AS '
                f"SELECT {', '.join(['*', *more])} FROM {files_view(table)}"
            )
        yield _descriptions(table)


def _further_view(view: View) -> Iterator[str]:
    yield f'CREATE SCHEMA IF NOT EXISTS "{view.schema}"'
    yield f'CREATE VIEW "{view.schema}"."{view.name}" AS {view.query}'
    yield _descriptions(view)


def _parametrised(macros: Sequence[Macro]) -> Iterator[str]:
    for macro in macros:
        yield macro.sql
        yield f"COMMENT ON MACRO TABLE {macro.name} IS {text(macro.description)}"


def _show_files(
    warehouse: Warehouse, building: Path, tables: Sequence[Table], digest: str, copied: str | None
) -> bool:
    """Name the published files in a copy; False if it has another outline than the digest's."""
    connection = _open_copy(warehouse, building)
    try:
        try:
            drawn = connection.execute(f"SELECT digest FROM {_OUTLINE}").fetchall()
        except duckdb.CatalogException:
            return False
        if drawn != [(digest,)]:
            return False
        add_file_views(connection, warehouse, _of_files(tables))
        connection.execute(f"CREATE VIEW {_COPIED} AS SELECT {text(copied or '')} AS working")
        # Closing does it too, but says nothing if the disk is full: an empty file would be left.
        connection.execute("CHECKPOINT")
        return True
    finally:
        connection.close()


def _open_copy(warehouse: Warehouse, building: Path) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(str(building))
    except duckdb.Error as error:
        raise damaged(warehouse, error) from error


def _descriptions(table: Table | View) -> str:
    """The SQL that puts descriptions where `duckdb_columns()` and tools find them."""
    is_stored_here = isinstance(table, Table) and table.storage == "duckdb"
    kind = "TABLE" if is_stored_here else "VIEW"
    name = f'"{table.schema}"."{table.name}"'
    comments = [f"COMMENT ON {kind} {name} IS {text(table.description)}"]
    comments += [
        f"COMMENT ON COLUMN {name}.{quoted(column.name)} IS {text(column.description)}"
        for column in table.readable
    ]
    return "; ".join(comments)
