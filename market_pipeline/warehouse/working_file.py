"""The private DuckDB file of the small tables: who may open it, and what changes with each commit.

A DuckDB file is not a shared store: while one process writes it, no other can open it. So it is
opened here only, always under a file lock and never for longer than one replacement; users open the
catalogue.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import duckdb
import polars as pl

from market_pipeline.errors import PublishError
from market_pipeline.warehouse.file_views import text
from market_pipeline.warehouse.layout import PRIVATE_FILE, Warehouse, sync
from market_pipeline.warehouse.locks import busy, holding, is_locked_elsewhere, until_unlocked
from market_pipeline.warehouse.tables import Table

__all__ = [
    "WORKING_LOCK",
    "copy_working",
    "damaged",
    "frame_of",
    "keep_day",
    "known_day",
    "open_database",
    "working_log",
    "working_mark",
    "writing",
]

WORKING_LOCK = "working"
"""Name of the lock that whoever opens or copies the working database holds."""

_ATTACHED = "working"

_OPTIONS = "STORAGE_VERSION 'v1.4.0', RECOVERY_MODE 'NO_WAL_WRITES'"
"""The form that DuckDB writes since 1.4: in the one it takes by itself, for the sake of readers
before 1.0, the same rows take two to three times as long to open and to commit. And no log beside
the file, so that a commit is one write of it (`_engine`) and not two: where there was room for the
log alone, nobody could open the file any more."""

_BLOCK_BYTES = 1 << 16
"""The size of a block of a new file. The small tables are wide and a run commits little to each: in
blocks of DuckDB's own size, four times this one, that takes half as long again while they are
small, and no less when they have the rows of ten instruments and eight years. One that was made
with other blocks keeps them."""

_HEADER_BYTES = 3 * 4096
"""DuckDB's file begins with three: what it is, and two of its state that are written in turns."""

_MOST_KEPT_ROWS = 1 << 16

_BATCH_ROWS = 1_000


class _Known(NamedTuple):
    """Rows of days as this process read them, of the state of the file that the mark is of."""

    mark: str | None
    days: Mapping[tuple[date, Table], pl.DataFrame]


_known: dict[Path, _Known] = {}


@contextmanager
def writing(
    warehouse: Warehouse,
    changes: Collection[Table] | None = None,
    days: Mapping[tuple[date, Table], pl.DataFrame] = MappingProxyType({}),
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection inside one transaction: committed at the end, rolled back if the block raises.

    The file is closed on the way out, which moves everything into the file itself.

    Args:
        warehouse: Whose working database; it is made when it is not there.
        changes: The tables whose rows the block may change; None is any.
        days: Filled by the block: of further tables the days that it changed, and the rows that
            these then have, to be kept.

    Raises:
        WarehouseBusyError: Another process kept the lock or the file for the whole wait.
    """
    path = warehouse.working_database
    with holding(warehouse, WORKING_LOCK):
        known = _known.pop(path, None)
        if known is not None and known.mark is not None and known.mark == working_mark(warehouse):
            _known[path] = known
        with open_database(warehouse) as connection:
            connection.begin()
            try:
                yield connection
            except BaseException:
                connection.rollback()
                _known.pop(path, None)
                raise
            connection.commit()
        # Nobody else changed the file meanwhile, so what was known of other tables is known still.
        known_days = _known[path].days if path in _known and changes is not None else {}
        kept = {
            key: rows
            for key, rows in known_days.items()
            if key[1] not in (changes or ()) and key not in days
        }
        _known[path] = _Known(working_mark(warehouse), kept)
        for (day, table), rows in days.items():
            keep_day(warehouse, day, {table: rows})


def known_day(
    warehouse: Warehouse, tables: Collection[Table], day: date, *, is_locked: bool = False
) -> dict[Table, pl.DataFrame]:
    """Rows of a day that this process read before and that are so still, of those tables it knows.

    With `is_locked` the caller is inside `writing`, which looked after whether they are so still.
    """
    known = _known.get(warehouse.working_database)
    if known is None:
        return {}
    if not is_locked and (known.mark is None or known.mark != working_mark(warehouse)):
        return {}
    return {table: known.days[day, table] for table in tables if (day, table) in known.days}


def keep_day(warehouse: Warehouse, day: date, frames: Mapping[Table, pl.DataFrame]) -> None:
    """Keeps rows of a day that were read inside `writing`, unless they are very many.

    Days that are not neighbours of it are forgotten: a run asks for its own and the one before.
    """
    path = warehouse.working_database
    mark, days = _known.get(path, _Known(None, {}))
    near = {key: rows for key, rows in days.items() if abs((key[0] - day).days) <= 1}
    few = {(day, table): rows for table, rows in frames.items() if rows.height <= _MOST_KEPT_ROWS}
    _known[path] = _Known(mark, {**near, **few})


def working_mark(warehouse: Warehouse) -> str | None:
    """What changes with each commit; None where one waits in the log beside the file, or none was.

    The headers of the file, one of which DuckDB counts up and writes last, and when it was written:
    where an older file was put back, other commits get the same counts.
    """
    if working_log(warehouse).exists():
        return None
    try:
        with warehouse.working_database.open("rb") as file:
            written_ns = os.fstat(file.fileno()).st_mtime_ns
            return hashlib.sha256(b"%d %s" % (written_ns, file.read(_HEADER_BYTES))).hexdigest()
    except FileNotFoundError:
        return None


def working_log(warehouse: Warehouse) -> Path:
    """Where a killed writer leaves its last commits, until somebody opens the database."""
    return warehouse.working_database.with_suffix(".duckdb.wal")


@contextmanager
def open_database(warehouse: Warehouse) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the working database, mode 0600; only for who holds `WORKING_LOCK`.

    Raises:
        WarehouseBusyError: Somebody has the file open in spite of the lock, such as a shell.
        PublishError: The file is damaged or cannot be read.
    """
    path = warehouse.working_database
    engine = _engine(path)
    try:
        try:
            if not path.exists():
                _make_file(warehouse, engine)
            until_unlocked(warehouse.wait_seconds)(engine.execute, _attach(path))
        except duckdb.IOException as error:
            if is_locked_elsewhere(error):
                raise busy(warehouse, WORKING_LOCK, path) from error
            raise damaged(warehouse, error) from error
        path.chmod(PRIVATE_FILE)
        engine.execute(f"USE {_ATTACHED}")
        yield engine
        engine.execute("USE memory")
        engine.execute(f"DETACH {_ATTACHED}")
    except BaseException:
        engine.close()  # and with it the file, whatever is the matter
        _engine.cache_clear()
        raise


def _attach(path: Path) -> str:
    return f"ATTACH {text(str(path))} AS {_ATTACHED} ({_OPTIONS})"


def _make_file(warehouse: Warehouse, engine: duckdb.DuckDBPyConnection) -> None:
    """An empty database, whole when it comes to its place: cut short, nobody could open it."""
    path = warehouse.working_database
    new = path.with_suffix(".duckdb.new")
    new.unlink(missing_ok=True)
    engine.execute(_attach(new))
    engine.execute(f"DETACH {_ATTACHED}")
    working_log(warehouse).unlink(missing_ok=True)  # of a file that was moved away
    new.rename(path)
    sync(path.parent)


@lru_cache(maxsize=1)
def _engine(path: Path) -> duckdb.DuckDBPyConnection:
    """DuckDB for a file: to start it takes longer than to attach the file and to detach it.

    On small tables a second thread costs a third more processor time, and saves none. Each commit
    is a checkpoint, which moves it into the file.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "default_block_size": f"{_BLOCK_BYTES}",
        "checkpoint_threshold": "1b",
    }
    return duckdb.connect(config=config)


def copy_working(warehouse: Warehouse, target: Path) -> str | None:
    """Copies the file between two transactions, mode 0600; the mark of what it was.

    Measured with 2 million rows of 15 columns (178 MB): copying the file takes 0.1 s, copying the
    tables by SQL 2.0 s.
    """
    with holding(warehouse, WORKING_LOCK):
        # A killed writer leaves its last commits in the log beside the file: opening and closing
        # moves them into the file.
        if working_log(warehouse).exists() or not warehouse.working_database.exists():
            with open_database(warehouse) as connection:
                connection.execute("CHECKPOINT")
        target.touch(PRIVATE_FILE)
        shutil.copyfile(warehouse.working_database, target)
        return working_mark(warehouse)


def frame_of(result: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """What a query of the small tables found.

    DuckDB allocates each column for as many rows as a batch may have, by default a million, however
    few there are, and frames of a day are kept (`keep_day`): of a hundred numbers and forty texts
    one takes 17 MB by ten thousand rows, and 1.2 MB by one thousand. That costs a large result
    little: 300,000 rows of thirteen columns take 0.14 s instead of 0.09.
    """
    return result.pl(_BATCH_ROWS)


def damaged(warehouse: Warehouse, error: duckdb.Error) -> PublishError:
    """The error of a working database that DuckDB cannot open."""
    return PublishError(
        f"the working database cannot be opened: {error}",
        next_step="Check the disk and the file's owner; move it away to start afresh.",
        file=warehouse.working_database,
    )
