"""The verbs for the audit log, and what verbs and runs leave in it."""

from __future__ import annotations

import base64
import json
from collections import Counter

import pytest
from typer.testing import CliRunner

from market_pipeline import load_bbo
from market_pipeline.audit.log import log_files
from market_pipeline.audit.record import AUDIT_FOLDER
from market_pipeline.audit.verify import read_entries
from market_pipeline.cli.app import app
from market_pipeline.errors import AuditError, SettingsError
from market_pipeline.security.disks import Disk
from market_pipeline_tests.cli.conftest import GOOD, Runs
from market_pipeline_tests.defs.workspace import Workspace
from market_pipeline_tests.sources.simulated.days import DAY

MASTER = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder, and a master key in the environment; no history of runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PIPELINE_MASTER_KEY", MASTER)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def ran(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def entries(folder):
    return [*read_entries(folder / AUDIT_FOLDER)]


def test_verbs_are_recorded(folder):
    """A verb is recorded with its arguments, without a secret; those that touch no data are not."""
    ran("keys", "new", "exports")
    ran("verdict", "--instrument", "s3://me:secret@bucket")
    for verb in (
        ("doctor",),
        ("health",),
        ("audit", "verify"),
        ("audit", "show"),
        ("verdict", "--help"),
    ):
        ran(*verb)
    verbs = [each.what for each in entries(folder) if each.action == "verb"]
    assert [
        {"verb": "keys", "arguments": ["new", "exports"]},
        {"verb": "verdict", "arguments": ["--instrument", "s3://[secret]@bucket"]},
    ] == verbs
    (key,) = (each.what for each in entries(folder) if each.action == "key")
    assert ("made", True) == (key["done"], key["key"].startswith("exports-"))


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        (("secrets", "set", "NAME", "hunter2"), ["set", "NAME", "[secret]"]),
        (("secrets", "set", "NAME=hunter2"), ["set", "NAME=[secret]"]),
        (("verdict", "--api-token", "hunter2"), ["--api-token", "[secret]"]),
        (("keys", "seal", "--token=hunter2"), ["seal", "--token=[secret]"]),
    ],
)
def test_a_secret_given_by_mistake(folder, given, recorded):
    """What is refused is recorded before, and without the value."""
    assert 0 != ran(*given).exit_code
    (verb,) = (each.what for each in entries(folder) if each.action == "verb")
    assert {"verb": given[0], "arguments": recorded} == verb


def test_help_that_is_a_value(folder):
    """A verb that runs with `--help` for a value is recorded; one that shows its help is not."""
    ran("keys", "list", "--help")
    ran("audit", "show", "--help")
    assert [] == [*(folder / AUDIT_FOLDER).glob("*")]
    ran("verdict", "--instrument", "--help")
    (verb,) = (each.what for each in entries(folder) if each.action == "verb")
    assert {"verb": "verdict", "arguments": ["--instrument", "--help"]} == verb


def test_show(folder):
    """The newest entries are shown, also of one action; 1 where there is none."""
    assert 1 == ran("audit", "show").exit_code
    ran("keys", "new", "exports")
    ran("keys", "new", "backups")
    shown = json.loads(ran("audit", "show", "--json", "--action", "key", "--last", 1).stdout)
    assert [("key", "cli", "keys")] == [
        (each["action"], each["component"], each["why"]) for each in shown
    ]
    assert "backups-" in shown[0]["what"]["key"]
    assert "backups-" in ran("audit", "show").stdout
    assert 2 == ran("audit", "show", "--action", "nothing").exit_code


def test_verify(folder):
    """0 if all is as it was written, 1 with the place if not, 2 without a log or its key."""
    with pytest.raises(AuditError, match="no audit log"):
        ran("audit", "verify")
    ran("keys", "new", "exports")
    first = ran("audit", "verify")
    assert (0, True) == (first.exit_code, "No fault was found" in first.stdout)
    last = entries(folder)[-1]
    anchor = f"{last.sequence}:{last.mac}"
    assert 0 == ran("audit", "verify", "--anchor", anchor).exit_code

    (file,) = log_files(folder / AUDIT_FOLDER)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-1]))
    cut = ran("audit", "verify", "--anchor", anchor)
    assert (1, f"cut_off: entry {last.sequence} is not there") == (
        cut.exit_code,
        cut.stderr.partition(", and")[0],
    )
    file.write_bytes(b"".join(lines).replace(b'"exports"', b'"backups"'))
    found = ran("audit", "verify", "--json")
    (fault,) = json.loads(found.stdout)["faults"]
    assert (1, "changed", file.name) == (found.exit_code, fault["kind"], fault["file"])


def test_without_the_key(folder, monkeypatch):
    """Entries with a key cannot be checked without it, which is 2 and names the key."""
    ran("keys", "new", "exports")
    monkeypatch.delenv("PIPELINE_MASTER_KEY")
    found = ran("audit", "verify")
    assert (2, True) == (found.exit_code, "unchecked: " in found.stderr)
    assert 2 == ran("audit", "verify", "--anchor", "nonsense").exit_code


def test_a_disk_that_has_to_be_encrypted(folder, monkeypatch):
    """A verb that touches data does not begin on a plain one; those that say so do."""
    monkeypatch.setenv("PIPELINE_REQUIRE_ENCRYPTED_DISK", "true")
    monkeypatch.setattr(
        "market_pipeline.security.disks.disk_of",
        lambda folder: Disk(folder, False, "ext4 on /dev/x"),
    )
    with pytest.raises(SettingsError, match=f"{folder} lies on ext4 on /dev/x, which is not known"):
        ran("verdict")
    assert 0 == ran("keys", "new", "exports").exit_code
    assert 1 == ran("doctor").exit_code


@pytest.mark.slow
class TestRuns:
    def test_a_run_is_recorded(self, workspace: Workspace, runs: Runs):
        """Each partition that a run published is in the log with its hash, and what it read."""
        assert 0 == runs.good.exit_code
        ours = [each for each in entries(workspace.data_dir) if each.component == "run"]
        by = Counter(
            (each.action, each.what["table"]) for each in ours if each.what.get("day") == f"{DAY}"
        )
        month = [each.what for each in ours if each.what.get("days", ("", ""))[1] == f"{DAY}"]
        written = [each.what for each in ours if each.action == "write"]
        books = [each["sha256"] for each in written if each["table"] == "books.bbo"]
        raw = [each["objects"] for each in written if each["table"] == "lake.raw_book_deltas"]
        assert {64} == {len(each[GOOD]) for each in books if GOOD in each}
        assert {64} == {len(sha256) for each in raw for sha256 in each.values()}
        assert by["read", "books.bbo"] > 0
        assert {"quality.validation_report"} == {each["table"] for each in month}
        assert len({each.why for each in ours}) >= 4

    def test_a_read_is_recorded(self, workspace: Workspace, runs: Runs):
        """What a notebook loads is in the log before it is loaded."""
        load_bbo(GOOD, DAY, data_dir=workspace.data_dir)
        last = entries(workspace.data_dir)[-1]
        assert ("read", "books.bbo", [GOOD]) == (
            *(last.action, last.what["table"]),
            last.what["instruments"],
        )

    def test_runs_anchor_the_log(self, workspace: Workspace, runs: Runs):
        """A tail that is cut off is found by what the runs noted in Dagster's event log."""
        whole = workspace.run("audit", "verify", "--json")
        (file,) = log_files(workspace.data_dir / AUDIT_FOLDER)
        content = file.read_bytes()
        file.write_bytes(b"".join(content.splitlines(keepends=True)[:5]))
        cut = workspace.run("audit", "verify")
        file.write_bytes(content)
        report = json.loads(whole.output)
        assert (0, []) == (whole.exit_code, report["faults"])
        assert report["anchors"] >= 1
        assert report["anchored"] > 5
        assert (1, True) == (cut.exit_code, cut.errors.startswith("cut_off: entries 6 to "))
