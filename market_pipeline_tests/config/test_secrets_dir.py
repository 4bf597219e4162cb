"""The folder of secrets, as Kubernetes mounts it."""

from __future__ import annotations

import os

import pytest

from market_pipeline.config.settings import ENV_PREFIX, load_settings
from market_pipeline.errors import SettingsError
from market_pipeline.store._credentials import credentials_kind, session
from market_pipeline_tests.store.servers import no_credentials

HOOK = "https://hooks.example/services/T0K3Nabc"


@pytest.fixture(autouse=True)
def mounted(tmp_path, monkeypatch):
    """A folder in which each file is a link to one of a hidden folder, as a volume has them."""
    for name in list(os.environ):
        if name.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(name)
    no_credentials(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "secrets" / "..2026_11_25"
    data.mkdir(parents=True)
    (tmp_path / "secrets" / "..data").symlink_to(data)
    values = {"PIPELINE_ALERT_SLACK_URLS": f"{HOOK}\n", "threads": "3", "AWS_ACCESS_KEY_ID": "AK1"}
    for name, value in (values | {"AWS_SECRET_ACCESS_KEY": "s3cr3t-key"}).items():
        (data / name).write_text(value)
        (tmp_path / "secrets" / name).symlink_to(f"..data/{name}")
    monkeypatch.setenv("PIPELINE_SECRETS_DIR", str(tmp_path / "secrets"))
    return tmp_path / "secrets"


def test_is_between_env_file_and_config_file(tmp_path):
    """A file there overrides `config.yaml`, and `.env` overrides it."""
    (tmp_path / "config.yaml").write_text("threads: 4\nbar_seconds: [60]\n")
    settings = load_settings()
    assert (3, (60,), HOOK) == (
        settings.threads,
        settings.bar_seconds,
        settings.alert_slack_urls.get_secret_value(),
    )
    (tmp_path / ".env").write_text("PIPELINE_THREADS=5\n")
    assert 5 == load_settings().threads


def test_is_read_anew(mounted):
    """A file that is replaced counts from the next reading of settings on."""
    load_settings()
    (mounted / "..data" / "PIPELINE_ALERT_SLACK_URLS").write_text("https://rotated.example/x")
    assert "https://rotated.example/x" == load_settings().alert_slack_urls.get_secret_value()


def test_credentials_of_the_store(mounted):
    """Keys of the store may lie there, and the doctor's word for it is the folder."""
    made = session()
    assert ("AK1", str(mounted)) == (made.get_credentials().access_key, credentials_kind(made))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("alert_slack_url", b"planted-1", "did you mean"),
        ("master_key", b"\xff\xfe-planted", "is no text"),
        ("master_key", b"x" * 70_000, "is no text"),
        ("alert_webhook_urls", b"ftp://planted", "alert_webhook_urls: expected address 1"),
    ],
)
def test_what_is_refused(mounted, name, content, words):
    """An unknown name, bytes, and a value that is none are errors that name the file."""
    (mounted / name).write_bytes(content)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    text = " ".join(raised.value.problems)
    assert (True, True, False) == (words in text, str(mounted) in text, "planted" in text)


def test_a_missing_folder(monkeypatch):
    """A folder that is not there is an error, as nobody would miss it by chance."""
    monkeypatch.setenv("PIPELINE_SECRETS_DIR", "/nowhere/at/all")
    with pytest.raises(SettingsError, match="PIPELINE_SECRETS_DIR"):
        load_settings()


def test_not_in_a_settings_file(tmp_path):
    """`config.yaml` can neither name the folder nor hold a secret of a section."""
    (tmp_path / "config.yaml").write_text("secrets_dir: /x\nsecrets: {token: planted-token}\n")
    with pytest.raises(SettingsError) as raised:
        load_settings()
    text = " ".join(raised.value.problems)
    assert (2, True, False) == (
        len(raised.value.problems),
        "secrets.token is a secret" in text,
        "planted" in text,
    )
