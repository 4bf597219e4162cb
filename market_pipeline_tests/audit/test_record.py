"""Facts about what is recorded of the package's own accesses, and when an access is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from market_pipeline import connect
from market_pipeline.audit.chain import ChainKey
from market_pipeline.audit.record import (
    AUDIT_FOLDER,
    _Process,
    acting_as,
    anchor,
    outdated_settings,
    record,
    record_settings,
)
from market_pipeline.audit.verify import read_entries, verify
from market_pipeline.config.settings import load_settings
from market_pipeline.errors import AuditError

MASTER = bytes(range(32))
SECRET = base64.b64encode(MASTER).decode()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder in a place without settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("market_pipeline.audit.record._process", _Process())
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def entries(folder: Path) -> list[tuple[str, dict]]:
    return [(each.action, each.what) for each in read_entries(folder / AUDIT_FOLDER)]


def not_writable(folder: Path) -> None:
    """A file in the log's place: who runs the tests may write to every folder."""
    (folder / AUDIT_FOLDER).touch()


class TestRecord:
    def test_a_connection_is_recorded(self, folder: Path):
        """`connect` is in the log before it gives a connection, with who asked."""
        connect(folder).close()
        (entry,) = read_entries(folder / AUDIT_FOLDER)
        assert ("read", "python", os.getpid(), "every table") == (
            *(entry.action, entry.component, entry.process),
            entry.what["table"],
        )

    def test_with_a_master_key(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        """Entries need the key that is derived of the master key for this purpose alone."""
        monkeypatch.setenv("PIPELINE_MASTER_KEY", SECRET)
        record(folder, "read", {})
        found = verify(folder / AUDIT_FOLDER, ChainKey.derived(MASTER))
        assert (1, []) == (found.keyed, found.faults)

    def test_off(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        """Nothing is recorded where the settings say so, and there is no anchor."""
        monkeypatch.setenv("PIPELINE_AUDIT", "off")
        record(folder, "write", {})
        assert (None, []) == (anchor(folder), [*folder.iterdir()])

    def test_nothing_to_read(self, tmp_path: Path):
        """Of a folder that is not there no read is recorded, and none is made."""
        record(tmp_path / "none", "read", {})
        assert not (tmp_path / "none").exists()

    def test_a_change_that_cannot_be_recorded(self, folder: Path):
        """It is refused, with the place and what to do."""
        not_writable(folder)
        for action in ("write", "delete", "key", "secret"):
            with pytest.raises(AuditError, match=f"file={folder / AUDIT_FOLDER}.*PIPELINE_AUDIT"):
                record(folder, action, {})

    def test_a_read_that_cannot_be_recorded(self, folder: Path, caplog: pytest.LogCaptureFixture):
        """It is warned of once, and is done."""
        not_writable(folder)
        with caplog.at_level(logging.WARNING):
            connect(folder).close()
            connect(folder).close()
        (message,) = caplog.messages
        assert message.startswith(f"Reads of {folder} are not in its audit log")

    def test_a_read_that_has_to_be_recorded(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        """With `required` it is refused."""
        monkeypatch.setenv("PIPELINE_AUDIT", "required")
        not_writable(folder)
        with pytest.raises(AuditError):
            connect(folder)

    def test_a_process_that_was_forked(self, folder: Path):
        """It goes on with the chain by a file of its own."""
        record(folder, "read", {"number": 1})
        child = os.fork()
        if not child:
            record(folder, "read", {"number": 2})
            os._exit(0)
        _, status = os.waitpid(child, 0)
        record(folder, "read", {"number": 3})
        found = verify(folder / AUDIT_FOLDER, ChainKey())
        assert (0, 3, []) == (status, found.entries, found.faults)
        assert [1, 2, 3] == [what["number"] for _, what in entries(folder)]


class TestSettings:
    def started(self, **settings: object) -> None:
        record_settings(load_settings(**settings))

    def test_changes_between_two_starts(self, folder: Path):
        """A start records the names of settings that are other than at the one before."""
        self.started()
        self.started(threads=7, bar_seconds=(1, 60))
        self.started(threads=7)
        self.started(threads=7)
        changes = [what["changed"] for action, what in entries(folder) if action == "settings"]
        first, second, third = changes
        assert (["data_dir"], ["bar_seconds", "threads"], ["bar_seconds"]) == (
            *([*first], [*second], [*third]),
        )
        assert (None, True) == (second["threads"][0], len(second["threads"][1]) == 16)
        assert [second["bar_seconds"][1], None] == third["bar_seconds"]

    def test_off_and_on_again(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        """That nothing is recorded is itself recorded, once, and the end of that with all else."""
        record(folder, "read", {"number": 1})
        monkeypatch.setenv("PIPELINE_AUDIT", "off")
        monkeypatch.setattr("market_pipeline.audit.record._process", _Process())
        record(folder, "write", {"number": 2})  # no verb, which would record settings first
        self.started()
        self.started(threads=7)
        monkeypatch.delenv("PIPELINE_AUDIT")
        self.started(threads=7)
        first, off, on = entries(folder)
        assert ("read", "settings", "settings") == (first[0], off[0], on[0])
        assert (None, ["audit", "data_dir"]) == (
            off[1]["changed"]["audit"][0],
            [*off[1]["changed"]],
        )
        assert (None, ["audit", "threads"]) == (on[1]["changed"]["audit"][1], [*on[1]["changed"]])

    @pytest.mark.parametrize("audit", ["on", "off"])
    @pytest.mark.parametrize("has_code", [True, False], ids=["another code", "no code"])
    def test_hashes_of_somebody_else(self, folder: Path, audit: str, has_code: bool):
        """Who edits the hashes beside the log hides no change: they need the key."""
        key = {"master_key": SecretStr(SECRET)}
        self.started(**key)
        path = folder / AUDIT_FOLDER / "settings.json"
        honest = path.read_bytes()
        self.started(**key, threads=7, audit=audit)
        changed = path.read_bytes()
        code = json.loads(honest)["python"]["code"] if has_code else ""
        forged = json.loads(changed) | {"python": json.loads(changed)["python"] | {"code": code}}
        path.write_text(json.dumps(forged))
        self.started(**key, threads=7, audit=audit)
        self.started(**key, threads=7, audit=audit)
        assert [["changed"], ["changed"], ["before"]] == [[*what] for _, what in entries(folder)]

    def test_an_old_file_put_back(self, folder: Path):
        """Hashes of before, genuine as they are, hide a change back; the entries have newer ones.

        One that a kill left is as old, until the next start.
        """
        path = folder / AUDIT_FOLDER / "settings.json"
        self.started()
        old = path.read_bytes()
        self.started(threads=7)
        log = folder / AUDIT_FOLDER
        assert [] == outdated_settings(folder, verify(log, ChainKey()).settings)

        path.write_bytes(old)
        self.started()
        (fault,) = outdated_settings(folder, verify(log, ChainKey()).settings)
        assert ("settings", "of python the log has other hashes: threads") == (
            *(fault.kind, fault.found),
        )
        self.started(threads=7)
        assert [] == outdated_settings(folder, verify(log, ChainKey()).settings)
        assert 3 == len(entries(folder))

    def test_a_file_of_an_earlier_version(self, folder: Path):
        """The hashes and the code of before are as good as those of now: an upgrade is no fault."""
        digests = {"data_dir": hashlib.sha256(f"data_dir={folder!r}".encode()).hexdigest()[:16]}
        covered = json.dumps(sorted(digests.items()), separators=(",", ":")).encode()
        self.started()
        path = folder / AUDIT_FOLDER / "settings.json"
        state = {"digests": digests, "code": ChainKey().code("settings of python", covered)}
        path.write_text(json.dumps({"python": state}))

        found = verify(folder / AUDIT_FOLDER, ChainKey())
        self.started()
        assert ([], 1) == (outdated_settings(folder, found.settings), len(entries(folder)))

    def test_components_that_start_at_once(self, folder: Path):
        """None puts the hashes of before in the place of another's."""
        verbs, children = [f"verb-{number}" for number in range(8)], []
        for verb in verbs:
            children.append(child := os.fork())
            if not child:
                acting_as(verb)
                self.started()
                os._exit(0)
        assert {0} == {os.waitpid(child, 0)[1] for child in children}
        found = verify(folder / AUDIT_FOLDER, ChainKey())
        assert (verbs, []) == (
            *(sorted(found.settings), outdated_settings(folder, found.settings)),
        )

    def test_no_value(self, folder: Path):
        """No value of a setting is in the log or beside it."""
        self.started(master_passphrase=SecretStr("sixteen characters!"), lake_region="atlantis-1")
        text = "".join(path.read_text() for path in (folder / AUDIT_FOLDER).iterdir())
        assert (True, False, False, False) == (
            *("master_passphrase" in text, "sixteen" in text),
            *("atlantis" in text, str(folder) in text),
        )

    def test_a_secret_has_a_hash_with_a_key_alone(self, folder: Path):
        """Without a master key the log says of a secret that it is set: its hash could be tried."""
        urls = {"alert_slack_urls": "https://hooks.example/guessable"}
        self.started(**urls)
        self.started(**urls, master_key=SecretStr(SECRET))
        (_, plain), (_, keyed) = entries(folder)
        before, after = keyed["changed"]["alert_slack_urls"]
        assert ("set", "set", 16) == (plain["changed"]["alert_slack_urls"][1], before, len(after))
