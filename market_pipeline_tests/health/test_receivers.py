from __future__ import annotations

import pytest

from market_pipeline.alerts.outbox import Outbox
from market_pipeline.alerts.targets import configured_targets
from market_pipeline.config.settings import Settings
from market_pipeline.health.receivers import check_receivers
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.alerts.factory import an_alert

NOW_S = 1_000_000.0


def look(settings: Settings, now_s: float) -> tuple[str, str]:
    ((status, text, *_),) = check_receivers(settings, now_s)
    return status, text


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(data_dir=tmp_path / "data", alert_webhook_urls="https://alerts.example/hook")


def test_nobody_to_report_to(tmp_path):
    """Without a receiver it warns: nobody would be told."""
    status, _ = look(Settings(data_dir=tmp_path / "data"), NOW_S)
    assert "warn" == status


def test_what_waits(settings):
    """An attempt that failed warns; what waits for a quarter of an hour is an error."""
    outbox = Outbox(Warehouse(settings.data_dir))
    name = configured_targets(settings)[-1].name
    assert "ok" == look(settings, NOW_S)[0]
    outbox.take([an_alert()], [name], now_s=NOW_S)
    (delivery,) = outbox.due(name, NOW_S)
    assert "ok" == look(settings, NOW_S + 60)[0]
    outbox.mark(delivery, "waiting", now_s=NOW_S + 1, error="it answered 500")
    status, text = look(settings, NOW_S + 60)

    assert ("warn", True) == (status, "it answered 500" in text)
    assert "error" == look(settings, NOW_S + 901)[0]


def test_dead_letters(settings):
    """What was given up is an error."""
    outbox = Outbox(Warehouse(settings.data_dir))
    name = configured_targets(settings)[-1].name
    outbox.take([an_alert()], [name], now_s=NOW_S)
    (delivery,) = outbox.due(name, NOW_S)
    outbox.mark(delivery, "dead", now_s=NOW_S, error="it answered 400")

    assert "error" == look(settings, NOW_S)[0]
