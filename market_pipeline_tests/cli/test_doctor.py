from __future__ import annotations

import json
from pathlib import Path

from market_pipeline_tests.defs.workspace import Workspace


def test_ok(workspace: Workspace):
    """Where a run can go ahead the exit code is 0; a warning is shown and does not change it."""
    finished = workspace.run("doctor", "--json")
    report = json.loads(finished.output)
    found = {each["name"]: each["status"] for each in report["findings"]}

    assert (0, "", True) == (finished.exit_code, finished.errors, report["ok"])
    assert ("ok", "warn") == (found["settings"], found["lake"])
    assert [{"name", "status", "found", "next_step"}] == [
        keys for keys in {frozenset(each) for each in report["findings"]}
    ]


def test_an_error(workspace: Workspace, tmp_path: Path):
    """Where something stands in the way the exit code is 1, and each error says what to do."""
    broken = Workspace(tmp_path / "broken", tmp_path / "no lake")
    finished = broken.run("doctor", "--json")
    report = json.loads(finished.output)
    errors = {each["name"]: each for each in report["findings"] if each["status"] == "error"}

    assert (1, False) == (finished.exit_code, report["ok"])
    assert {"instruments", "lake"} == set(errors)
    assert [] == [name for name, each in errors.items() if not each["next_step"]]
    assert not broken.data_dir.exists()


def test_settings_that_cannot_be_read(workspace: Workspace, tmp_path: Path):
    """Unusable settings are a finding of the doctor, not a failure of it."""
    broken = Workspace(tmp_path / "broken", workspace.lake, more={"PIPELINE_TREADS": "2"})
    finished = broken.run("doctor", "--json")
    first = json.loads(finished.output)["findings"][0]

    assert (1, "settings", "error") == (finished.exit_code, first["name"], first["status"])
    assert "did you mean PIPELINE_THREADS?" in first["found"]


def test_table(workspace: Workspace):
    """Without --json the same findings are a table without escape sequences in a file."""
    finished = workspace.run("doctor")

    assert (0, "") == (finished.exit_code, finished.errors)
    assert "free_disk" in finished.output
    assert "\x1b" not in finished.output
