"""What the environment has out of `.env`, as Dagster and systemd put it there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from market_pipeline.config.env_copies import note_copies
from market_pipeline.config.settings import load_settings, store_credentials

OLD = {
    "PIPELINE_METRICS_TOKEN": "a-token-of-before",
    "PIPELINE_THREADS": "1",
    "AWS_ACCESS_KEY_ID": "AKIAOLD",
    "AWS_SECRET_ACCESS_KEY": "old-secret",
}
NEW = OLD | {"PIPELINE_METRICS_TOKEN": "the-token-of-today", "AWS_SECRET_ACCESS_KEY": "new-secret"}
SHOWN = (
    "from market_pipeline.config.settings import load_settings\n"
    "settings = load_settings()\n"
    "print(settings.metrics_token.get_secret_value(), settings.threads)\n"
)


def put(values: dict[str, str]) -> None:
    Path(".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))


@pytest.fixture
def noted(tmp_path, monkeypatch):
    """A process that was begun with a copy of `.env`, but with threads of its own."""
    monkeypatch.chdir(tmp_path)
    put(OLD)
    for name, value in (OLD | {"PIPELINE_THREADS": "3"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MARKET_PIPELINE_ENV_FILE", "")
    note_copies()


def test_a_new_value_in_the_file(noted):
    """It counts for this process and those it starts later; what the file did not give stays."""
    put(NEW)
    settings = load_settings()
    assert ("the-token-of-today", 3) == (
        settings.metrics_token.get_secret_value(),
        settings.threads,
    )
    assert ("new-secret", ".env") == (
        store_credentials()[0]["AWS_SECRET_ACCESS_KEY"],
        store_credentials()[1],
    )
    note_copies()  # as each of them does
    shown = subprocess.run(
        [sys.executable, "-c", SHOWN], capture_output=True, text=True, check=True
    )
    assert "the-token-of-today 3" == shown.stdout.strip()


def test_in_another_folder(noted, tmp_path, monkeypatch):
    """There the file is not read, so what the environment has counts."""
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert "a-token-of-before" == load_settings().metrics_token.get_secret_value()
    assert ({}, "") == store_credentials()


def test_in_a_folder_whose_name_is_no_utf_8(noted, tmp_path, monkeypatch):
    """A process begins there, too, and knows what was copied from the file there."""
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    monkeypatch.chdir(folder)
    put(OLD)
    note_copies()
    put(NEW)
    assert "the-token-of-today" == load_settings().metrics_token.get_secret_value()


def test_what_the_environment_has_itself(noted, monkeypatch):
    """A variable that is set to another value than the file had is before the file, as ever."""
    monkeypatch.setenv("PIPELINE_METRICS_TOKEN", "a-token-of-the-hand")
    assert "a-token-of-the-hand" == load_settings().metrics_token.get_secret_value()
