from __future__ import annotations

import json
from datetime import date

import msgspec
import pytest

from market_pipeline.alerts.alert import (
    Alert,
    DayOutcomes,
    FailedOutcome,
    check_alerts,
    trial_alert,
)
from market_pipeline_tests.alerts.factory import a_failed_run, an_alert

FAILED = FailedOutcome("BINANCE:BTC-USDT", "ERROR", 900.0, 864.0, "Too long.")
SAID = DayOutcomes(date(2024, 8, 8), [FAILED], ["BINANCE:ETH-USDT"])


@pytest.mark.parametrize("alert", [an_alert(), an_alert(figure=3), a_failed_run(), trial_alert(5)])
def test_survives_json(alert: Alert):
    """An alert read back from its text is equal to it, and is written as the same text again."""
    text = json.dumps(msgspec.to_builtins(alert))
    again = msgspec.json.decode(text, type=Alert)

    assert (alert, text) == (again, json.dumps(msgspec.to_builtins(again)))


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"at_ns": 7, "run_id": "run-2"}, True),
        ({"threshold": 1.0}, True),
        ({"figure": 5.5}, False),
        ({"severity": "ERROR"}, False),
        ({"summary": "Another place."}, False),
    ],
)
def test_what_makes_a_finding_the_same(changes, same):
    """The severity, the figure and the text; not when, nor by which run it was found."""
    assert an_alert().subject == an_alert(**changes).subject
    assert same == (an_alert().finding == an_alert(**changes).finding)


@pytest.mark.parametrize(
    "changes",
    [{"check": "skew"}, {"instrument": "BINANCE:ETH-USDT"}, {"day": date(2024, 8, 9)}],
)
def test_what_an_alert_is_about(changes):
    """Check, instrument and day; each run that failed is about itself."""
    assert an_alert().subject != an_alert(**changes).subject
    assert a_failed_run("run-1").subject != a_failed_run("run-2").subject


def test_a_late_day_is_one_finding():
    """Whatever the reason why it is late, and whoever finds it: the look-out or the check."""
    seen = an_alert(kind="day_late", check="freshness", figure=None, summary="No verdict.")
    (checked,) = check_alerts("freshness", SAID, "run-1", 5).alerts

    assert (seen.subject, seen.finding) == (checked.subject, checked.finding)


def test_check_alerts():
    """Each instrument that failed is an alert, each that passed a subject without a finding."""
    said = check_alerts("gap", SAID, "run-1", 5)

    assert (
        Alert(
            kind="check_failed",
            severity="ERROR",
            summary="Too long.",
            at_ns=5,
            check="gap",
            instrument="BINANCE:BTC-USDT",
            day=date(2024, 8, 8),
            figure=900.0,
            threshold=864.0,
            run_id="run-1",
        ),
    ) == said.alerts
    assert (an_alert(instrument="BINANCE:ETH-USDT").subject,) == said.passed
