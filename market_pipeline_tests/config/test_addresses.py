"""Secret addresses among the settings: where they may stand, and that they are never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from market_pipeline.config.addresses import addresses_of
from market_pipeline.config.settings import load_settings
from market_pipeline.doctor.run import run_doctor
from market_pipeline.errors import SettingsError

SECRET = "hunter2"
NAMES = ("alert_webhook_urls", "alert_slack_urls", "alert_alertmanager_urls")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder and an environment without any of our variables."""
    for name in list(os.environ):
        if name.upper().startswith("PIPELINE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
class TestSecrets:
    def test_environment_and_env_file(self, folder: Path, monkeypatch, name):
        """Both may hold it; the environment decides."""
        (folder / ".env").write_text(f"PIPELINE_{name.upper()}=https://a.example/{SECRET}\n")
        from_file = addresses_of(getattr(load_settings(), name))
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", "https://b.example/1, https://c.example/2")

        assert (f"https://a.example/{SECRET}",) == from_file
        assert ("https://b.example/1", "https://c.example/2") == addresses_of(
            getattr(load_settings(), name)
        )

    def test_not_in_config_yaml(self, folder: Path, name):
        """There it is a problem that says where it belongs."""
        (folder / "config.yaml").write_text(f"{name}: https://a.example/{SECRET}\n")
        with pytest.raises(SettingsError) as caught:
            load_settings()
        (problem,) = caught.value.problems

        assert problem.startswith(f"config.yaml: {name} is a secret")
        assert f"PIPELINE_{name.upper()} in the environment" in problem
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize(
        "text",
        [
            f"ftp://{SECRET}",
            f"https://ok.example, {SECRET}",
            f"https://[{SECRET}",
            f"https://{SECRET}:99999",
            f"https://a.example/{SECRET} x",
            f"https:///{SECRET}",
        ],
    )
    def test_refused(self, monkeypatch, name, text):
        """What is no web address is refused, by its place in the list and never by its text."""
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", text)
        with pytest.raises(SettingsError, match=r"address \d to be http") as caught:
            load_settings()

        assert SECRET not in str(caught.value)
        assert SECRET not in str(run_doctor().to_json())

    @pytest.mark.parametrize("text", ["", "  ", ",", None])
    def test_none(self, name, text):
        """An empty list is no address."""
        assert () == addresses_of(getattr(load_settings(**{name: text}), name))

    def test_never_shown(self, monkeypatch, name):
        """Neither the settings' text nor their JSON shows it, nor does the doctor."""
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", f"https://a.example/{SECRET}")
        settings = load_settings()
        shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"

        assert SECRET not in shown + str(run_doctor().to_json())


class TestMail:
    @pytest.mark.parametrize(
        "server",
        [
            "http://mail.example",
            f"smtps://me:{SECRET}@mail.example",
            f"smtps://mail.example/{SECRET}",
            f"smtps://{SECRET} mail.example",
            "smtps://mail.example:0",
            "smtps://",
        ],
    )
    def test_refused_server(self, server):
        """A server is a scheme of mail, a host and a port, and a login has its own settings."""
        with pytest.raises(SettingsError, match="alert_email_server: expected it") as caught:
            load_settings(alert_email_server=server)
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize(
        "mailbox",
        [
            *("me", "Me <me@b.example>", "a@b\nBcc: c@d", "a@b@c", "a@b..c", "a@b:25", "a@["),
            "=?utf-8?q?a=0D=0ABcc:c?=@b.example",
        ],
    )
    def test_refused_mailbox(self, mailbox):
        """A mailbox is `name@host`: nothing of it becomes another header or another recipient."""
        with pytest.raises(SettingsError, match="name@host"):
            load_settings(alert_email_to=f"ok@b.example,{mailbox}")

    def test_each_mailbox_once(self):
        """Hosts may be addresses, and a mailbox named twice gets one mail."""
        settings = load_settings(
            alert_email_to="a+b@c.example, a+b@c.example", alert_email_server="SMTPS://[::1]:465"
        )
        assert ("a+b@c.example",) == settings.alert_email_to


class TestPages:
    def test_slash_at_the_end(self):
        """Links are put together with one slash."""
        assert "https://ui.example/x" == load_settings(ui_url="https://ui.example/x/").ui_url

    @pytest.mark.parametrize("text", ["ui.example", "javascript:1", ""])
    def test_refused(self, text):
        """A link must be a web address."""
        with pytest.raises(SettingsError, match="ui_url: expected it to be http"):
            load_settings(ui_url=text)
