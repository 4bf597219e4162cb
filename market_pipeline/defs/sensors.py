"""The sensor: a day that is new or changed in the lake is requested, once for what it then is."""

import time
from datetime import UTC, datetime, timedelta
from functools import partial

import dagster as dg

from market_pipeline.config.settings import Settings
from market_pipeline.defs.jobs import DAILY_JOB
from market_pipeline.defs.ran import is_under_way, last_whole_run_s
from market_pipeline.defs.resources import Pipeline
from market_pipeline.defs.schedules import is_about_to_run
from market_pipeline.machine import reports_machine_errors
from market_pipeline.stages.triggers.lake_state import (
    FOLDER_PACE,
    STORE_PACE,
    LakeState,
    Span,
    Tick,
)
from market_pipeline.stages.triggers.listing import opened_lake, streams_of
from market_pipeline.stages.triggers.run_requests import (
    Known,
    RunRequests,
    registered,
    run_requests,
)

__all__ = ["NEW_DAYS", "span_of"]

_MAX_REQUESTS = 10


@dg.sensor(
    name="new_lake_days",
    job=DAILY_JOB,
    minimum_interval_seconds=60,
    description="Requests a day whose raw files are new or changed, whole or due, and settled.",
)
@reports_machine_errors
def new_lake_days(context: dg.SensorEvaluationContext, pipeline: Pipeline) -> dg.SensorResult:
    """Resume the scan of the lake, and request the days that no run has seen as they are now."""
    settings, now_s = pipeline.settings, time.time()
    in_store = settings.store_address is not None
    pace = STORE_PACE if in_store else FOLDER_PACE
    span, streams = span_of(settings, now_s), streams_of(pipeline.selected)
    state = LakeState.from_text(context.cursor)
    with opened_lake(settings) as lake:
        tick = state.scan(lake, streams, span, pace, now_s)
    arrived = [
        each
        for each in state.arrived(streams, span, pace, now_s)
        if not is_about_to_run(each.day, now_s)
    ]
    known = Known(
        is_under_way=partial(is_under_way, context.instance),
        last_whole_run_s=lambda day: last_whole_run_s(context.instance, day, pipeline.selected),
        registered=partial(registered, pipeline.warehouse.data_dir, streams),
        marks_are_registered=in_store and all(each.raw for each in streams),
        settle_seconds=pace.settle_seconds,
    )
    requests = run_requests(state, arrived, known, _MAX_REQUESTS, now_s)
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(run_key=key, partition_key=day.isoformat()) for day, key in requests.runs
        ],
        cursor=state.to_text(span),
        skip_reason=None if requests.runs else dg.SkipReason(_reason(tick, state.left, requests)),
    )


def span_of(settings: Settings, now_s: float) -> Span:
    """The days to request: all of a folder, those up to the horizon of a store."""
    today = datetime.fromtimestamp(now_s, UTC).date()
    first = settings.start_date
    if settings.store_address is not None:
        first = max(first, today - timedelta(days=1 + settings.lake_horizon_days))
    return Span(first, today, settings.vendor_lag_hours)


def _reason(tick: Tick, left: int, requests: RunRequests) -> str:
    """Why nothing is requested, and how far the scan of the lake is."""
    if tick.error is not None:
        return f"{tick.listings} listings, {left} to come; the next one failed: {tick.error}"
    if left:
        return f"{tick.listings} listings, {left} to come before days are requested."
    if waiting := requests.waiting:
        return f"{tick.listings} listings; {waiting} changed days wait for a run or a scan."
    return f"{tick.listings} listings; no day is new or changed, whole or due, and settled."


NEW_DAYS = new_lake_days
