"""The history of runs below DAGSTER_HOME: which of it may go, and removing it.

A run leaves about half a megabyte of events. What the UI and the sensor know a published day by
never goes: the run that materialized it last, asset by asset, and the last run that succeeded, of
each choice of instruments and assets.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.tags import BACKFILL_ID_TAG

from market_pipeline.defs.jobs import DAILY_JOB
from market_pipeline.defs.ran import asked_for
from market_pipeline.tables import TABLES

__all__ = ["forget_runs", "old_runs"]

_PARTITION = "dagster/partition"
_ENDED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]
_GOING_ON = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]
_PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
_MADE = dg.DagsterEventType.ASSET_MATERIALIZATION

_EVENT_LOG = "event_log.db"
# Dagster's processes wait 30 s for the event log, and a run that waits longer fails. How a VACUUM
# ends cannot be cut off, and may take several times as long as what comes before.
_VACUUM_SECONDS = 5.0


def old_runs(
    instance: dg.DagsterInstance, ended_before: datetime, is_published: Callable[[str], bool]
) -> list[str]:
    """The ids of our ended runs that may go, the newest first.

    Args:
        instance: Whose runs. Those of other code locations stay.
        ended_before: Runs that were last heard of at or after this instant stay; UTC.
        is_published: Whether a day, YYYY-MM-DD, is published of any instrument.
    """
    newest = {
        key: instance.get_latest_storage_id_by_partition(key, _MADE)
        for key in map(dg.AssetKey, TABLES)
    }
    going_on = instance.get_backfills(filters=BulkActionsFilter(statuses=_GOING_ON))
    backfills = {each.backfill_id for each in going_on}
    found = []
    last: set[tuple[str, Collection[str], Collection[dg.AssetKey], Collection[str]]] = set()
    for record in instance.get_run_records(dg.RunsFilter(statuses=_ENDED)):
        run = record.dagster_run
        day = run.tags.get(_PARTITION)
        if run.status == dg.DagsterRunStatus.SUCCESS and day is not None and is_published(day):
            assets, steps = run.asset_selection or (), run.step_keys_to_execute or ()
            succeeded = (day, asked_for(run), frozenset(assets), frozenset(steps))
            if succeeded not in last:
                last.add(succeeded)
                continue
        if (
            record.update_timestamp < ended_before
            and run.tags.get(BACKFILL_ID_TAG) not in backfills
            and _is_not_needed(instance, run, newest, is_published)
        ):
            found.append(run.run_id)
    return found


def _is_not_needed(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    newest: Mapping[dg.AssetKey, Mapping[str, int]],
    is_published: Callable[[str], bool],
) -> bool:
    """Whether a run was about our assets alone, and of each published day a later run made them.

    Other projects may keep their runs in the same place.
    """
    records = instance.get_records_for_run(run.run_id, of_type={_PLANNED, _MADE}).records
    assets = {each.asset_key for each in records if each.asset_key is not None}
    is_ours = assets <= newest.keys() if assets else run.job_name == DAILY_JOB.name
    return is_ours and not any(
        each.storage_id == newest[key].get(day) and is_published(day)
        for each in records
        if (key := each.asset_key) and (day := each.partition_key)
    )


def forget_runs(instance: dg.DagsterInstance, run_ids: Collection[str]) -> None:
    """Removes runs with their events and logs, and gives the room that is free so to the disk.

    The last result of each check of a day stays. What a kill leaves of a run the next call removes.
    """
    for run_id in run_ids:
        _forget_checks(instance, run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.event_log_storage.delete_events(run_id)
        instance.run_storage.delete_run(run_id)
    event_log = Path(instance.root_directory) / _EVENT_LOG
    if run_ids and event_log.is_file():
        _shrink(event_log)


def _forget_checks(instance: dg.DagsterInstance, run_id: str) -> None:
    """Dagster keeps the results of checks for ever."""
    storage = instance.event_log_storage
    if isinstance(storage, SqlEventLogStorage):
        executions, later = AssetCheckExecutionsTable.c, AssetCheckExecutionsTable.alias()
        later_execution = later.select().where(
            later.c.asset_key == executions.asset_key,
            later.c.check_name == executions.check_name,
            later.c.partition == executions.partition,
            later.c.id > executions.id,
        )
        with storage.index_connection() as connection:
            connection.execute(
                AssetCheckExecutionsTable.delete().where(
                    executions.run_id == run_id, later_execution.exists()
                )
            )


def _shrink(event_log: Path) -> None:
    """Makes the file smaller if that takes a moment; else later runs use the room that is free."""
    with closing(sqlite3.connect(event_log, timeout=_VACUUM_SECONDS)) as database:
        until_s = time.monotonic() + _VACUUM_SECONDS
        database.set_progress_handler(lambda: time.monotonic() > until_s, 1_000)
        # Locked by another process, out of time, or the disk has no room for the copy it makes.
        with suppress(sqlite3.OperationalError):
            database.execute("VACUUM")
            # The smaller file is in the log of changes until nobody else has it open.
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
