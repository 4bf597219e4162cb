from __future__ import annotations

import pytest

from market_pipeline.config.settings import Settings
from market_pipeline.doctor.finding import Diagnosis
from market_pipeline.health.memory import Memory
from market_pipeline.health.report import Health
from market_pipeline.health.telling import reassure, tell
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.alerts.receiver import Receiver

NS = 10**9


@pytest.fixture
def receiver():
    made = Receiver().open()
    yield made
    made.close()


@pytest.fixture
def settings(tmp_path, receiver) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        alert_webhook_urls=receiver.url(),
        watchdog_url=receiver.url("/alive"),
    )


def looked(at_s: int, **statuses: str) -> Health:
    findings = (Diagnosis(name, status, f"{name} is {status}") for name, status in statuses.items())
    return Health(at_s * NS, tuple(findings))


def told(receiver: Receiver) -> list[tuple[str, str, str]]:
    """What was sent since the last time: check, severity, status."""
    found = [
        (alert["labels"]["check"], alert["labels"]["severity"], alert["status"])
        for each in receiver.taken
        for alert in each["alerts"]
    ]
    receiver.taken.clear()
    return found


def test_an_episode_is_told_once_with_its_end(settings, receiver):
    """Its beginning, each change of its severity, and its end; also across processes."""
    warehouse = Warehouse(settings.data_dir)
    sent = []
    for at_s, status in enumerate(("warn", "warn", "error", "error", "ok", "ok", "warn"), start=1):
        memory = Memory.of(warehouse)
        tell(looked(at_s, disk=status, days="ok"), settings, memory)
        memory.keep(warehouse)
        sent.append(told(receiver))

    assert [
        [("disk", "warning", "firing")],
        [],
        [("disk", "warning", "resolved"), ("disk", "critical", "firing")],
        [],
        [("disk", "critical", "resolved")],
        [],
        [("disk", "warning", "firing")],
    ] == sent


def test_what_is_not_looked_at_is_as_it_was(settings, receiver):
    """A finding that is missing from a look has not ended."""
    memory = Memory()
    for health in (looked(1, days="error"), looked(2, disk="ok"), looked(3, days="ok")):
        tell(health, settings, memory)

    assert [("days", "critical", "firing"), ("days", "critical", "resolved")] == told(receiver)


def test_two_findings_of_a_name_are_one_alert(settings, receiver):
    """The worst of them decides, and all texts are in it."""
    findings = [Diagnosis("disk", each, f"/{each}") for each in ("warn", "error", "ok")]
    tell(Health(NS, tuple(findings)), settings, Memory())
    (body,) = receiver.taken
    (alert,) = body["alerts"]

    assert "critical" == alert["labels"]["severity"]
    assert all(text in alert["annotations"]["summary"] for text in ("/warn", "/error"))
    assert "docs/health.md#disk" == alert["annotations"]["runbook_url"]


def test_past_an_outbox_that_cannot_be_used(settings, receiver):
    """What is new is sent all the same."""
    state = Warehouse(settings.data_dir).state_dir
    state.mkdir(parents=True)
    (state / "alerts.sqlite").mkdir()
    tell(looked(1, disk="error"), settings, Memory())

    assert [("disk", "critical", "firing")] == told(receiver)


def test_a_lost_memory_is_no_alert_twice(settings, receiver):
    """The outbox knows what is in force."""
    for _ in range(2):
        tell(looked(1, disk="error"), settings, Memory())

    assert [("disk", "critical", "firing")] == told(receiver)


def test_a_monitor_elsewhere(settings, receiver):
    """It is told that the machine is alive and how it is; one that is down ends nothing."""
    reassure(looked(1, disk="warn"), settings)
    assert [("degraded", NS)] == [(each["health"], each["at_ns"]) for each in receiver.taken]
    assert ["/alive"] == [path for path, _ in receiver.asked]
    receiver.close()
    reassure(looked(2), settings)
    assert 1 == len(receiver.taken)
