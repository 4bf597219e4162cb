"""Processes that are to run all the time: ours that beat, and Dagster's daemon with its sensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from market_pipeline.alerts.targets import configured_targets
from market_pipeline.config.env_copies import dagster_home
from market_pipeline.config.settings import Settings
from market_pipeline.doctor.finding import Finding
from market_pipeline.health.instance import Automation, Instance
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.warehouse.heartbeats import Heartbeat

__all__ = ["check_automations", "check_daemon", "check_heartbeats"]

_OLDEST_SECONDS = 90.0
_OLDEST_TICK_SECONDS = 900.0
_ALERT_SENSORS = {"run_alerts", "alert_delivery"}
_START = "Start it, with the UI, by `dagster dev`, as docs/ui.md says."


def check_heartbeats(beats: Sequence[Heartbeat], now_ns: int) -> Iterator[Finding]:
    """Has every long-lived process of ours been heard of lately?"""
    if not beats:
        yield "ok", "no process of ours is to run all the time"
    for each in beats:
        age_s = (now_ns - each.wall_ns) / NS_PER_SECOND
        name = f"{each.process} on {each.host} (process {each.pid})"
        if age_s < -_OLDEST_SECONDS:
            yield (
                "warn",
                f"{name} beat {-age_s:,.0f} s ahead of this clock, so nobody can say that it lives",
                "Have the system set its clock by a time server; where it was set back, start the "
                "process again.",
            )
        elif age_s <= _OLDEST_SECONDS:
            yield "ok", f"{name} beat {max(age_s, 0):,.0f} s ago"
        else:
            yield (
                "error",
                f"{name} was last heard of {_ago(each.wall_ns, now_ns)}: it was killed, hangs, or "
                "cannot write",
                "Start it again; one that is not wanted any more has its file below "
                "state/heartbeats removed.",
            )


def check_daemon(instance: Instance | str, now_s: float) -> Iterator[Finding]:
    """Does the daemon run, where a schedule or a sensor is on?"""
    if isinstance(instance, str):
        where = f"DAGSTER_HOME={dagster_home()}"
        yield "error", f"{where} cannot be read: {instance}", "`market-pipeline doctor` says more."
        return
    is_on = [each.name for each in instance.automations if each.is_on]
    if not is_on:
        yield "ok", "no schedule or sensor is on, so no daemon is needed"
        return
    late = {name: at_s for name, at_s in instance.daemons.items() if now_s - at_s > _OLDEST_SECONDS}
    if not instance.daemons or late:
        last_s = max(late.values(), default=None)
        text = "has never run" if last_s is None else f"was last heard of {_utc(last_s)}"
        yield "error", f"Dagster's daemon {text}, and {', '.join(is_on)} are on", _START
    else:
        yield "ok", f"Dagster's daemon is alive; {len(is_on)} schedules and sensors are on"


def check_automations(
    instance: Instance | str, settings: Settings, now_s: float
) -> Iterator[Finding]:
    """Do those schedules and sensors work that are on, and are those on that alerts need?"""
    if isinstance(instance, str):
        return
    wrong = [text for each in instance.automations if (text := _wrong(each, now_s))]
    if wrong:
        yield "error", "; ".join(wrong), "The UI shows them and their ticks under Automation."
    names = {each.name for each in instance.automations if each.is_on}
    off = sorted(_ALERT_SENSORS - names)
    if off and any(each.kind != "log" for each in configured_targets(settings)):
        yield (
            "warn",
            f"{' and '.join(off)} not on: nobody reports failed checks and runs",
            "Start the daemon once, or turn them on in the UI under Automation.",
        )
    elif not wrong:
        yield "ok", f"the last ticks of {len(names)} schedules and sensors ended well"


def _wrong(automation: Automation, now_s: float) -> str:
    if not automation.is_on:
        return ""
    if automation.error:
        return f"the last tick of {automation.name} failed: {automation.error}"
    is_stuck = (
        automation.is_sensor
        and automation.ticked_s is not None
        and now_s - automation.ticked_s > _OLDEST_TICK_SECONDS
    )
    if is_stuck and automation.ticked_s is not None:
        return f"{automation.name} is on and last ticked {_utc(automation.ticked_s)}"
    return ""


def _ago(then_ns: int, now_ns: int) -> str:
    seconds = (now_ns - then_ns) / NS_PER_SECOND
    return f"{seconds:,.0f} s ago ({_utc(then_ns / NS_PER_SECOND)})"


def _utc(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
