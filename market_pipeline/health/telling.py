"""Has what is wrong reported once, and its end, past whatever it is that does not work.

Alerts must not live only in the code location that they watch: this needs the outbox and receivers,
and neither Dagster nor settings that are whole.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

from market_pipeline.alerts.alert import Alert, Severity
from market_pipeline.alerts.delivery import Patience, deliver, send_past
from market_pipeline.alerts.outbox import Outbox
from market_pipeline.alerts.payloads import Links
from market_pipeline.alerts.targets import (
    LOGGER,
    Refused,
    configured_targets,
    post_to,
    watchdogs,
)
from market_pipeline.config.settings import Settings
from market_pipeline.config.values import JsonValue
from market_pipeline.errors import MarketPipelineError
from market_pipeline.health.memory import InForce, Memory
from market_pipeline.health.report import Health
from market_pipeline.warehouse.layout import Warehouse

__all__ = ["reassure", "tell"]


def tell(health: Health, settings: Settings, memory: Memory) -> None:
    """Puts what is new and what is over into the outbox, and sends what is due.

    Where the outbox cannot be used, as on a full disk, what is new is sent once past it.

    Args:
        health: What was found.
        settings: Those that are usable.
        memory: What was reported before; it is brought up to date.
    """
    warehouse = Warehouse(settings.data_dir)
    targets, links = configured_targets(settings), Links.of(settings)
    alerts = list(_alerts(health, memory))
    try:
        Outbox(warehouse).take(alerts, [each.name for each in targets], now_s=time.time())
        deliver(warehouse, targets, links, Patience.of(settings))
    except (MarketPipelineError, OSError) as error:
        for alert in alerts:
            send_past(alert, targets, links, settings.alert_timeout_seconds, error)


def reassure(health: Health, settings: Settings) -> None:
    """Says to the monitors elsewhere that this machine is alive, and how it is."""
    sign: dict[str, JsonValue] = {
        "at_ns": health.at_ns,
        "health": health.word,
        "host": socket.gethostname(),
    }
    for each in watchdogs(settings):
        try:
            post_to(each, sign, settings.alert_timeout_seconds)
        except Refused as refused:
            LOGGER.warning("%s was not reached: %s", each.name, refused)


def _alerts(health: Health, memory: Memory) -> Iterator[Alert]:
    """What began, became better or worse, and ended since the look before.

    What was not looked at this time is as it was: without the instruments nobody knows of days.
    """
    seen = {each.name for each in health.findings}
    wrong: dict[str, tuple[Severity, list[str]]] = {}
    for each in health.findings:
        if each.status != "ok":
            severity: Severity = "ERROR" if each.status == "error" else "WARN"
            known, texts = wrong.get(each.name, ("WARN", []))
            worst: Severity = "ERROR" if "ERROR" in (known, severity) else "WARN"
            wrong[each.name] = worst, [*texts, f"{each.found}. {each.next_step}"]
    for name, before in [*memory.in_force.items()]:
        if name in seen and (name not in wrong or wrong[name][0] != before.severity):
            text = "it is as it is to be again" if name not in wrong else "it is not as it was"
            del memory.in_force[name]
            yield _alert(name, before.severity, text, before.began_ns, health.at_ns)
    for name, (severity, texts) in wrong.items():
        if name not in memory.in_force:
            memory.in_force[name] = InForce(severity, health.at_ns)
            yield _alert(name, severity, " ".join(texts), health.at_ns)


def _alert(
    name: str, severity: Severity, text: str, began_ns: int, ended_ns: int | None = None
) -> Alert:
    host = socket.gethostname()
    return Alert(
        kind="unhealthy",
        severity=severity,
        summary=f"{name}, seen from {host}: {text}",
        at_ns=began_ns,
        check=name,
        host=host,
        ended_ns=ended_ns,
    )
