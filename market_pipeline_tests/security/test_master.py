"""The master key from a file and from a passphrase, each in its odd states."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from market_pipeline.config.security import SecuritySettings
from market_pipeline.doctor.run import run_doctor
from market_pipeline.errors import SettingsError
from market_pipeline.security import master
from market_pipeline.security.master import master_key
from market_pipeline.security.ring import KeyRing
from market_pipeline_tests.security.keys import use_keys

PASSPHRASE = SecuritySettings(master_passphrase="correct horse battery")


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    monkeypatch.setattr(master, "_COST", 2)


def refusal(settings, folder):
    with pytest.raises(SettingsError) as caught:
        master_key(settings, folder)
    return str(caught.value)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, os.fspath], ids=["pipe", "folder", "none"])
def test_no_regular_file(tmp_path, make):
    """A pipe, a folder, or nothing where the key should lie is an error at once."""
    make(tmp_path / "key")
    if (tmp_path / "key").exists():
        (tmp_path / "key").chmod(0o600)
    assert str(tmp_path / "key") in refusal(
        SecuritySettings(master_key_file=tmp_path / "key"), tmp_path
    )


@pytest.mark.parametrize("size", [32, 1 << 30])
def test_a_file_of_something_else(tmp_path, size):
    """Raw bytes, of which none is shown, and a huge file, of which little is read, are refused."""
    path = tmp_path / "key"
    path.write_bytes(b"\xff" * 32)
    os.truncate(path, size)
    path.chmod(0o600)
    text = refusal(SecuritySettings(master_key_file=path), tmp_path)
    assert "bytes" in text
    assert "0xff" not in text


def test_two_make_the_salt_at_once(tmp_path):
    """All that start together with a passphrase have one master key."""
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: master_key(PASSPHRASE, tmp_path / "keys"), range(8)))
    assert 1 == len(found)


def test_a_lost_salt_is_not_replaced(tmp_path):
    """With another one nothing would open, and what is sealed then would be lost as well."""
    KeyRing(tmp_path, master_key(PASSPHRASE, tmp_path)).new("exports")
    (tmp_path / "passphrase.salt").unlink()
    assert "passphrase.salt" in refusal(PASSPHRASE, tmp_path)
    assert not (tmp_path / "passphrase.salt").exists()


def test_doctor_says_what_has_no_key(tmp_path, monkeypatch):
    """A key for each that is to be sealed is well, one that is missing is an error with the
    command that makes it; where nothing is to be sealed there is no finding.
    """

    def found():
        return [(each.status, each) for each in run_doctor().findings if each.name == "sealing"]

    monkeypatch.chdir(tmp_path)
    ring = use_keys(monkeypatch, tmp_path / "data", "captures")
    assert [] == found()
    monkeypatch.setenv("PIPELINE_SEAL", "captures,raw")
    ((status, finding),) = found()
    assert ("error", True) == (status, "keys new raw" in finding.next_step)
    key = ring.new("raw")
    ((status, finding),) = found()
    assert ("ok", True) == (status, key.id in finding.found)
