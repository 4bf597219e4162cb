"""The file of the outbox: private, with its tables, and used in one transaction at a time.

Tables are made where they are missing or of an earlier version.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from market_pipeline.errors import PublishError, WarehouseBusyError
from market_pipeline.warehouse.layout import PRIVATE_FILE, make_private_folder

__all__ = ["make_file", "transaction"]

_WAIT_SECONDS = 30.0
_CREATION = threading.Lock()

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (run_id TEXT PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS findings (
    subject TEXT PRIMARY KEY,
    finding TEXT NOT NULL,
    alert TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY,
    alert_id TEXT NOT NULL,
    target TEXT NOT NULL,
    subject TEXT NOT NULL,
    alert TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_s REAL NOT NULL DEFAULT 0,
    changed_s REAL NOT NULL,
    error TEXT,
    put_in_s REAL NOT NULL,
    UNIQUE (alert_id, target)
) STRICT;
CREATE TABLE IF NOT EXISTS receivers (
    target TEXT PRIMARY KEY,
    sent_s REAL,
    failed_s REAL,
    error TEXT,
    not_before_s REAL NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS deliveries_by_state ON deliveries (state, target);
"""
# What an outbox lacks that was made by an earlier version, by table and column.
_UPGRADES = {
    ("deliveries", "put_in_s"): """
ALTER TABLE deliveries ADD COLUMN put_in_s REAL NOT NULL DEFAULT 0;
UPDATE deliveries SET put_in_s = changed_s;
INSERT OR IGNORE INTO receivers (target, sent_s)
    SELECT target, max(changed_s) FROM deliveries WHERE state = 'sent' GROUP BY target;
""",
    ("deliveries", "subject"): """
ALTER TABLE deliveries ADD COLUMN subject TEXT NOT NULL DEFAULT '';
UPDATE deliveries SET subject = alert_id;
""",
    ("findings", "alert"): """
ALTER TABLE findings ADD COLUMN alert TEXT;
""",
    ("receivers", "not_before_s"): """
ALTER TABLE receivers ADD COLUMN not_before_s REAL NOT NULL DEFAULT 0;
""",
}


def make_file(path: Path) -> None:
    """Makes the file, mode 0600, or adds what one of an earlier version lacks.

    Raises:
        PublishError, WarehouseBusyError: As `transaction` does.
    """
    make_private_folder(path.parent)
    # SQLite gives the file's mode to those beside it. One that is there is not opened here:
    # its close would end the locks that other threads of this process hold on it by SQLite.
    with _CREATION, suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
    with transaction(path) as connection:
        connection.execute("PRAGMA journal_mode")  # reads the file: a damaged one fails here
        _make_tables(connection)


@contextmanager
def transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection inside a transaction that is on disk when the block has ended.

    The rollback journal of SQLite's default, not its log for many readers: transactions here
    take a millisecond, and a data folder may lie on a network.

    Raises:
        PublishError: The file cannot be used.
        WarehouseBusyError: Another process kept it.
    """
    try:
        with closing(
            sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None)
        ) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            with connection:  # commits, or rolls back what was raised in
                yield connection
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", None)  # errors of its own module have none
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise WarehouseBusyError(
                f"the outbox of alerts was in use by another process for {_WAIT_SECONDS:g} s",
                next_step="Find that process with `fuser` on the file; nothing is lost meanwhile.",
                file=path,
            ) from error
        raise PublishError(
            f"the outbox of alerts cannot be used: {error}",
            next_step="Check the disk and the file's owner; if the file is damaged move it "
            "away, and what waits in it is lost.",
            file=path,
        ) from error


def _make_tables(connection: sqlite3.Connection) -> None:
    missing = [
        upgrade
        for (table, column), upgrade in _UPGRADES.items()
        for columns in [{row[1] for row in connection.execute(f"PRAGMA table_info({table})")}]
        if columns and column not in columns
    ]
    for statement in filter(str.strip, "".join([_SCHEMA, *missing]).split(";")):
        connection.execute(statement)
