"""A place of its own for each test."""

from __future__ import annotations

import pytest

from market_pipeline_tests.backup.place import Place


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    """Files of every kind, a backup folder that is empty, and settings that name both."""
    made = Place(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(made.data))
    monkeypatch.setenv("PIPELINE_LAKE_URI", str(made.lake))
    monkeypatch.setenv("PIPELINE_BACKUP_FOLDER", str(made.folder))
    made.folder.mkdir(mode=0o700)
    made.fill()
    return made
