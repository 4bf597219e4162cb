from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import pytest

from market_pipeline.alerts.alert import trial_alert
from market_pipeline.alerts.payloads import (
    Links,
    alertmanager_payload,
    line,
    slack_payload,
    webhook_payload,
)
from market_pipeline_tests.alerts.factory import LINKS, a_failed_run, an_alert

LABELS = {
    "alertname": "PipelineCheckFailed",
    "job": "market_pipeline",
    "severity": "warning",
    "check": "gap",
    "instrument": "BINANCE:BTC-USDT",
    "exchange": "BINANCE",
    "symbol": "BTC-USDT",
    "day": "2024-08-08",
}


class TestWebhook:
    def test_whole_payload(self):
        """Every field of version 4, all of them text where Alertmanager has text."""
        payload = webhook_payload(an_alert(), LINKS)
        (alert,) = payload["alerts"]
        annotations = {
            "title": "gap BINANCE:BTC-USDT 2024-08-08",
            "summary": "1 suspected gap of 5 s in all; the first from 12:00:00 UTC.",
            "figure": "5",
            "threshold": "0",
            "run_id": "run-1",
            "run_url": "https://ui.example.org/runs/run-1",
            "runbook_url": "https://docs.example.org/pages/checks/gap.md",
        }

        assert {
            "version": "4",
            "groupKey": '{}:{alertname="PipelineCheckFailed"}',
            "truncatedAlerts": 0,
            "status": "firing",
            "receiver": "market_pipeline",
            "groupLabels": {"alertname": "PipelineCheckFailed"},
            "commonLabels": LABELS,
            "commonAnnotations": annotations,
            "externalURL": "https://ui.example.org",
            "alerts": [
                {
                    "status": "firing",
                    "labels": LABELS,
                    "annotations": annotations,
                    "startsAt": "2024-08-09T02:00:00.123Z",
                    "endsAt": "0001-01-01T00:00:00Z",
                    "generatorURL": "https://ui.example.org/runs/run-1",
                    "fingerprint": alert["fingerprint"],
                }
            ],
        } == payload

    def test_the_fingerprint_is_that_of_the_labels(self):
        """Another run that finds the same has it too; another day, or another failed run, not."""

        def fingerprint(alert):
            return webhook_payload(alert, LINKS)["alerts"][0]["fingerprint"]

        assert fingerprint(an_alert()) == fingerprint(an_alert(run_id="run-2", figure=6.0))
        assert fingerprint(an_alert()) != fingerprint(an_alert(day=None))
        assert fingerprint(a_failed_run("run-1")) != fingerprint(a_failed_run("run-2"))

    def test_a_figure_that_is_no_number_is_valid_json(self):
        """Figures are text, so an infinite one breaks no receiver."""
        payload = webhook_payload(an_alert(figure=float("inf")), LINKS)

        assert "inf" == payload["alerts"][0]["annotations"]["figure"]
        assert json.dumps(payload, allow_nan=False)


class TestAlertmanager:
    @pytest.mark.parametrize(
        ("kind", "held_s"),
        [("check_failed", 86_400), ("unhealthy", 366 * 86_400), ("test", 300)],
    )
    def test_until_when_it_is_held(self, kind, held_s):
        """From when it is sent, however late that is, so that it is reported at all."""
        alert = an_alert(kind=kind, at_ns=10**18, host="here")
        ((late,), (ahead,), (ended,)) = (
            alertmanager_payload(each, LINKS, now_ns)
            for each, now_ns in [
                (alert, 10**18 + 7 * 86_400 * 10**9),
                (alert, 5),
                (replace(alert, ended_ns=5), 10**18),
            ]
        )
        ends = [datetime.fromisoformat(each["endsAt"]).timestamp() for each in (late, ahead, ended)]

        assert ["2001-09-09T01:46:40.000Z"] * 3 == [
            each["startsAt"] for each in (late, ahead, ended)
        ]
        assert [10**9 + 7 * 86_400 + held_s, 10**9 + held_s, 10**9] == ends
        assert late["labels"] == ended["labels"]


class TestSlack:
    def test_text_and_blocks(self):
        """The notification's text, and blocks with figure, threshold, run and page."""
        payload = slack_payload(an_alert(severity="ERROR"), LINKS)
        title, found, context = payload["blocks"]

        assert payload["text"].startswith("gap BINANCE:BTC-USDT 2024-08-08: 1 suspected gap")
        assert ":red_circle: *gap BINANCE:BTC-USDT 2024-08-08*" == title["text"]["text"]
        assert found["text"]["text"].startswith("1 suspected gap of 5 s")
        assert (
            "ERROR, figure 5, threshold 0 · <https://ui.example.org/runs/run-1|run> · "
            "<https://docs.example.org/pages/checks/gap.md|what to do>"
        ) == context["elements"][0]["text"]

    def test_a_text_cannot_call_everybody(self):
        """What Slack reads as a command is escaped, and a text that is too long is cut."""
        payload = slack_payload(an_alert(summary="<!channel> & " + "<" * 5_000), LINKS)

        assert "&lt;!channel&gt; &amp; " in payload["text"]
        assert "<!" not in json.dumps(payload)
        told = payload["blocks"][1]["text"]
        assert len(told["text"]) <= 3_000
        assert told["text"].endswith("&lt;")

    def test_a_text_has_no_formatting(self):
        """What a vendor wrote is plain text, in the notification too, and acts on nothing."""
        payload = slack_payload(an_alert(summary="*x* \x1b[31m :smile:"), LINKS)
        told = payload["blocks"][1]["text"]

        assert {"type": "plain_text", "text": "*x* \\x1b[31m :smile:", "emoji": False} == told
        assert payload["mrkdwn"] is False


def test_line_is_one_line():
    """A log line has everything, and no line break of an error."""
    text = line(an_alert(summary="one\ntwo"), LINKS)

    assert (
        "WARN gap BINANCE:BTC-USDT 2024-08-08: one two | figure 5, threshold 0 | "
        "https://ui.example.org/runs/run-1 | https://docs.example.org/pages/checks/gap.md"
    ) == text


def test_links_without_a_run_or_an_address():
    """Without a run the link is to all runs; without an address the page is a path."""
    links = Links("http://127.0.0.1:3000", "docs")

    assert "http://127.0.0.1:3000/runs" == links.run(trial_alert(5))
    assert ("docs/alerts.md", "docs/checks/gap.md") == (
        links.page(a_failed_run()),
        links.page(an_alert()),
    )
