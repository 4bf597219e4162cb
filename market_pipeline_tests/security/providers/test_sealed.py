"""The sealed file of secrets, by its verbs."""

from __future__ import annotations

import base64
import json
import stat

import pytest
from typer.testing import CliRunner

from market_pipeline.audit.record import AUDIT_FOLDER
from market_pipeline.audit.verify import read_entries
from market_pipeline.cli.app import app
from market_pipeline.config.settings import load_settings
from market_pipeline.doctor.run import run_doctor
from market_pipeline.errors import SettingsError
from market_pipeline.security.providers import sealed

MASTER = base64.b64encode(bytes(range(32))).decode()
HOOK = "https://hooks.example/services/T0K3Nabc"


@pytest.fixture(autouse=True)
def master(monkeypatch, folder, setting):
    """A master key, a data folder, and the sealed file as the provider."""
    monkeypatch.setenv("PIPELINE_MASTER_KEY", MASTER)
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(folder / "data"))
    setting(provider="sealed", lifetime_seconds=1e-6)
    (folder / "data").mkdir(mode=0o700)
    return folder / "data" / "keys"


def ran(*arguments: str, typed: str = ""):
    done = CliRunner().invoke(app, ["secrets", *arguments], input=typed)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def hooks():
    found = load_settings().alert_slack_urls
    return found and found.get_secret_value()


def test_a_life_of_secrets(master):
    """What is set is read by the next settings, listed by name alone, sealed anew and taken out."""
    assert (1, None) == (ran("list")[0], hooks())
    code, out = ran("set", "alert_slack_urls", typed=f"{HOOK}\n")
    assert (0, False, HOOK) == (code, HOOK in out, hooks())
    ran("set", "AWS_SECRET_ACCESS_KEY", typed="s3cr3t-key")
    names = ["AWS_SECRET_ACCESS_KEY", "PIPELINE_ALERT_SLACK_URLS"]
    assert names == json.loads(ran("list", "--json")[1])
    before = (master / "secrets.sealed").read_bytes()
    assert 0 == ran("rotate")[0]
    assert (True, HOOK) == (before != (master / "secrets.sealed").read_bytes(), hooks())
    ran("set", "alert_slack_urls", typed="https://rotated.example/x")
    assert "https://rotated.example/x" == hooks()
    assert [0, 1] == [ran("remove", "alert_slack_urls")[0] for _ in range(2)]
    assert hooks() is None
    files = [path for path in master.rglob("*") if path.is_file()]
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in files}
    assert [] == [path for path in files if b"s3cr3t-key" in path.read_bytes()]


def test_changes_are_recorded(master):
    """Each change is an entry of the audit log with the name alone."""
    ran("set", "alert_slack_urls", typed=HOOK)
    ran("rotate")
    ran("remove", "alert_slack_urls")
    ran("list")
    entries = [*read_entries(master.parent / AUDIT_FOLDER)]

    assert [
        {"name": "PIPELINE_ALERT_SLACK_URLS", "done": "set"},
        {"name": "*", "done": "sealed anew"},
        {"name": "PIPELINE_ALERT_SLACK_URLS", "done": "removed"},
    ] == [each.what for each in entries if each.action == "secret"]


def test_the_doctor_asks(master):
    """The doctor names what the provider gives, and no value; nothing is worth a warning."""

    def finding():
        (found,) = [each for each in run_doctor().findings if each.name == "secrets"]
        return found

    assert "warn" == finding().status
    ran("set", "alert_slack_urls", typed=HOOK)
    assert ("ok", "sealed gives PIPELINE_ALERT_SLACK_URLS") == (finding().status, finding().found)


def test_only_secrets(master):
    """A setting that is no secret, and no value, are refused."""
    assert [2, 2, 2] == [
        ran("set", "threads", typed="1")[0],
        ran("set", "alert_slack_urls", typed="")[0],
        ran("remove", "nothing_known")[0],
    ]


def test_killed_while_it_is_replaced(master, monkeypatch):
    """Wherever a kill comes, the file holds all of before or of after, and the next set works."""
    ran("set", "alert_slack_urls", typed=HOOK)
    write_slots = sealed.write_slots
    writes = iter(range(100))
    for last in range(2):

        def killed(*arguments, last=last):
            if next(writes) % 2 == last:
                raise KeyboardInterrupt
            return write_slots(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(sealed, "write_slots", killed)
            ran_out = CliRunner().invoke(
                app, ["secrets", "set", "alert_slack_urls"], input=f"https://{last}.example/x"
            )
        assert 0 != ran_out.exit_code
        assert hooks() in (HOOK, f"https://{last}.example/x")
    ran("set", "alert_slack_urls", typed="https://after.example/x")
    assert "https://after.example/x" == hooks()


def test_another_master_key(master, monkeypatch):
    """With another master key the error names the provider, and neither key nor secret."""
    ran("set", "alert_slack_urls", typed=HOOK)
    other = base64.b64encode(bytes(range(1, 33))).decode()
    monkeypatch.setenv("PIPELINE_MASTER_KEY", other)
    monkeypatch.setenv("PIPELINE_SECRETS__LIFETIME_SECONDS", "7")  # nothing of before is used
    with pytest.raises(SettingsError) as raised:
        load_settings()
    (problem,) = raised.value.problems
    assert (True, False) == ("provider sealed" in problem, other in problem or HOOK in problem)
