"""The Delta side of a published table: open it, make it, add columns to it, list its files."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from threading import Lock
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.schema import Field as DeltaField
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from market_pipeline.errors import MissingDataError, PublishError, machine_errno
from market_pipeline.warehouse.conform import stored_schema
from market_pipeline.warehouse.layout import (
    GROUP_FILE,
    GROUP_FOLDER,
    Warehouse,
    make_published_folder,
    share_published,
    sync,
)
from market_pipeline.warehouse.tables import Table

__all__ = [
    "KEEP_REPLACED",
    "PARTITION_BY",
    "PublishedFile",
    "add_new_columns",
    "borrowed",
    "changes_since",
    "commit_file",
    "create_delta_table",
    "delta_table",
    "files_now",
    "partition_folder",
    "published_files",
    "settle_log",
    "share_log",
]

_LOG = logging.getLogger(__name__)

KEEP_REPLACED = timedelta(days=7)
"""How long a replaced file is kept, unless `vacuum` is given another time."""

PARTITION_BY = ["p_day", "p_instrument"]
"""The partition columns; Delta keeps them out of the files, so `dt` and the id are there too."""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One current file of a table; `path` is relative to the table's folder."""

    path: str
    day: date
    instrument: str
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class _Opened:
    """A table as this process read it last, what its commit was then, and days asked for since."""

    delta: DeltaTable
    commit: tuple[int, int, int] | None
    days: dict[date, list[PublishedFile]] = field(default_factory=dict)


# The Delta library makes a commit for its owner alone: a few ms later `settle_log` shares it.
_once_it_is_shared = Retrying(
    retry=retry_if_exception(lambda error: machine_errno(error) == errno.EACCES),
    wait=wait_fixed(0.02),
    stop=stop_after_delay(1.0),
    reraise=True,
)
_opened: dict[Path, _Opened] = {}
_opening = Lock()


def delta_table(
    warehouse: Warehouse, table: Table, version: int | None = None
) -> DeltaTable | None:
    """The Delta table at its newest or a given version; None where nothing was published yet.

    Raises:
        MissingDataError: That version is not there (any more).
        PublishError: The log of the table is damaged.
    """
    folder = warehouse.table_dir(table)
    try:
        return _once_it_is_shared(DeltaTable, str(folder), version=version)
    except TableNotFoundError:
        if version is None:
            return None
        problem: DeltaError | None = None
    except DeltaError as error:
        if machine_errno(error) is not None:
            raise
        if version is None:
            raise PublishError(
                f"the log of {table.sql_name} cannot be read: {error}",
                next_step=(
                    "Move its newest *.checkpoint.parquet and _last_checkpoint away: with all "
                    "commits there, it is read without them. Else move the table's folder away and "
                    "materialize its days again; the raw files are untouched."
                ),
                file=folder / "_delta_log",
            ) from error
        problem = error
    raise MissingDataError(
        f"{table.sql_name} has no version {version}",
        next_step="Choose one of those in the table's history; old ones expire after 30 days.",
        file=folder,
    ) from problem


def create_delta_table(warehouse: Warehouse, table: Table) -> DeltaTable:
    """Make the table without any file, unless another process just did."""
    schema = stored_schema(table)
    for name, kind in zip(PARTITION_BY, (pa.date32(), pa.string()), strict=True):
        schema = schema.append(pa.field(name, kind))
    make_published_folder(log := warehouse.table_dir(table) / "_delta_log")
    share_published(log)  # a kill may have come right after it was made
    return DeltaTable.create(
        str(warehouse.table_dir(table)),
        schema,
        mode="ignore",
        partition_by=PARTITION_BY,
        name=table.sql_name,
        description=table.description,
        configuration={
            "delta.deletedFileRetentionDuration": f"interval {KEEP_REPLACED.days} days",
            "delta.logRetentionDuration": "interval 30 days",
        },
    )


def add_new_columns(delta: DeltaTable, table: Table) -> None:
    """Bring the Delta schema up to the table's: new columns are added, types never change.

    Raises:
        PublishError: A column was published with another type.
    """
    known = {field.name: field.type for field in delta.schema().fields}
    fresh = []
    for column in DeltaSchema.from_arrow(stored_schema(table)).fields:
        if column.name not in known:
            fresh.append(DeltaField(column.name, column.type))
        elif known[column.name] != column.type:
            raise PublishError(
                f"{table.sql_name} was published with another type of column before",
                next_step=(
                    "Move the table's folder away and materialize its days again; "
                    "the raw files are untouched."
                ),
                file=delta.table_uri,
                column=column.name,
                expected=str(known[column.name]),
                found=str(column.type),
            )
    if fresh:
        delta.alter.add_columns(fresh)
        delta.update_incremental()


def published_files(
    delta: DeltaTable,
    day: date | None = None,
    instruments: Collection[str] | None = None,
) -> list[PublishedFile]:
    """The files of the loaded version, sorted by day, instrument and name."""
    actions = pa.table(delta.get_add_actions(flatten=True))
    columns = ("path", "partition.p_day", "partition.p_instrument", "size_bytes", "num_records")
    actions = actions.select(columns)
    if day is not None:
        actions = actions.filter(pc.field("partition.p_day") == pa.scalar(day, pa.date32()))
    files = [
        # The log holds paths as URLs hold them; on disk they have one level of escapes less.
        PublishedFile(unquote(path), of_day, instrument, size, rows or 0)
        for path, of_day, instrument, size, rows in zip(
            *(column.to_pylist() for column in actions.columns), strict=True
        )
        if instruments is None or instrument in instruments
    ]
    return sorted(files, key=lambda file: (file.day, file.instrument, file.path))


def files_now(
    warehouse: Warehouse,
    table: Table,
    day: date | None = None,
    instruments: Collection[str] | None = None,
) -> list[PublishedFile]:
    """`published_files` of the newest version; none where nothing was published yet.

    The log is read once for each version: a run asks for the files of a day dozens of times.
    """
    with _opening:
        known = _newest(warehouse, table)
        if known is None:
            return []
        if day is None:
            return published_files(known.delta, day, instruments)
        if day not in known.days:
            known.days[day] = published_files(known.delta, day)
        files = known.days[day]
    return [file for file in files if instruments is None or file.instrument in instruments]


@contextmanager
def borrowed(warehouse: Warehouse, table: Table) -> Iterator[DeltaTable | None]:
    """The Delta table at its newest version, for the block alone; None as of `delta_table`.

    What the block commits, `files_now` and the next block read as what came since.
    """
    folder = warehouse.table_dir(table)
    with _opening:
        known = _newest(warehouse, table)
        _opened.pop(folder, None)
    yield None if known is None else known.delta
    if known is not None:
        # Another thread that has just read a newer version would else return this one.
        with _opening:
            _opened[folder] = known


def _newest(warehouse: Warehouse, table: Table) -> _Opened | None:
    """The newest version, for who holds `_opening`.

    To open a log takes twice as long as to go on in it.
    """
    folder = warehouse.table_dir(table)
    known = _opened.pop(folder, None)
    if known is None or not _is_as_read(warehouse, table, known):
        delta = delta_table(warehouse, table)
    elif commit_file(warehouse, table, known.delta.version() + 1).exists():
        delta = known.delta
        _once_it_is_shared(delta.update_incremental)
    else:
        _opened[folder] = known
        return known
    if delta is None:
        return None
    _opened[folder] = _Opened(delta, _stamp(commit_file(warehouse, table, delta.version())))
    return _opened[folder]


def _is_as_read(warehouse: Warehouse, table: Table, known: _Opened) -> bool:
    """Whether neither the log was begun afresh, nor the table went on for who borrowed it.

    Then columns came to it, or a checkpoint, at which who opens it afresh begins.
    """
    commit = commit_file(warehouse, table, known.delta.version())
    return known.commit is not None and known.commit == _stamp(commit)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What tells a file from another one of its name; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def partition_folder(day: date, instrument: str) -> str:
    """Path below the table's folder; `:` and what else a folder's name may not hold is escaped."""
    return f"p_day={day.isoformat()}/p_instrument={quote(instrument, safe='-_.')}"


def commit_file(warehouse: Warehouse, table: Table, version: int) -> Path:
    """Where the commit of a version lies, until it expires."""
    return warehouse.table_dir(table) / "_delta_log" / f"{version:020}.json"


def changes_since(warehouse: Warehouse, table: Table, version: int) -> tuple[int, dict[str, bool]]:
    """What the commits after a version did, without reading the whole log.

    Args:
        warehouse, table: Whose commits.
        version: One whose commit is still there, so that all later ones are.

    Returns:
        The newest version, and by the path of each file that came or went whether it is there now.
    """
    is_there: dict[str, bool] = {}
    while (commit := commit_file(warehouse, table, version + 1)).exists():
        for line in commit.read_text(encoding="utf-8").splitlines():
            action = json.loads(line)
            for kind in action.keys() & {"add", "remove"}:
                is_there[unquote(action[kind]["path"])] = kind == "add"
        version += 1
    return version, is_there


def settle_log(folder: Path) -> None:
    """Make the newest commit survive a power cut, and share the log files as `share_log`.

    The Delta library leaves the flush to the system. Of a table whose checkpoint is there by its
    name alone it opens no version.
    """
    commit = share_log(folder)
    if commit is not None:
        sync(commit)
        if (checkpoint := commit.with_suffix(".checkpoint.parquet")).exists():
            sync(checkpoint)
        sync(commit.parent)


def share_log(folder: Path) -> Path | None:
    """Keep the log files of a table to who may read it, also those that a killed process left.

    The Delta library makes them under the process's umask. One of another user stays as it is,
    with a warning: only they, or root, can open it to the readers or close it.

    Returns:
        The newest commit; None where there is none.
    """
    log = folder / "_delta_log"
    if not log.is_dir():
        return None
    of_group = GROUP_FILE if log.stat().st_mode & GROUP_FOLDER == GROUP_FOLDER else 0
    commits, foreign = [], []
    for entry in os.scandir(log):
        if entry.name.endswith(".json"):
            commits.append(entry.path)
        with suppress(FileNotFoundError):  # the library's own, of a commit that is being written
            if entry.is_file() and entry.stat().st_mode & 0o077 != of_group:
                try:
                    share_published(Path(entry.path))
                except PermissionError:
                    foreign.append(entry.path)
    if foreign:
        _LOG.warning(
            "%d files of a table's log are of another user and keep their mode, the first is %s. "
            "`market-pipeline access --apply` as root gives them to who runs.",
            *(len(foreign), min(foreign)),
        )
    return Path(max(commits)) if commits else None
