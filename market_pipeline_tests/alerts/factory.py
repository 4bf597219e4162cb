"""Alerts for tests."""

from __future__ import annotations

from datetime import date
from typing import Any

from market_pipeline.alerts.alert import Alert
from market_pipeline.alerts.payloads import Links

LINKS = Links("https://ui.example.org", "https://docs.example.org/pages/")

GAP_FAILED = {
    "kind": "check_failed",
    "severity": "WARN",
    "summary": "1 suspected gap of 5 s in all; the first from 12:00:00 UTC.",
    "at_ns": 1_723_168_800_123_456_789,
    "check": "gap",
    "instrument": "BINANCE:BTC-USDT",
    "day": date(2024, 8, 8),
    "figure": 5.0,
    "threshold": 0.0,
    "run_id": "run-1",
}


def an_alert(**changes: Any) -> Alert:
    """A failed gap check but for the changes."""
    return Alert(**{**GAP_FAILED, **changes})


def a_failed_run(run_id: str = "run-1") -> Alert:
    """A run that failed."""
    return Alert("run_failed", "ERROR", "daily_books: it died.", 1, run_id=run_id)
