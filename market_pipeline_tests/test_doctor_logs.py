"""The files of logs, figures and spans that all processes add to."""

from __future__ import annotations

import os

import pytest

from market_pipeline.config.settings import load_settings
from market_pipeline.doctor.folders import check_logs


@pytest.mark.parametrize("name", ["logs/errors.jsonl", "metrics/.lock", "traces/.lock"])
def test_one_that_takes_no_line(tmp_path, name):
    """As another user's does not: it is named, and the run would go on without."""
    path = tmp_path / name
    path.mkdir(parents=True)  # root may write to every file, and to no folder
    ((status, found, next_step),) = check_logs(load_settings(data_dir=tmp_path))
    assert ("warn", True) == (status, "chown" in next_step)
    assert found.startswith(f"{path} cannot be written to")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read(tmp_path):
    """As root's, mode 0700, cannot be by another user: it is named as a file is."""
    folder = tmp_path / "traces"
    folder.mkdir(mode=0)
    ((status, found, _),) = check_logs(load_settings(data_dir=tmp_path))
    folder.chmod(0o700)
    assert ("warn", True) == (status, found.startswith(f"{folder} cannot be written to"))
