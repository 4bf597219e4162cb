"""Publish a day's staged files as one atomic Delta commit; withdraw days; delete old files.

A table is partitioned by `p_day` and `p_instrument`, and a file never changes under its name: its
name is its part number and the hash of its bytes. A reader therefore sees a partition as it was
before a commit or as it is after it, and files it already opened stay until `vacuum`.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction, Transaction
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from market_pipeline.config.values import JsonValue
from market_pipeline.errors import PublishError
from market_pipeline.warehouse.conform import instrument_parts
from market_pipeline.warehouse.delta import (
    KEEP_REPLACED,
    PARTITION_BY,
    add_new_columns,
    borrowed,
    create_delta_table,
    delta_table,
    partition_folder,
    published_files,
    settle_log,
)
from market_pipeline.warehouse.layout import Warehouse, make_published_folder, share_published, sync
from market_pipeline.warehouse.locks import busy, holding
from market_pipeline.warehouse.staging import StagedFile
from market_pipeline.warehouse.tables import Table

__all__ = ["publish", "vacuum", "where_it_lies", "withdraw"]

_LOG = logging.getLogger(__name__)

_APPLICATION = "market_pipeline"
_COMMITS_A_CHECKPOINT = 10
"""The Delta library by itself makes a checkpoint of the log with each hundredth commit.

Measured with ten instruments: each commit since then adds 1.1 ms to opening a table and 0.5 ms to
committing to it. A checkpoint of 600 files takes 25 ms, and one of 12,000 files 70 ms.
"""
_FILES_A_CHECKPOINT = 2_000
"""Each so many files of a table, a checkpoint comes ten commits later than by the rule above.

It names them all, 150 bytes for each, and stays for a month. A backfill of ten years of ten
instruments would leave a gigabyte of them for each table; so it is a hundred megabytes.
"""


def publish(
    warehouse: Warehouse,
    table: Table,
    day: date,
    staged: Sequence[StagedFile],
    *,
    withdrawn: Collection[str] = (),
    properties: Mapping[str, str] | None = None,
) -> int:
    """Replace a day's partitions of the staged and withdrawn instruments in one commit.

    Other days and other instruments keep their files.
    Publishing what is already there makes no commit, so doing it twice is the same as once.
    Killed at any moment, the table is as before or as after; a file that was moved into the table's
    folder without its commit is unseen, is used by the next run that makes the same bytes, and else
    falls to `vacuum`.

    Args:
        warehouse: Where to publish.
        table: A table whose `storage` is "delta".
        day: The UTC day of every row in the files.
        staged: The files of an instrument are its parts; they are moved, not copied.
        withdrawn: Instruments that have no data on that day any more.
        properties: Recorded with the commit, e.g. code version and input hashes.

    Returns:
        The Delta version in which the day is as asked for; -1 where nothing was published before
        and nothing is now.

    Raises:
        PublishError: A file holds other rows than it was staged for, a part is named twice,
            or the table was published with other column types.
        WarehouseBusyError: Another process kept the table's lock, or kept committing before us.
    """
    _refuse_repeats(table, day, staged, withdrawn)
    for file in staged:
        _check_contents(warehouse, table, day, file)

    def commit(delta: DeltaTable | None) -> int:
        if delta is None:
            if not staged:
                return -1
            delta = create_delta_table(warehouse, table)
        add_new_columns(delta, table)
        return _commit(delta, day, staged, withdrawn, properties or {})

    with holding(warehouse, table.sql_name):
        for file in staged:
            _move_in(warehouse, table, day, file)
        return _committed(warehouse, table, commit)


def withdraw(
    warehouse: Warehouse,
    table: Table,
    partitions: Mapping[date, Collection[str]],
) -> int:
    """Take the partitions of days and instruments out of a table, all in one commit.

    Their files stay for running readers and for earlier versions until `vacuum` takes them.
    Killed at any moment, all of them are published or none.

    Returns:
        How many files were taken out; without any, nothing is committed.

    Raises:
        WarehouseBusyError: Another process kept the table's lock, or kept committing before us.
    """
    with holding(warehouse, table.sql_name):
        return _committed(
            warehouse,
            table,
            lambda delta: _commit_withdrawal(delta, partitions),
        )


def _committed(
    warehouse: Warehouse, table: Table, commit: Callable[[DeltaTable | None], int]
) -> int:
    """What a commit returns, which is tried again if another one came before it."""

    def commit_to_newest() -> int:
        with borrowed(warehouse, table) as delta:
            return commit(delta)

    # The lock already keeps this machine's publishers apart; the retry is for a table folder
    # that several machines share, where a file lock may not hold.
    attempts = Retrying(
        retry=retry_if_exception_type(CommitFailedError),
        wait=wait_random_exponential(multiplier=0.05, max=2.0),
        stop=stop_after_delay(warehouse.wait_seconds),
        reraise=True,
    )
    try:
        return attempts(commit_to_newest)
    except CommitFailedError as error:
        raise busy(warehouse, table.sql_name) from error
    finally:
        settle_log(warehouse.table_dir(table))


def vacuum(
    warehouse: Warehouse,
    table: Table,
    *,
    retention: timedelta = KEEP_REPLACED,
    dry_run: bool = False,
) -> list[Path]:
    """Delete files that no version younger than `retention` holds, and return their paths.

    Refresh the catalogue before, so that no view names a file that was replaced that long ago.

    Args:
        warehouse: Where to clean.
        table: A table whose `storage` is "delta".
        retention: How long ago a file must have been replaced, or left behind by a killed run;
            longer than any reader runs, at most `KEEP_REPLACED`: later no checkpoint tells when.
        dry_run: Whether to delete nothing and only say what would be.

    Raises:
        WarehouseBusyError: Another process kept the table's lock.
    """
    folder = warehouse.table_dir(table)
    with holding(warehouse, table.sql_name):
        delta = delta_table(warehouse, table)
        if delta is None:
            return []
        removed = delta.vacuum(
            retention_hours=int(retention.total_seconds() // 3600),
            dry_run=dry_run,
            enforce_retention_duration=False,
            full=True,  # also what killed runs moved in without a commit
        )
        settle_log(folder)
    return sorted({folder / path for path in removed})


def _commit(
    delta: DeltaTable,
    day: date,
    staged: Sequence[StagedFile],
    withdrawn: Collection[str],
    properties: Mapping[str, str],
) -> int:
    """One attempt at the commit, against the table as it is now."""
    expected = {_relative(day, file): file for file in staged}
    replaced = {file.instrument for file in staged} | set(withdrawn)
    present = {file.path: file for file in published_files(delta, day, replaced)}
    now_ms = time.time_ns() // 1_000_000
    actions: list[AddAction | RemoveAction] = [
        RemoveAction(path, True, now_ms, file.bytes, _partition(day, file.instrument))
        for path, file in present.items()
        if path not in expected
    ]
    actions += [
        AddAction(
            path=path,
            size=file.bytes,
            partition_values=_partition(day, file.instrument),
            modification_time=now_ms,
            data_change=True,
            stats=_statistics(day, file.rows),
        )
        for path, file in expected.items()
        if path not in present
    ]
    if not actions:
        return delta.version()
    details: dict[str, JsonValue] = {
        "day": day.isoformat(),
        "published": sorted({file.instrument for file in staged}),
        "withdrawn": sorted(withdrawn),
        "properties": dict(properties),
    }
    return _write_commit(delta, actions, details)


def _commit_withdrawal(delta: DeltaTable | None, partitions: Mapping[date, Collection[str]]) -> int:
    """One attempt at taking partitions out of the table as it is now; how many files they had."""
    files = [] if delta is None else published_files(delta)
    gone = [file for file in files if file.instrument in partitions.get(file.day, ())]
    if delta is None or not gone:
        return 0
    now_ms = time.time_ns() // 1_000_000
    actions: list[AddAction | RemoveAction] = [
        RemoveAction(file.path, True, now_ms, file.bytes, _partition(file.day, file.instrument))
        for file in gone
    ]
    days: dict[str, set[str]] = {}
    for file in gone:
        days.setdefault(file.day.isoformat(), set()).add(file.instrument)
    _write_commit(delta, actions, {"pruned": {day: sorted(each) for day, each in days.items()}})
    return len(gone)


def _write_commit(
    delta: DeltaTable, actions: list[AddAction | RemoveAction], details: Mapping[str, JsonValue]
) -> int:
    """Commits against the loaded version, and returns the one it makes."""
    # A version per application makes Delta itself refuse two publishers that both looked at the
    # same version: without it two first files of one partition would both be kept.
    version = delta.version() + 1
    delta.create_write_transaction(
        actions,
        mode="append",
        schema=delta.schema(),
        partition_by=PARTITION_BY,
        commit_properties=CommitProperties(
            custom_metadata={_APPLICATION: dict(details)},
            app_transactions=[Transaction(_APPLICATION, version)],
        ),
    )
    if version % _COMMITS_A_CHECKPOINT == 0:
        try:
            _make_checkpoint(delta, version)
        except (OSError, DeltaError) as error:  # what is committed is published all the same
            _LOG.warning(
                "Version %d of %s is published, but got no checkpoint, so that the table takes "
                "longer to open until a later one has one: %s",
                *(version, delta.table_uri, error),
            )
    return version


def _make_checkpoint(delta: DeltaTable, version: int) -> None:
    """Of a version just committed, unless the table has so many files that a later one has it."""
    delta.update_incremental()
    files = pa.table(delta.get_add_actions()).num_rows
    if version % (_COMMITS_A_CHECKPOINT * max(1, files // _FILES_A_CHECKPOINT)) == 0:
        delta.create_checkpoint()


def _move_in(warehouse: Warehouse, table: Table, day: date, file: StagedFile) -> None:
    """Move a staged file to its place, unless a file with these bytes lies there already."""
    target = warehouse.table_dir(table) / _relative(day, file)
    make_published_folder(target.parent)
    for made in reversed(target.parents):
        if warehouse.tables_dir in made.parents:
            share_published(made)  # a kill may have come right after it was made
    if file.path == target or not file.path.exists():
        os.utime(target)  # young again, should it be a killed run's and due for vacuum
    elif file.lies_at(target):
        # Never rename over a whole file, that readers may have open.
        file.path.unlink()
        os.utime(target)
    else:
        file.path.rename(target)  # a file damaged on the disk helps no reader
    share_published(target)
    sync(target.parent)


def where_it_lies(
    warehouse: Warehouse, table: Table, day: date, file: StagedFile
) -> StagedFile | None:
    """A staged file where it is now, in staging or where publishing moved it; None if gone."""
    path = _find(warehouse, table, day, file)
    return None if path is None else replace(file, path=path)


def _find(warehouse: Warehouse, table: Table, day: date, file: StagedFile) -> Path | None:
    # A second attempt finds the file where the first one moved it.
    candidates = (file.path, warehouse.table_dir(table) / _relative(day, file))
    return next(
        (path for path in candidates if path.exists() and path.stat().st_size == file.bytes), None
    )


def _check_contents(warehouse: Warehouse, table: Table, day: date, file: StagedFile) -> None:
    """Refuse a file whose own statistics say that it belongs to another partition."""
    exchange, symbol = instrument_parts(file.instrument)
    path = _find(warehouse, table, day, file)
    if path is None:
        raise PublishError(
            "a staged file is gone or has another size than when it was finished",
            next_step="Run the partition again; if it happens again, check the disk.",
            exchange=exchange,
            symbol=symbol,
            day=day,
            file=file.path,
            expected=f"{file.bytes} bytes",
            found=f"{file.path.stat().st_size} bytes" if file.path.exists() else "nothing",
        )
    footer = pq.read_metadata(path)
    position = {name: footer.schema.names.index(name) for name in ("exchange", "symbol", "dt")}
    for name, expected in (("exchange", exchange), ("symbol", symbol), ("dt", day)):
        for group in range(footer.num_row_groups):
            bounds = footer.row_group(group).column(position[name]).statistics
            found = {bounds.min, bounds.max} if bounds and bounds.has_min_max else {None}
            if found != {expected} or bounds.null_count:
                raise PublishError(
                    f"a file staged for {table.sql_name} holds rows of another partition",
                    next_step="Write rows of one instrument and one UTC day only.",
                    exchange=exchange,
                    symbol=symbol,
                    day=day,
                    file=path,
                    column=name,
                    expected=str(expected),
                    found=", ".join(sorted(str(value) for value in found)),
                )


def _refuse_repeats(
    table: Table, day: date, staged: Sequence[StagedFile], withdrawn: Collection[str]
) -> None:
    parts = Counter((file.instrument, file.part) for file in staged)
    repeated = {instrument for (instrument, _), times in parts.items() if times > 1}
    repeated |= {instrument for instrument, _ in parts} & set(withdrawn)
    if repeated:
        raise PublishError(
            f"instruments are named twice in one publish of {table.sql_name}: {sorted(repeated)}",
            next_step="Publish each part of an instrument once, and withdraw only what has none.",
            day=day,
        )


def _relative(day: date, file: StagedFile) -> str:
    """Path below the table's folder."""
    return f"{partition_folder(day, file.instrument)}/{file.part:05d}-{file.sha256}.parquet"


def _partition(day: date, instrument: str) -> dict[str, str | None]:
    return {"p_day": day.isoformat(), "p_instrument": instrument}


def _statistics(day: date, rows: int) -> str:
    """Delta's statistics of a file, which let its readers skip whole days by `dt`."""
    statistics: dict[str, JsonValue] = {"numRecords": rows}
    if rows:
        bounds = {"dt": day.isoformat()}
        statistics |= {"minValues": bounds, "maxValues": bounds, "nullCount": {"dt": 0}}
    return json.dumps(statistics)
