"""Whether the instance of Dagster writes without secrets, as the doctor sees it."""

from __future__ import annotations

import shutil

import pytest

from market_pipeline.doctor._secrets import check_scrubbing
from market_pipeline_tests.conftest import REPOSITORY


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The configuration of the project in a home of the test's own."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return shutil.copy(REPOSITORY / "dagster_home" / "dagster.yaml", tmp_path / "dagster.yaml")


def test_of_the_project(file):
    """The project's own configuration has everything written without secrets."""
    assert ["ok"] == [status for status, *_ in check_scrubbing()]


def test_of_before(file):
    """One that lacks a section warns, and names it."""
    file.write_text(file.read_text().replace("compute_logs:", "other:"))
    ((status, found, _),) = check_scrubbing()
    assert ("warn", True) == (status, "taken out of compute_logs" in found)
