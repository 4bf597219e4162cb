"""Which runs of a day there were: what one of them did, the schedule and the sensor leave alone.

Dagster compares a run key only with those of the same schedule or sensor, and knows none of the
runs that a person or a command started. Therefore both look at the runs themselves.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from market_pipeline.config.instruments import Instrument
from market_pipeline.tables import TABLES

__all__ = ["asked_for", "is_under_way", "last_run_was_whole", "last_whole_run_s"]

_PARTITION = "dagster/partition"
_NOT_ENDED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
# A run is made, and begins or is queued a moment later. Whoever is killed in between leaves it so
# for ever, and Dagster's monitoring of runs ends none that never began.
_BEGINS_WITHIN = timedelta(minutes=5)
# Of the runs that succeeded, how many of the newest are looked through for a whole one.
_MAX_RUNS = 20


def is_under_way(instance: dg.DagsterInstance, day: date) -> bool:
    """Whether a run of a day is about to begin, queued or going on, whoever asked for it."""
    of_day = {_PARTITION: day.isoformat()}
    not_ended = dg.RunsFilter(statuses=_NOT_ENDED, tags=of_day)
    just_made = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.NOT_STARTED],
        tags=of_day,
        created_after=datetime.now(UTC) - _BEGINS_WITHIN,
    )
    return any(instance.get_runs_count(runs) for runs in (not_ended, just_made))


def last_whole_run_s(
    instance: dg.DagsterInstance, day: date, instruments: Collection[Instrument]
) -> float | None:
    """When the last run began, Unix time, that was about every table of all these instruments.

    None if there is none that succeeded. It saw the raw files as they were from then on, also if
    there were none.
    """
    runs = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], tags={_PARTITION: day.isoformat()})
    ids = {each.id for each in instruments}
    for record in instance.get_run_records(runs, limit=_MAX_RUNS):
        if record.start_time is not None and _is_whole(instance, record.dagster_run, ids):
            return record.start_time
    return None


def last_run_was_whole(instance: dg.DagsterInstance, day: date, ids: Collection[str]) -> bool:
    """Whether the last run of a day, whoever asked for it, did all there is of these instruments.

    One that failed, was killed or goes on did not, whatever it published.
    """
    of_day = dg.RunsFilter(tags={_PARTITION: day.isoformat()})
    return any(
        run.status == dg.DagsterRunStatus.SUCCESS and _is_whole(instance, run, {*ids})
        for run in instance.get_runs(of_day, limit=1)
    )


def _is_whole(instance: dg.DagsterInstance, run: dg.DagsterRun, ids: set[str]) -> bool:
    """Whether a run was about every table of these instruments."""
    asked = asked_for(run)
    return (not asked or ids <= asked) and set(TABLES) <= _tables(instance, run)


def asked_for(run: dg.DagsterRun) -> frozenset[str]:
    """The ids of the instruments that a run names; empty for all."""
    config: Any = run.run_config
    for key in ("resources", "pipeline", "config"):
        config = config.get(key) or {}
    return frozenset(config.get("instruments") or ())


def _tables(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    """The tables that a run was to publish, and did if it succeeded.

    What it materialized would not tell: a table without data of the day is published, but not
    materialized.
    """
    planned = instance.get_records_for_run(
        run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    )
    return {key.path[-1] for each in planned.records if (key := each.asset_key) is not None}
