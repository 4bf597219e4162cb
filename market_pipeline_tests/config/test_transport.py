from __future__ import annotations

import pytest

from market_pipeline.config.settings import load_settings
from market_pipeline.doctor.run import run_doctor
from market_pipeline.errors import SettingsError

SECRET = "hunter2"
NAMES = (
    "alert_webhook_urls",
    "alert_slack_urls",
    "alert_alertmanager_urls",
    "alert_email_server",
    "otlp_url",
    "pushgateway_url",
    "lake_endpoint_url",
    "capture__websocket_urls",
    "capture__rest_url",
)


def _plain(name: str, host: str) -> str:
    if name == "alert_email_server":
        return f"smtp://{host}"
    return f"{'ws' if name == 'capture__websocket_urls' else 'http'}://{host}/{SECRET}"


@pytest.mark.parametrize("name", NAMES)
class TestInClear:
    @pytest.mark.parametrize("host", ["a.example", "192.168.0.7:9000", "[fd00::1]", "HOST"])
    def test_another_machine_is_refused(self, name: str, host: str):
        """The setting is named, and how to except the host; the address is not shown."""
        with pytest.raises(SettingsError, match="PIPELINE_PLAIN_HOSTS names hosts") as refused:
            load_settings(**{name: _plain(name, host)})

        (problem,) = refused.value.problems
        safe = {"alert_email_server": "smtps://", "capture__websocket_urls": "wss://"}
        begin = safe.get(name, "https://")
        assert f"argument: {name}: expected address 1 to begin with {begin}" in problem
        assert SECRET not in problem

    @pytest.mark.parametrize("host", ["127.0.0.1:9000", "127.8.0.1", "[::1]:80", "localhost"])
    def test_this_machine_is_not(self, name: str, host: str):
        """What is sent over the loopback leaves no machine."""
        assert () == load_settings(**{name: _plain(name, host)}).plain_hosts

    def test_an_excepted_host_is_not(self, name: str):
        """It is the user's word that counts, host by host."""
        settings = load_settings(
            plain_hosts="a.example, b.example", **{name: _plain(name, "B.example:9000")}
        )
        assert ("a.example", "b.example") == settings.plain_hosts


def test_doctor_shows_the_exceptions(monkeypatch: pytest.MonkeyPatch):
    """Whoever reads its report sees which machines are spoken to in clear."""
    assert "plain_hosts" not in {each.name for each in run_doctor().findings}

    monkeypatch.setenv("PIPELINE_PLAIN_HOSTS", "a.example")
    (shown,) = (each for each in run_doctor().findings if each.name == "plain_hosts")
    assert "warn" == shown.status
    assert "PIPELINE_PLAIN_HOSTS: a.example" in shown.found
