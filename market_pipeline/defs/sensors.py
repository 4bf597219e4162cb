"""The sensors: a day that is new or changed in the lake is requested, once for what it then is, and
a comparison with a golden book that came later.
"""

import time
from datetime import UTC, datetime, timedelta
from functools import partial

import dagster as dg

from market_pipeline.config.instruments import listed_on
from market_pipeline.config.settings import Settings
from market_pipeline.defs.jobs import DAILY_JOB
from market_pipeline.defs.ran import is_under_way, last_whole_run_s
from market_pipeline.defs.resources import Pipeline
from market_pipeline.defs.schedules import is_about_to_run
from market_pipeline.machine import reports_machine_errors
from market_pipeline.stages.fidelity.day import COMPARED
from market_pipeline.stages.fidelity.uncompared import uncompared_days
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

__all__ = ["SENSORS", "span_of"]

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
        last_whole_run_s=lambda day: last_whole_run_s(
            context.instance, day, listed_on(day, pipeline.selected)
        ),
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


@dg.sensor(
    name="golden_books",
    job=DAILY_JOB,
    minimum_interval_seconds=60,
    description="Requests the fidelity report of a day once both of its books are there.",
)
@reports_machine_errors
def golden_books(context: dg.SensorEvaluationContext, pipeline: Pipeline) -> dg.SensorResult:
    """Request the comparison alone, of the instruments whose golden book came or was made again."""
    found = uncompared_days(pipeline.selected, pipeline.warehouse, pipeline.settings.start_date)
    free = [each for each in found.days if not is_under_way(context.instance, each.day)]
    requested = free[:_MAX_REQUESTS]
    compared = [dg.AssetKey(table.name) for table in COMPARED]
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=f"{each.day}:{each.fingerprint}",
                partition_key=each.day.isoformat(),
                asset_selection=compared,
                run_config={
                    "resources": {"pipeline": {"config": {"instruments": [*each.instruments]}}}
                },
            )
            for each in requested
        ],
        skip_reason=None
        if requested
        else dg.SkipReason(
            " ".join([f"{len(found.days)} days to compare wait for a run.", *found.failures])
        ),
    )


SENSORS = [new_lake_days, golden_books]
