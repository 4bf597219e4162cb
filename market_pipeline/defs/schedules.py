"""The schedule: yesterday, once its files are due."""

from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta

import dagster as dg

from market_pipeline.config.instruments import Instrument, listed_on
from market_pipeline.defs.jobs import DAILY_JOB
from market_pipeline.defs.ran import is_under_way, last_whole_run_s
from market_pipeline.defs.resources import Pipeline
from market_pipeline.machine import reports_machine_errors
from market_pipeline.stages.triggers.listing import opened_lake, streams_of
from market_pipeline.stages.triggers.run_requests import has_arrived_since
from market_pipeline.tables import TABLES, open_catalogue

__all__ = ["DAILY_SCHEDULE", "is_about_to_run"]

# The vendor lands a day between about 01:00 and 03:15 UTC of the next.
_AT = time(3, 30)
# Around that time the sensor leaves yesterday to the schedule: neither would see the other's run.
_HOLD = timedelta(minutes=1)


@dg.schedule(
    name="yesterday",
    job=DAILY_JOB,
    cron_schedule=f"{_AT.minute} {_AT.hour} * * *",
    execution_timezone="UTC",
    description="Runs yesterday at 03:30 UTC, when its raw files should have arrived.",
)
@reports_machine_errors
def yesterday(
    context: dg.ScheduleEvaluationContext, pipeline: Pipeline
) -> dg.RunRequest | dg.SkipReason:
    """Request yesterday, unless a run has seen all there is of it."""
    day = context.scheduled_execution_time.date() - timedelta(days=1)
    if day < pipeline.settings.start_date:
        return dg.SkipReason(f"{day} is before the first partition.")
    if is_under_way(context.instance, day):
        return dg.SkipReason(f"A run of {day} is queued or under way.")
    absent = _absent(pipeline, day)
    if not absent:
        return dg.SkipReason(f"{day} is there, of every instrument.")
    began_s = last_whole_run_s(context.instance, day, listed_on(day, pipeline.selected))
    if began_s is not None:
        with opened_lake(pipeline.settings) as lake:
            if not has_arrived_since(lake, streams_of(absent), day, began_s):
                names = ", ".join(each.id for each in absent)
                return dg.SkipReason(f"{day} was run, and nothing has arrived since of {names}.")
    return dg.RunRequest(run_key=day.isoformat(), partition_key=day.isoformat())


def is_about_to_run(day: date, now_s: float) -> bool:
    """Whether this is the minute in which the schedule, if it is turned on, asks for a day."""
    at = datetime.combine(day + timedelta(days=1), _AT, UTC)
    return abs(datetime.fromtimestamp(now_s, UTC) - at) <= _HOLD


def _absent(pipeline: Pipeline, day: date) -> list[Instrument]:
    """The instruments that have no verdict of a day, or one that says that it is not there."""
    table = TABLES["validation_report"].sql_name
    with closing(open_catalogue(pipeline.warehouse.data_dir)) as connection:
        there = connection.execute(
            f"SELECT exchange || ':' || symbol FROM {table} "
            "WHERE dt = $1 AND condition IN ('available', 'degraded')",
            [day],
        ).fetchall()
    present = {instrument for (instrument,) in there}
    return [each for each in listed_on(day, pipeline.selected) if each.id not in present]


DAILY_SCHEDULE = yesterday
