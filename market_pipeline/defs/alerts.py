"""The sensors that turn ended runs and late days into alerts, and deliver them.

Plain sensors, not Dagster's run-status sensors: those go on to the next run when their function
fails, so that a full disk would lose an alert; they take five runs a tick; and they see no run of
`dagster asset materialize` or `market-pipeline run`, which belong to no code location.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Literal

import dagster as dg
import msgspec

from market_pipeline.alerts.alert import Alert, CheckAlerts, DayOutcomes, check_alerts
from market_pipeline.alerts.capture import hung_captures, stopped_captures
from market_pipeline.alerts.delivery import Delivered, Patience, deliver
from market_pipeline.alerts.late import late_days
from market_pipeline.alerts.outbox import Outbox, Standing
from market_pipeline.alerts.payloads import Links
from market_pipeline.alerts.targets import configured_targets
from market_pipeline.config.instruments import load_instruments
from market_pipeline.config.settings import load_settings
from market_pipeline.defs.failures import first_failure
from market_pipeline.defs.resources import Pipeline
from market_pipeline.machine import reports_machine_errors
from market_pipeline.warehouse.layout import Warehouse

__all__ = ["ALERT_SENSORS"]

_settings = load_settings()
_INTERVAL_SECONDS = _settings.alert_interval_seconds
# Somebody who names a receiver wants to hear from it; without one, alerts would be log lines only.
_STATUS = (
    dg.DefaultSensorStatus.RUNNING
    if any(target.kind != "log" for target in configured_targets(_settings))
    else dg.DefaultSensorStatus.STOPPED
)
_MAX_RUNS = 50
_RESTART_SECONDS = 10.0
"""So long a recorder that was killed may take to be started again by the system."""
_ENDS: dict[dg.DagsterEventType, Literal["run_failed", "run_cancelled"] | None] = {
    dg.DagsterEventType.RUN_SUCCESS: None,
    dg.DagsterEventType.RUN_FAILURE: "run_failed",
    dg.DagsterEventType.RUN_CANCELED: "run_cancelled",
}


@dg.sensor(
    name="run_alerts",
    minimum_interval_seconds=_INTERVAL_SECONDS,
    default_status=_STATUS,
    description="Puts an alert into the outbox for each failed check, failed run, cancelled run.",
)
@reports_machine_errors
def run_alerts(context: dg.SensorEvaluationContext, pipeline: Pipeline) -> dg.SensorResult:
    """Look at the runs that ended since the tick before; the first tick only notes where it is."""
    seen: dict[str, int] = json.loads(context.cursor or "{}")
    ended = _ended(context.instance, seen)
    outbox = Outbox(_folders(pipeline))
    targets = [target.name for target in configured_targets(pipeline.settings)]
    new = 0
    for event_type, record in ended:
        run = context.instance.get_run_by_id(record.event_log_entry.run_id)
        if event_type.value in seen and run is not None and _is_ours(context, run):
            found = _alerts_of(context.instance, run, record, event_type)
            new += outbox.take(
                found.alerts, targets, passed=found.passed, run_id=run.run_id, now_s=time.time()
            )
    newest = {event_type.value: record.storage_id for event_type, record in ended}
    cursor = {**dict.fromkeys((each.value for each in _ENDS), 0), **seen, **newest}
    return dg.SensorResult(
        cursor=json.dumps(cursor),
        skip_reason=dg.SkipReason(f"{len(ended)} runs ended, {new} new alerts."),
    )


def _folders(pipeline: Pipeline) -> Warehouse:
    """Without a catalogue: what keeps one from being made must be reported all the same."""
    return Warehouse(pipeline.settings.data_dir)


def _ended(
    instance: dg.DagsterInstance, seen: Mapping[str, int]
) -> list[tuple[dg.DagsterEventType, dg.EventLogRecord]]:
    """How runs ended after those seen, in order; of a kind of which none was seen, the last."""
    found = []
    for event_type in _ENDS:
        newer = dg.RunStatusChangeRecordsFilter(
            event_type,  # type: ignore[arg-type]  # declared as a union of literals
            after_storage_id=seen.get(event_type.value),
        )
        first = event_type.value not in seen
        records = instance.fetch_run_status_changes(
            newer, limit=1 if first else _MAX_RUNS, ascending=not first
        ).records
        found += [(event_type, record) for record in records]
    return sorted(found, key=lambda each: each[1].storage_id)


def _is_ours(context: dg.SensorEvaluationContext, run: dg.DagsterRun) -> bool:
    """Whether this code location made the run; one started by a command names none."""
    origin, ours = run.remote_job_origin, context.code_location_origin
    if origin is not None and ours is not None:
        return bool(origin.location_name == ours.location_name)
    return context.repository_def is None or context.repository_def.has_job(run.job_name)


def _alerts_of(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    record: dg.EventLogRecord,
    event_type: dg.DagsterEventType,
) -> CheckAlerts:
    """What an ended run is to be reported for: its checks, and itself if it did not succeed."""
    at_ns = round(record.timestamp * 1e9)
    checks = [
        check_alerts(
            evaluation.check_name,
            msgspec.convert(evaluation.metadata["outcomes"].value, DayOutcomes),
            run.run_id,
            at_ns,
        )
        for evaluation in _evaluations(instance, run.run_id)
        if "outcomes" in evaluation.metadata
    ]
    alerts = [alert for found in checks for alert in found.alerts]
    kind = _ENDS[event_type]
    if kind is not None:
        day = run.tags.get("dagster/partition")
        alerts.append(
            Alert(
                kind=kind,
                severity="ERROR" if kind == "run_failed" else "WARN",
                summary=f"{run.job_name}: {_why(instance, run.run_id, record)}",
                at_ns=at_ns,
                day=date.fromisoformat(day) if day else None,
                run_id=run.run_id,
            )
        )
    return CheckAlerts(
        tuple(alerts), tuple(subject for found in checks for subject in found.passed)
    )


def _evaluations(instance: dg.DagsterInstance, run_id: str) -> Iterator[dg.AssetCheckEvaluation]:
    for record in instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ).records:
        yield record.event_log_entry.get_dagster_event().asset_check_evaluation_data


def _why(instance: dg.DagsterInstance, run_id: str, record: dg.EventLogRecord) -> str:
    """What the first failed step died of; else how the run ended."""
    failures = instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=1
    ).records
    events = (failed.event_log_entry.get_dagster_event() for failed in failures)
    ended = record.event_log_entry.get_dagster_event().message
    return first_failure(events) or ended or "nothing more is recorded"


@dg.sensor(
    name="late_day_alerts",
    minimum_interval_seconds=300,
    default_status=_STATUS,
    description="Puts an alert into the outbox for each instrument whose day is due and not there.",
)
@reports_machine_errors
def late_day_alerts(pipeline: Pipeline) -> dg.SkipReason:
    """Look at the last days that are due."""
    settings = pipeline.settings
    now = time.time()
    late = late_days(settings, load_instruments(settings.instruments_file), now)
    targets = [target.name for target in configured_targets(settings)]
    new = Outbox(_folders(pipeline)).take(late, targets, now_s=now)
    return dg.SkipReason(f"{len(late)} days of instruments are late, {new} of them new.")


@dg.sensor(
    name="stopped_capture_alerts",
    minimum_interval_seconds=15,
    default_status=_STATUS,
    description="Sends an alert for each symbol that a killed recorder left open, or if one hangs.",
)
@reports_machine_errors
def stopped_capture_alerts(pipeline: Pipeline) -> dg.SkipReason:
    """Look for recordings of this host that nobody writes and nobody closed.

    A recorder that lives reports what it misses itself.
    """
    settings, now_s, folders = pipeline.settings, time.time(), _folders(pipeline)
    stopped = stopped_captures(settings, now_s, "ERROR", _RESTART_SECONDS)
    stopped += hung_captures(settings, now_s)
    targets = configured_targets(settings)
    new = Outbox(folders).take(stopped, [target.name for target in targets], now_s=now_s)
    if new:  # within a minute: the next turn of `alert_delivery` may be half of one away
        deliver(folders, targets, Links.of(settings), Patience.of(settings))
    return dg.SkipReason(f"{len(stopped)} symbols are recorded no more, {new} of them new.")


@dg.sensor(
    name="alert_delivery",
    minimum_interval_seconds=_INTERVAL_SECONDS,
    default_status=_STATUS,
    description="Sends what is due in the outbox of alerts to every receiver.",
)
@reports_machine_errors
def alert_delivery(pipeline: Pipeline) -> dg.SkipReason:
    """Empty the outbox as far as receivers take it; what they refuse waits for a later tick."""
    settings, folders = pipeline.settings, _folders(pipeline)
    done = deliver(folders, configured_targets(settings), Links.of(settings), Patience.of(settings))
    return dg.SkipReason(_delivery_text(done, Outbox(folders).standings(), time.time()))


def _delivery_text(done: Delivered, standings: Sequence[Standing], now_s: float) -> str:
    """What a turn did, whom it left alone, and what waits how long and why."""
    parts = [f"{done.sent} sent, {done.failed} failed, {done.dead} now dead letters."]
    if done.busy:
        parts.append(f"Left alone, as another turn is sending to them: {', '.join(done.busy)}.")
    for each in standings:
        waits = each.oldest_waits_seconds(now_s)
        if waits is not None:
            why = f" ({each.error})" if each.failing else ""
            parts.append(f"{each.target}: {each.waiting} wait, the oldest for {waits:,.0f} s{why}.")
    return " ".join(parts)


ALERT_SENSORS = [run_alerts, late_day_alerts, stopped_capture_alerts, alert_delivery]
