from __future__ import annotations

import pytest

from market_pipeline.config.settings import Settings
from market_pipeline.health.instance import Automation, Instance
from market_pipeline.health.processes import (
    check_automations,
    check_daemon,
    check_heartbeats,
)
from market_pipeline.warehouse.heartbeats import Heartbeat

NOW_S = 1_000_000.0


def automation(name="run_alerts", *, is_on=True, ticked_s=NOW_S - 5, error="") -> Automation:
    return Automation(name, True, is_on, ticked_s, error)


@pytest.mark.parametrize(
    ("age_s", "status"), [(-91, "warn"), (-5, "ok"), (90, "ok"), (91, "error")]
)
def test_heartbeats(age_s, status):
    """What beat within 90 s is alive; what did not, or in the future, is named with its host."""
    beat = Heartbeat("capture-X", "box", 7, round((NOW_S - age_s) * 10**9))
    ((found, text, *_),) = check_heartbeats([beat], round(NOW_S * 10**9))

    assert (status, True) == (found, "capture-X on box" in text)


@pytest.mark.parametrize(
    ("daemons", "automations", "status"),
    [
        ({}, [], "ok"),
        ({}, [automation(is_on=False)], "ok"),
        ({}, [automation()], "error"),
        ({"SENSOR": NOW_S - 30}, [automation()], "ok"),
        ({"SENSOR": NOW_S - 91, "SCHEDULER": NOW_S}, [automation()], "error"),
        ("no such folder", [], "error"),
    ],
)
def test_daemon(daemons, automations, status):
    """It is needed where something is on, and each of its parts must have beaten."""
    instance = daemons if isinstance(daemons, str) else Instance(daemons, automations)
    ((found, *_),) = check_daemon(instance, NOW_S)

    assert status == found


@pytest.mark.parametrize(
    ("automations", "status"),
    [
        ([automation("run_alerts"), automation("alert_delivery")], ["ok"]),
        ([automation("run_alerts")], ["warn"]),
        ([], ["warn"]),
        ([automation(), automation("alert_delivery", error="ValueError: x")], ["error"]),
        ([automation(), automation("alert_delivery", ticked_s=NOW_S - 1_000)], ["error"]),
        ([automation(), automation("alert_delivery", ticked_s=None)], ["ok"]),
        ([automation("new_days", error="x")], ["error", "warn"]),
        ([automation("new_days", error="x", is_on=False)], ["warn"]),
    ],
)
def test_automations(automations, status):
    """A failed or stuck sensor is an error; alerts need two of them where there is a receiver."""
    settings = Settings(alert_webhook_urls="https://alerts.example/hook")
    found = check_automations(Instance({}, automations), settings, NOW_S)

    assert status == [each for each, *_ in found]


def test_without_a_receiver_no_sensor_is_needed():
    """Who names nobody to report to has none off."""
    assert ["ok"] == [each for each, *_ in check_automations(Instance({}, []), Settings(), NOW_S)]
