"""How an alert is worded for each kind of receiver: webhook, Slack, Alertmanager, mail, log."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from market_pipeline.alerts.alert import Alert
from market_pipeline.config.settings import Settings
from market_pipeline.config.values import JsonValue
from market_pipeline.quality.intervals import NS_PER_SECOND, utc_time
from market_pipeline.shown import shown

__all__ = [
    "Links",
    "alertmanager_payload",
    "line",
    "mail_payload",
    "slack_payload",
    "webhook_payload",
]

_RECEIVER = "market_pipeline"
_NEVER = "0001-01-01T00:00:00Z"
_NAMES = {
    "check_failed": "PipelineCheckFailed",
    "run_failed": "PipelineRunFailed",
    "run_cancelled": "PipelineRunCancelled",
    "day_late": "PipelineDayLate",
    "frames_missing": "PipelineFramesMissing",
    "unhealthy": "PipelineUnhealthy",
    "test": "PipelineTest",
}
_TITLES = {
    "run_failed": "run failed",
    "run_cancelled": "run cancelled",
    "day_late": "day is late",
    "frames_missing": "frames are missing",
    "test": "test",
}
_HELD_SECONDS = {"frames_missing": 366 * 86_400, "unhealthy": 366 * 86_400, "test": 300}
"""How long an Alertmanager holds what is sent to it once; what has an end, until that is sent."""
_HELD_OTHERWISE_SECONDS = 86_400
_SLACK_SECTION = 3_000  # characters; Slack refuses a longer one
_LONGEST_SUMMARY = 2_000


@dataclass(frozen=True, slots=True)
class Links:
    """Where alerts point to.

    Attributes:
        ui_url: The UI's address, without a slash at its end.
        docs_url: The address or folder of these docs.
    """

    ui_url: str
    docs_url: str

    @classmethod
    def of(cls, settings: Settings) -> Links:
        """As the settings say."""
        return cls(settings.ui_url, settings.docs_url)

    def run(self, alert: Alert) -> str:
        """The page of the run that found it, or of all runs."""
        return f"{self.ui_url}/runs" + (f"/{alert.run_id}" if alert.run_id else "")

    def page(self, alert: Alert) -> str:
        """The page that says what it means and what to do."""
        name = "capture/recorder.md" if alert.kind == "frames_missing" else "alerts.md"
        if alert.kind == "unhealthy":
            name = f"health.md#{alert.check}"
        elif alert.check:
            name = f"checks/{alert.check}.md"
        return f"{self.docs_url.rstrip('/')}/{name}"


def webhook_payload(alert: Alert, links: Links) -> Mapping[str, JsonValue]:
    """Version 4 of the JSON that Alertmanager posts to a webhook, with this one alert.

    The fingerprint follows from the labels, and `startsAt` is when it was found: an alert that is
    posted twice is equal to itself.
    """
    labels = _labels(alert)
    annotations = _annotations(alert, links)
    grouped = {"alertname": labels["alertname"]}
    status = "firing" if alert.ended_ns is None else "resolved"
    return {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{labels["alertname"]}"}}',
        "truncatedAlerts": 0,
        "status": status,
        "receiver": _RECEIVER,
        "groupLabels": grouped,
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": links.ui_url,
        "alerts": [
            {
                "status": status,
                "labels": labels,
                "annotations": annotations,
                "startsAt": _time(alert.at_ns),
                "endsAt": _NEVER if alert.ended_ns is None else _time(alert.ended_ns),
                "generatorURL": links.run(alert),
                "fingerprint": _fingerprint(labels),
            }
        ],
    }


def alertmanager_payload(alert: Alert, links: Links, now_ns: int) -> Sequence[JsonValue]:
    """What Alertmanager's own API (version 2) takes, with this one alert.

    It forgets an alert some minutes after it heard of it last unless that names an end, and this
    is sent once: what has an end is held until that is sent, all else for a day.

    Args:
        alert, links: What to tell, and where it points to.
        now_ns: When it is sent, ns UTC: an alert whose end is over is reported to nobody.
    """
    ends_ns = alert.ended_ns
    if ends_ns is None:
        held_s = _HELD_SECONDS.get(alert.kind, _HELD_OTHERWISE_SECONDS)
        ends_ns = max(now_ns, alert.at_ns) + held_s * NS_PER_SECOND
    return [
        {
            "labels": _labels(alert),
            "annotations": _annotations(alert, links),
            "startsAt": _time(alert.at_ns),
            # An end before the start is refused, and a clock may be set back.
            "endsAt": _time(max(ends_ns, alert.at_ns)),
            "generatorURL": links.run(alert),
        }
    ]


def mail_payload(alert: Alert, links: Links) -> Mapping[str, JsonValue]:
    """A mail: `subject`, `text`, `id`, `answers` (the id of the mail that it ends) and `at`.

    `at` is the Unix time of what it reports. A mail that is sent twice is equal to itself, so
    readers show it once.
    """
    labels = _labels(alert)
    begun = f"{_fingerprint(labels)}.{alert.at_ns}"
    details = [
        f"{name}: {shown(text)}"
        for name, text in (labels | _annotations(alert, links)).items()
        if name not in {"alertname", "job", "title", "summary"}
    ]
    return {
        "subject": shown(f"[{labels['severity']}] {_title(alert)}"),
        "text": "\n".join([_shortened(alert.summary), "", *details, ""]),
        "id": begun if alert.ended_ns is None else f"{begun}.ended",
        "answers": None if alert.ended_ns is None else begun,
        "at": (alert.ended_ns or alert.at_ns) // NS_PER_SECOND,
    }


def slack_payload(alert: Alert, links: Links) -> Mapping[str, JsonValue]:
    """A message for an incoming webhook: `text` for the notification, `blocks` for the channel.

    What was found is plain text: no character of it makes a link, a list or bold letters.
    """
    sign = ":red_circle:" if alert.severity == "ERROR" else ":warning:"
    if alert.ended_ns is not None:
        sign = ":white_check_mark:"
    figure = _figure(alert)
    title, summary = _escaped(_title(alert)), _escaped(_shortened(alert.summary))
    page = links.page(alert)
    context = [f"<{links.run(alert)}|run>", f"<{page}|what to do>" if "://" in page else page]
    if figure:
        context.insert(0, f"{alert.severity}, {figure}")
    return {
        "text": f"{title}: {summary}",
        "mrkdwn": False,
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": f"{sign} *{title}*"}},
            {
                "type": "section",
                "text": {"type": "plain_text", "text": _section(summary), "emoji": False},
            },
            {"type": "context", "elements": [{"type": "mrkdwn", "text": " · ".join(context)}]},
        ],
    }


def line(alert: Alert, links: Links) -> str:
    """One line for a log."""
    summary = " ".join(_shortened(alert.summary).split())
    figure = _figure(alert)
    parts = [f"{alert.severity} {_title(alert)}: {summary}", *([figure] if figure else [])]
    return " | ".join([*parts, links.run(alert), links.page(alert)])


def _labels(alert: Alert) -> dict[str, str]:
    exchange, _, symbol = (alert.instrument or "").partition(":")
    labels = {
        "alertname": _NAMES[alert.kind],
        "job": _RECEIVER,
        "severity": "critical" if alert.severity == "ERROR" else "warning",
        "check": alert.check,
        "instrument": alert.instrument,
        "exchange": exchange,
        "symbol": symbol,
        "day": None if alert.day is None else alert.day.isoformat(),
        # Two failed runs of a day are two facts; two runs that find the same fault are one.
        "run_id": alert.run_id if alert.kind in {"run_failed", "run_cancelled"} else None,
        "host": alert.host,
    }
    return {name: value for name, value in labels.items() if value}


def _fingerprint(labels: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()[:16]


def _annotations(alert: Alert, links: Links) -> dict[str, str]:
    annotations = {
        "title": _title(alert),
        "summary": alert.summary,
        "figure": _number(alert.figure),
        "threshold": _number(alert.threshold),
        "run_id": alert.run_id,
        "run_url": links.run(alert),
        "runbook_url": links.page(alert),
    }
    return {name: value for name, value in annotations.items() if value}


def _title(alert: Alert) -> str:
    """What, which instrument, which day: `gap BINANCE:BTC-USDT 2024-08-08`."""
    what = _TITLES.get(alert.kind) or alert.check
    over = None if alert.ended_ns is None else "no more:"
    return " ".join(str(part) for part in (over, what, alert.instrument, alert.day) if part)


def _figure(alert: Alert) -> str:
    if alert.figure is None or alert.threshold is None:
        return ""
    return f"figure {_number(alert.figure)}, threshold {_number(alert.threshold)}"


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.10g}"


def _time(ns: int) -> str:
    return f"{utc_time(ns):%Y-%m-%dT%H:%M:%S}.{ns // 1_000_000 % 1_000:03}Z"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SUMMARY else f"{text[: _LONGEST_SUMMARY - 1]}…"


def _section(escaped: str) -> str:
    """As much as Slack takes, and no half of an escaped character at its end."""
    return re.sub(r"&[a-z]*$", "", escaped[:_SLACK_SECTION])


def _escaped(text: str) -> str:
    """As Slack wants it; nothing in a text can then become a link or call everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
