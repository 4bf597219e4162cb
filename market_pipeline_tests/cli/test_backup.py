"""The verbs for backups, as an operator uses them."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from market_pipeline.cli.app import app
from market_pipeline.errors import BackupError, SettingsError
from market_pipeline.security.ring import KEYS_FOLDER, KeyRing
from market_pipeline.tables import TABLES
from market_pipeline_tests.backup.conftest import place
from market_pipeline_tests.backup.place import HOUR, LONG
from market_pipeline_tests.cli.conftest import GOOD
from market_pipeline_tests.defs.workspace import Workspace, days_arguments
from market_pipeline_tests.security.keys import MASTER, MASTER_TEXT
from market_pipeline_tests.sources.simulated.days import DAY

__all__ = ["place"]  # a fixture

MADE = [name for name, table in TABLES.items() if table.storage == "delta"] + ["validation_report"]


def ran(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def ran_json(*arguments):
    code, out, _ = ran(*arguments, "--json")
    return code, json.loads(out)


def test_a_life_of_backups(place, monkeypatch):
    """They are made, listed, verified, given to another key, restored, and pruned."""
    monkeypatch.setenv("PIPELINE_MASTER_KEY", MASTER_TEXT)
    assert (1, "No state; `market-pipeline backup create` makes one.\n") == ran("backup", "list")[
        :2
    ]
    assert (1, 1) == (ran("backup", "verify")[0], ran("backup", "restore", "none")[0])
    ran("keys", "new", "backups")
    monkeypatch.setenv("PIPELINE_SEAL", "backups")
    code, made = ran_json("backup", "create")
    assert (0, 2, []) == (code, made["copied"], made["left_out"])
    _, (key,) = ran_json("keys", "list")
    assert ("backups", 4) == (key["purpose"], key["files"])
    assert 0 == ran("keys", "rotate", "backups")[0]
    assert 0 == ran("keys", "destroy", key["id"], "--yes")[0]

    (place.lake / HOUR).unlink()
    monkeypatch.setenv("PIPELINE_BACKUP_STATES", "1")
    (place.data / "golden/linked").symlink_to(place.lake)
    code, _, errors = ran("backup", "create")
    assert (1, "left out: ") == (code, errors[:10])
    assert [1] == [each["left_out"] for each in ran_json("backup", "list")[1]]
    code, found = ran_json("backup", "verify")
    assert (0, []) == (code, found["faults"])
    assert (0, len(LONG)) == (ran("backup", "prune")[0], ran_json("backup", "prune")[1]["bytes"])
    (copy,) = ran_json("backup", "prune", "--yes")[1]["copies"]
    assert not list(place.folder.rglob(f"{copy.rpartition('/')[2]}*"))

    (victim,) = place.folder.glob("states/*.tar.sealed")
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code, _, errors = ran("backup", "verify")
    assert (1, True) == (code, victim.name in errors)
    assert 1 == ran("backup", "restore", "back")[0]
    with pytest.raises(BackupError, match="empty folder only"):
        ran("backup", "restore", "back")
    with pytest.raises(BackupError, match="no such state"):
        ran("backup", "restore", "other", "--state", "none")
    monkeypatch.delenv("PIPELINE_BACKUP_FOLDER")
    with pytest.raises(SettingsError, match="Set PIPELINE_BACKUP_FOLDER"):
        ran("backup", "list")


@pytest.mark.slow
def test_a_pipeline_that_is_lost_runs_on(workspace, runs, tmp_path):
    """Of a sealed backup verdicts and history of runs are back, and a run makes the same books."""
    assert 0 == runs.good.exit_code
    (tmp_path / "backups").mkdir()
    more = {"PIPELINE_BACKUP_FOLDER": str(tmp_path / "backups"), "PIPELINE_MASTER_KEY": MASTER_TEXT}
    lost = Workspace(tmp_path / "lost", workspace.lake, more=workspace.more | more)
    shutil.copytree(workspace.data_dir, lost.data_dir, symlinks=True)
    shutil.copytree(workspace.home, lost.home, dirs_exist_ok=True)
    shutil.copy(workspace.instruments_file, lost.instruments_file)
    KeyRing(lost.data_dir / KEYS_FOLDER, MASTER).new("backups")
    lost.more["PIPELINE_SEAL"] = "backups"
    created = lost.run("backup", "create", "--raw")
    assert (0, "") == (created.exit_code, created.errors)
    before = lost.published(DAY, MADE)
    shutil.rmtree(lost.data_dir)
    shutil.rmtree(lost.home)
    assert 0 == lost.run("backup", "restore", str(tmp_path / "back")).exit_code

    back = Workspace(tmp_path / "new", tmp_path / "back/lake", more=dict(workspace.more))
    shutil.rmtree(back.home)
    shutil.move(tmp_path / "back/data", back.data_dir)
    shutil.move(tmp_path / "back/dagster_home", back.home)
    shutil.move(tmp_path / "back/instruments.yaml", back.instruments_file)
    assert before.items() >= back.published(DAY, ["validation_report"]).items()
    with workspace.instance() as ours, back.instance() as theirs:
        assert [each.run_id for each in ours.get_runs()] == [
            each.run_id for each in theirs.get_runs()
        ]
    assert 0 == back.run(*days_arguments(DAY), "--instrument", GOOD).exit_code
    assert before == back.published(DAY, MADE)
