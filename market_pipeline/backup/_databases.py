"""Databases copied between two transactions, while others write to them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from market_pipeline.backup.contents import DATABASE_SUFFIXES
from market_pipeline.errors import BackupError, WarehouseBusyError
from market_pipeline.warehouse.layout import PRIVATE_FILE, Warehouse
from market_pipeline.warehouse.working_file import copy_working

__all__ = ["copied_database"]

_WAIT_SECONDS = 60.0


@contextmanager
def copied_database(path: Path, warehouse: Warehouse) -> Iterator[Path]:
    """A copy of a database in `staging/`, gone after the block; any other file is itself.

    Raises:
        WarehouseBusyError: Another process kept it.
        BackupError: It is damaged.
    """
    is_working = path == warehouse.working_database
    if not is_working and path.suffix not in DATABASE_SUFFIXES:
        yield path
        return
    copy = warehouse.staging_dir / f"backup.{uuid4().hex}.partial"
    copy.touch(PRIVATE_FILE, exist_ok=False)
    try:
        if is_working:
            copy_working(warehouse, copy)
        else:
            _copy_sqlite(path, copy)
        yield copy
    finally:
        copy.unlink()


def _copy_sqlite(path: Path, copy: Path) -> None:
    until = time.monotonic() + _WAIT_SECONDS

    def require_time(*_: int) -> None:
        if time.monotonic() > until:
            raise WarehouseBusyError(
                f"A database was in use by another process for {_WAIT_SECONDS:g} s",
                next_step="Find it with `fuser` on the file, and make the backup again.",
                file=path,
            )

    try:
        with (
            closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target, progress=require_time)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise
        raise BackupError(
            f"A database cannot be copied: {error}",
            next_step="Check the disk and the file's owner.",
            file=path,
        ) from error
