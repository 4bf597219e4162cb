"""Dagster's SQLite files: connections stay open, and a query says whether the tables are there.

Dagster opens and closes a file for every statement, and loads the scripts of all its migrations to
look for tables. No secret is written.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from market_pipeline.defs.scrubbed_writes import scrub_writes

__all__ = ["has_tables", "made_by_one", "open_engine"]

_FILE = "file"
_engines: weakref.WeakSet[sqlalchemy.Engine] = weakref.WeakSet()
_complete: set[tuple[Path, int, int]] = set()
"""The files in which this process has found all tables: every tick of a sensor asks."""


def open_engine(address: str, *, guess: bool = True) -> sqlalchemy.Engine:
    """What opens connections to a file and keeps them open, through which no secret is written.

    Where the file was removed or another one is in its place, the next statement opens that: what
    is written to a removed file nobody reads.

    Args:
        address: SQLAlchemy's address of the file, which has no parameters.
        guess: As of `scrub_writes`.
    """
    engine = sqlalchemy.create_engine(
        address,
        # The web server has a thread for each request under way: none waits for a connection.
        max_overflow=-1,
        connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
    )
    file = Path(str(engine.url.database))

    def note(_: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        entry.info[_FILE] = _identity(file)

    def look(_: DBAPIConnection, entry: ConnectionPoolEntry, __: object) -> None:
        if entry.info[_FILE] != _identity(file):
            raise sqlalchemy.exc.DisconnectionError

    sqlalchemy.event.listen(engine, "connect", note)
    sqlalchemy.event.listen(engine, "checkout", look)
    scrub_writes(engine, guess=guess)
    _engines.add(engine)
    return engine


@contextmanager
def made_by_one(folder: Path) -> Iterator[None]:
    """Lets one process at a time look for tables in a folder and make them; makes the folder.

    Dagster's processes that were first in a home at once failed, or noted two revisions, after
    which each later one fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def has_tables(file: Path, query: str) -> bool:
    """Whether Dagster has made all its tables in a file, which loads none of its migrations.

    Args:
        file: The file, which need not be there.
        query: What has a row of the tables that are made last.
    """
    identity = _identity(file)
    if identity is None or identity in _complete:
        return identity is not None
    with closing(sqlite3.connect(file, SQLITE_BUSY_TIMEOUT_SECONDS)) as database:
        try:
            if database.execute(query).fetchone() is None:
                return False
        except sqlite3.DatabaseError:  # Dagster says what is wrong with it
            return False
    _complete.add(identity)
    return True


def _identity(file: Path) -> tuple[Path, int, int] | None:
    """The file that is there now; None of none, and of an empty one."""
    try:
        found = file.stat()
    except OSError:
        return None
    return (file, found.st_dev, found.st_ino) if found.st_size else None


def _close() -> None:
    """SQLite's connections may not be used in two processes: what a fork writes was lost."""
    for engine in list(_engines):
        engine.dispose()


os.register_at_fork(before=_close)
