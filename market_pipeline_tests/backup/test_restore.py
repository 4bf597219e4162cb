"""What is read back of a backup: all of it, or an error that says what is wrong and where."""

from __future__ import annotations

import hashlib
import os
import random
import shutil

import msgspec
import pytest

from market_pipeline.backup.restore import restore, ring_for, unnamed
from market_pipeline.backup.states import States
from market_pipeline.config.settings import load_settings
from market_pipeline.errors import BackupError, SealError
from market_pipeline_tests.backup.place import HOUR, LONG
from market_pipeline_tests.security.keys import use_keys


@pytest.fixture(params=["plain", "sealed"])
def backed_up(place, monkeypatch, request):
    """A state, and what it was made of."""
    if request.param == "sealed":
        use_keys(monkeypatch, place.data, "captures", "backups", seal="backups")
        place.seal_an_hour()
    place.create()
    return place


def test_a_flipped_byte(backed_up):
    """Of whatever file of the backup, and wherever it is: it is found, and the file is named."""
    chosen = random.Random(3)
    for path in sorted(backed_up.folder.rglob("*")):
        if not path.is_file() or path.parent.name == "keys":
            continue
        whole = path.read_bytes()
        places = {0, len(whole) // 2, len(whole) - 1, chosen.randrange(len(whole))}
        if path.suffix == ".tar":  # what pads it, and heads its files, is read by nobody here
            places = {len(whole) // 2}
        for place in places:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            faults = backed_up.verify().faults
            assert faults, f"{path} at {place}"
        path.write_bytes(whole)
    assert [] == backed_up.verify().faults


def test_a_file_that_is_not_whole_holds_up_no_other(backed_up):
    """It is named and left out; all others are restored, with their bytes and times."""
    for copy in backed_up.folder.glob("copies/??/*"):
        if hashlib.sha256(LONG).hexdigest() in copy.name and copy.suffix != ".keys":
            copy.unlink()
    found = backed_up.restore()
    (fault,) = found.faults
    assert fault.startswith(f"lake/{HOUR}: ")
    entries = States(backed_up.folder, ring_for(load_settings(), backed_up.folder))
    wanted = [e for e in entries.read(found.states[0]).entries if e.name != f"lake/{HOUR}"]
    restored = backed_up.files("back")
    assert {each.name: each.sha256 for each in wanted} == {
        name: hashlib.sha256(content).hexdigest()
        for name, content in restored.items()
        if not name.startswith("lake/") or not name.endswith(".keys")
    }
    times = {(backed_up.root / "back" / each.name).stat().st_mtime_ns for each in wanted}
    assert {each.changed_ns for each in wanted} == times


def test_the_data_folder_is_lost(place, monkeypatch):
    """The backup and the master key are enough; with another one nothing is restored."""
    use_keys(monkeypatch, place.data, "captures", "backups", seal="backups")
    place.create()
    shutil.rmtree(place.data)
    shutil.rmtree(place.lake)
    monkeypatch.setenv("PIPELINE_SEAL", "")
    monkeypatch.setenv("PIPELINE_MASTER_KEY", f"{'A' * 43}=")
    with pytest.raises(SealError, match="the master key is not the one"):
        place.restore()
    monkeypatch.delenv("PIPELINE_MASTER_KEY")
    with pytest.raises(SealError, match="no master key is set"):
        place.restore()
    assert not (place.root / "back").exists()
    use_keys(monkeypatch, place.root / "other", seal="")
    assert [] == place.restore().faults
    assert LONG == (place.root / "back/lake" / HOUR).read_bytes()


def test_an_empty_folder_only(place):
    """What lies there already is not touched."""
    place.create()
    (place.root / "back").mkdir()
    (place.root / "back/mine").touch()
    with pytest.raises(BackupError, match="empty folder only"):
        place.restore()
    with pytest.raises(BackupError, match="no such state"):
        restore(place.folder, None, "none", place.root / "other")
    assert {"mine": b""} == place.files("back")


def test_a_manifest_that_somebody_made(place):
    """Paths that leave their folder, and what is no size, time or hash: no file is written."""
    path = States(place.folder, None).manifest(place.create().state)
    whole = msgspec.json.decode(path.read_bytes().splitlines()[1])
    for field, value in (
        ("path", "../config.yaml"),
        ("path", "a\0b"),
        ("sha256", "../../../instruments.yaml"),
        ("size", -1),
        ("offset", 1 << 63),
        ("changed_ns", 1 << 63),
    ):
        entries = [{**whole["entries"][0], field: value}, *whole["entries"][1:]]
        text = msgspec.json.encode({**whole, "entries": entries})
        path.write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text + b"\n")
        with pytest.raises(BackupError, match="manifest of a state is damaged"):
            place.restore()
    assert not (place.root / "back").exists()


def test_a_pipe_in_the_place_of_a_copy(place):
    """It is named, and nobody waits for what comes out of it."""
    place.create()
    copies = list(place.folder.glob("copies/??/*"))
    for copy in copies:
        copy.unlink()
        os.mkfifo(copy)
    assert len(copies) == len(place.verify().faults) == len(place.restore().faults)


def test_copies_that_no_state_names(place, monkeypatch):
    """A file that was pruned has its copy, until somebody has it removed."""
    monkeypatch.setenv("PIPELINE_BACKUP_STATES", "1")
    place.create()
    (place.lake / HOUR).unlink()
    names = [place.create().state]
    (copy,) = unnamed(place.folder, None, names)
    assert LONG == copy.read_bytes()


def test_without_a_state_no_copy_goes(place):
    """States that are elsewhere may need them all."""
    with pytest.raises(BackupError, match="nobody knows which copies"):
        [*unnamed(place.folder, None, [])]
