"""Where backups go: whether the next one can be written, and who may use those there are."""

from __future__ import annotations

import pytest

from market_pipeline.config.settings import load_settings
from market_pipeline.doctor._backup import check_backup
from market_pipeline.doctor.folders import check_modes
from market_pipeline.errors import SettingsError


def test_without_one(tmp_path):
    """Nothing is said where no backup is made."""
    assert [] == list(check_backup(load_settings(data_dir=tmp_path)))


def test_one_that_takes_backups(tmp_path):
    """It can be written to, with what is there already."""
    (tmp_path / "backups/states").mkdir(parents=True)
    settings = load_settings(data_dir=tmp_path / "data", backup_folder=tmp_path / "backups")
    assert [("ok", f"backups can be written to {tmp_path}/backups")] == list(check_backup(settings))


@pytest.mark.parametrize("name", ["not-mounted", "data/backups"])
def test_one_that_takes_none(tmp_path, name):
    """A disk that is not mounted, and a folder inside what is backed up, are refused."""
    (tmp_path / "data/backups").mkdir(parents=True)
    settings = load_settings(data_dir=tmp_path / "data", backup_folder=tmp_path / name)
    with pytest.raises(SettingsError, match=f"backup_folder: {tmp_path / name}"):
        list(check_backup(settings))


def test_one_that_others_may_read(tmp_path, monkeypatch):
    """A file of a backup that other users may read is named, as one of the data folder is."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)
    for name in ("data", "backups"):
        (tmp_path / name).mkdir(mode=0o700)
    copy = tmp_path / "backups/copy"
    copy.touch(0o600)
    folders = tmp_path / "data", None, None, tmp_path / "backups"
    assert ["ok"] == [status for status, *_ in check_modes(*folders)]
    copy.chmod(0o640)
    ((status, found, next_step),) = check_modes(*folders)
    assert ("warn", True) == (status, f"{copy} (0640)" in found)
    assert next_step.endswith(f"`chmod -R go= {tmp_path}/data {tmp_path}/backups`.")
