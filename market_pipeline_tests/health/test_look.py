"""The watch as a timer runs it, by real processes: each fault is told once, and its end."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from market_pipeline.alerts.targets import configured_targets
from market_pipeline.config.settings import usable_settings
from market_pipeline.health.look import look
from market_pipeline.sources.simulated import simulate
from market_pipeline_tests.alerts.receiver import Receiver
from market_pipeline_tests.defs.test_alerts_daemon import daemon, eventually, ticks
from market_pipeline_tests.defs.workspace import Workspace, hours_of_today
from market_pipeline_tests.sources.simulated.days import instrument

GOOD = instrument("GOOD-USD")


@pytest.fixture
def receivers() -> Iterator[tuple[Receiver, Receiver]]:
    """One that is up, and one that goes down."""
    made = Receiver().open(), Receiver().open()
    yield made
    for each in made:
        each.close()


@pytest.fixture
def workspace(tmp_path: Path, receivers) -> Workspace:
    """One day is due, and its files are in the lake."""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    made = Workspace(
        tmp_path / "pipeline",
        tmp_path / "lake",
        start_date=yesterday,
        more={
            "PIPELINE_ALERT_WEBHOOK_URLS": ",".join(each.url() for each in receivers),
            "PIPELINE_ALERT_FIRST_RETRY_SECONDS": "0.1",
            "PIPELINE_ALERT_LONGEST_RETRY_SECONDS": "0.1",
            "PIPELINE_VENDOR_LAG_HOURS": hours_of_today(),
        },
    )
    made.configure(GOOD)
    small = {"messages_per_day": 8_000, "snapshot_interval_s": 20.0}
    simulate(made.lake, [GOOD], yesterday, yesterday, **small)
    return made


def told(receiver: Receiver) -> set[tuple[str, str]]:
    """What a receiver was sent since the last time, and in what state; nothing of it twice."""
    found = [
        (alert["labels"]["check"], alert["status"])
        for each in receiver.taken
        for alert in each["alerts"]
    ]
    receiver.taken.clear()
    assert len(found) == len(set(found))
    return set(found)


def looked(workspace: Workspace, *more: str) -> dict[str, str]:
    """What a look of a process of its own finds wrong, by its names."""
    ended = workspace.run("health", "--alert", "--json", *more)
    said = json.loads(ended.output)
    assert said["exit_code"] == ended.exit_code, ended.errors
    return {each["name"]: each["status"] for each in said["findings"] if each["status"] != "ok"}


@pytest.mark.slow
def test_each_fault_is_told_once(workspace: Workspace, receivers):
    """A day that is missing, a wrong key, a broken file, a receiver that is down, sensors off."""
    good, bad = receivers
    assert {"days": "error", "coverage": "warn", "sensors": "warn"} == looked(workspace)
    assert {(name, "firing") for name in ("days", "coverage", "sensors")} == told(good)

    workspace.more["PIPELINE_TREADS"] = "4"
    wrong = looked(workspace, "--enforce")
    assert {"settings", "days", "coverage", "sensors"} == set(wrong) == set(looked(workspace))
    assert {("settings", "firing")} == told(good)
    del workspace.more["PIPELINE_TREADS"]

    whole = workspace.instruments_file.read_text()
    workspace.instruments_file.write_text("instruments: [")
    assert {"instruments": "error", "sensors": "warn"} == looked(workspace)
    assert {("instruments", "firing"), ("settings", "resolved")} == told(good)
    workspace.instruments_file.write_text(whole)

    looked(workspace, "--enforce")
    assert {("instruments", "resolved")} == told(good)
    bad.close()
    assert {"sensors": "warn"} == looked(workspace)
    assert {("days", "resolved"), ("coverage", "resolved")} == told(good)
    assert {"sensors": "warn", "receivers": "warn"} == looked(workspace)
    assert {("receivers", "firing")} == told(good)


@pytest.mark.slow
def test_a_daemon_that_was_killed(workspace: Workspace, monkeypatch):
    """It is alive with its sensors on, and 90 s after it was killed it is an error."""
    workspace.more["PIPELINE_ALERT_INTERVAL_SECONDS"] = "1"
    for name, value in workspace.environment().items():
        monkeypatch.setenv(name, value)
    settings, _ = usable_settings()
    assert {"webhook"} < {each.kind for each in configured_targets(settings)}

    def wrong(after_s: float = 0.0) -> dict[str, str]:
        found = look(settings, [], [], time.time() + after_s).findings
        return {each.name: each.status for each in found if each.status != "ok"}

    with workspace.instance() as instance, daemon(workspace) as process:
        names = ("run_alerts", "alert_delivery")
        eventually(workspace, lambda: all(ticks(instance, each) for each in names), "ticks")
        eventually(workspace, lambda: not {"daemon", "sensors"} & set(wrong()), "a healthy daemon")
        os.killpg(process.pid, signal.SIGKILL)
    assert "error" == wrong(100.0)["daemon"]
