"""The schedule: yesterday, once its files are due."""

from __future__ import annotations

import dagster as dg

from market_pipeline.defs.jobs import DAILY_JOB

__all__ = ["DAILY_SCHEDULE"]

# The vendor lands a day between about 01:00 and 03:15 UTC of the next.
DAILY_SCHEDULE = dg.build_schedule_from_partitioned_job(
    DAILY_JOB,
    name="yesterday",
    description="Runs yesterday at 03:30 UTC, when its raw files should have landed.",
    hour_of_day=3,
    minute_of_hour=30,
)
