"""What a backup copies once, what it archives each time, and what it leaves out."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import tarfile
import threading
import time
from contextlib import closing

import duckdb
import pytest

from market_pipeline.audit.log import log_files
from market_pipeline.audit.record import AUDIT_FOLDER
from market_pipeline.backup.create import create
from market_pipeline.config.settings import load_settings
from market_pipeline.errors import BackupError, SealError, SettingsError
from market_pipeline.security.disks import disk_of
from market_pipeline.security.envelope import read_all_slots
from market_pipeline.security.files import find_sealed, rewrap
from market_pipeline.security.master import ring_of
from market_pipeline.security.sealing import seal_in_place
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.working_file import writing
from market_pipeline_tests.backup.place import HOUR, LONG, SEALED_HOUR
from market_pipeline_tests.defs.workspace import PATIENCE_SECONDS, forks
from market_pipeline_tests.security.keys import MASTER_TEXT, use_keys

COPIED = {f"lake/{HOUR}", "data/golden/calm/manifest.json"}
ARCHIVED = {
    "config.yaml",
    "instruments.yaml",
    "dagster_home/history/runs.db",
    *(f"data/state/{name}" for name in ("alerts.sqlite", "working.duckdb")),
    *("data/audit/000000000001.jsonl", "data/live/binance/bars.jsonl"),
    *("data/keys/passphrase.salt",),
}
RAW = "lake/book_delta_v2/exchange=B/symbol=X/dt=2024-08-08/1.parquet"
TABLES = {f"data/tables/books/bbo/{name}" for name in ("_delta_log/0.json", "1.parquet")}


def test_what_there_is(place):
    """It has what cannot be made again, and only that; by option also raw days and tables."""
    made = place.create()
    place.restore("back")
    assert COPIED | ARCHIVED == place.files("back").keys()
    assert (2, len(LONG) + 2, 0, len(ARCHIVED), [], []) == (
        made.copied,
        made.copied_bytes,
        made.there,
        made.archived,
        made.left_out,
        made.removed,
    )
    more = place.create(raw=True, tables=True)
    place.restore("more")
    assert {RAW} | TABLES == place.files("more").keys() - place.files("back").keys()
    assert (3, 2) == (more.copied, more.there)


def test_nothing_is_copied_twice(place, monkeypatch):
    """What was copied is neither read nor written again, and the oldest states go."""
    monkeypatch.setenv("PIPELINE_BACKUP_STATES", "2")
    made = [place.create()]
    os.utime(place.lake / HOUR, ns=(1, 1))  # hashed again, and found to be what it was
    made.append(place.create())
    copies = place.files("backup/copies")
    monkeypatch.setattr("market_pipeline.backup._hashes._sha256", None)
    made.append(place.create())
    assert [(2, 0), (0, 2), (0, 2)] == [(each.copied, each.there) for each in made]
    assert (copies, [made[0].state]) == (place.files("backup/copies"), made[2].removed)
    assert [each.state for each in made[1:]] == place.names()
    assert {f"{name}.{kind}" for name in place.names() for kind in ("tar", "json")} == {
        *place.files("backup/states")
    }


def test_half_of_a_copy_is_copied_again(place):
    """A copy that a disk cut short is none."""
    place.create()
    (copy,) = (path for path in place.folder.rglob("*") if path.stat().st_size == len(LONG))
    os.truncate(copy, 100)
    assert ["00_host.recording" in each for each in place.verify().faults] == [True]
    assert (1, 1) == place.create()[1:4:2]
    assert [] == place.verify().faults


def test_databases_are_of_one_moment(place):
    """While others write, each database is what it was between two transactions."""
    ended = threading.Event()

    def write():
        with closing(sqlite3.connect(place.home / "history/runs.db")) as database:
            while not ended.is_set():
                with database:
                    database.execute("INSERT INTO runs SELECT max(run) + 1 FROM runs")
                with writing(Warehouse(place.data)) as connection:
                    connection.execute("INSERT INTO kept SELECT max(row) + 1 FROM kept")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        place.create()
    finally:
        ended.set()
        writer.join()
    place.restore()
    with closing(sqlite3.connect(place.root / "back/dagster_home/history/runs.db")) as database:
        ((runs, last),) = database.execute("SELECT count(*), max(run) FROM runs").fetchall()
        assert [("ok",)] == database.execute("PRAGMA integrity_check").fetchall()
    with duckdb.connect(place.root / "back/data/state/working.duckdb") as connection:
        ((rows, newest),) = connection.execute("SELECT count(*), max(row) FROM kept").fetchall()
    assert (runs, rows) == (last, newest)


def test_sealed(place, monkeypatch):
    """Every file of it is sealed, but for the ring; a capture that lay sealed is as it lay."""
    place.create()
    use_keys(monkeypatch, place.data, "captures", "backups", seal="backups")
    place.seal_an_hour()
    made = place.create()
    plain = {path for path in place.files() if not path.endswith((".sealed", ".sealed.keys"))}
    old = {f"states/{place.names()[0]}.{kind}" for kind in ("tar", "json")}
    assert {*old, "keys/ring.json", "keys/passphrase.salt"} == plain
    assert (1, 2, []) == (made.copied, made.there, place.verify().faults)
    place.restore()
    hour = place.files("back")
    for name in (f"{SEALED_HOUR}.sealed", f"{SEALED_HOUR}.sealed.keys"):
        assert (place.lake / name).read_bytes() == hour[f"lake/{name}"]
    assert hour[f"lake/{HOUR}"] == LONG


def test_a_capture_given_to_another_key(place, monkeypatch):
    """A copy that a rotation did not see is opened by the key that opens the capture."""
    ring = use_keys(monkeypatch, place.data, "captures")
    place.seal_an_hour()
    place.create()
    new = ring.new("captures")
    sealed = place.lake / f"{SEALED_HOUR}.sealed"
    assert 0 < rewrap(sealed, ring)
    assert (0, 3) == place.create()[1:4:2]
    (copy,) = find_sealed([place.folder])
    assert [new.id] == [slot.key for each in read_all_slots(copy).values() for slot in each]
    assert [] == place.verify().faults


def test_a_live_file_that_somebody_sealed(place, monkeypatch):
    """Nobody writes to it any more, so it is copied as it lies, however new it is."""
    ring = use_keys(monkeypatch, place.data, "captures")
    seal_in_place(place.data / "live/binance/bars.jsonl", ring, "captures")
    assert (3, []) == (place.create().copied, place.restore().faults)
    found = {path for path in place.files("back") if "bars" in path}
    assert {f"data/live/binance/bars.jsonl{end}" for end in (".sealed", ".sealed.keys")} == found


def test_a_copy_without_what_opens_it_is_none(place, monkeypatch):
    """Its slots were lost, so it is copied again."""
    use_keys(monkeypatch, place.data, "backups", seal="backups")
    place.create()
    for slots in place.folder.glob("copies/??/*.keys"):
        slots.unlink()
    assert (2, []) == (place.create().copied, place.verify().faults[2:])


def test_a_host_that_seals_and_does_not_open(place, monkeypatch):
    """It makes backups that another host reads, and copies nothing twice."""
    public = use_keys(monkeypatch, place.root / "other").new("backups", pair=True).public_text
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(place.data))
    monkeypatch.delenv("PIPELINE_MASTER_KEY")
    ring_of(load_settings()).adopt(public)
    monkeypatch.setenv("PIPELINE_SEAL", "backups")
    assert [(2, 0), (0, 2)] == [place.create()[1:4:2] for _ in range(2)]
    assert ["no master key is set" in each for each in place.verify().faults] == [True, True]
    monkeypatch.setenv("PIPELINE_MASTER_KEY", MASTER_TEXT)
    assert [] == place.verify().faults


def test_without_a_key_nothing_is_begun(place, monkeypatch):
    """Backups that are to be sealed, and cannot be, are none."""
    monkeypatch.setenv("PIPELINE_SEAL", "backups")
    with pytest.raises(SealError, match="keys new backups"):
        place.create()
    assert {} == place.files()


def test_a_disk_that_is_to_be_encrypted(place, monkeypatch):
    """What is not sealed goes to no disk that is not known to be encrypted."""
    if disk_of(place.folder).is_encrypted:
        pytest.skip("temporary files lie on an encrypted disk")
    use_keys(monkeypatch, place.data, "backups")
    monkeypatch.setenv("PIPELINE_REQUIRE_ENCRYPTED_DISK", "true")
    with pytest.raises(SettingsError, match=f"require_encrypted_disk: {place.folder}"):
        place.create()
    monkeypatch.setenv("PIPELINE_SEAL", "backups")
    assert [] == place.create().left_out


def test_private_and_recorded(place):
    """Files and folders are their owner's, the log has what was made, and the end is stamped."""
    made = place.create(tables=True)
    assert {0o600, 0o700} == {stat.S_IMODE(each.stat().st_mode) for each in place.folder.rglob("*")}
    (log,) = log_files(place.data / AUDIT_FOLDER)
    entries = [json.loads(line) for line in log.read_bytes().splitlines()]
    recorded = [each["what"]["state"] for each in entries if each["what"].get("kind") == "backup"]
    assert [made.state] == recorded
    ended = load_settings().backup_ended
    assert (place.data / "state/backup-ended", True) == (ended, ended.is_file())


def test_what_is_left_out_is_named(place):
    """A link is not followed, and a name has to be text; such a backup has not ended well."""
    moved = (place.data / "state/alerts.sqlite").rename(place.root / "alerts.sqlite")
    (place.data / "state/alerts.sqlite").symlink_to(moved)
    for folder in ("live", "golden"):
        (place.data / folder / "linked").symlink_to(place.lake)
    for folder in ("golden", "live"):
        (place.data / folder / os.fsdecode(b"\xff")).touch()
    made = place.create()
    link, name = "a link, which is not followed", "no manifest can hold its name. Rename it."
    assert [
        f"{place.data}/state/alerts.sqlite: {link}",
        f"{place.data}/live/linked: {link}",
        f"{place.data}/live/\\udcff: {name}",
        f"{place.data}/golden/linked: {link}",
        f"{place.data}/golden/\\udcff: {name}",
    ] == made.left_out
    assert not (place.data / "state/backup-ended").exists()


def test_settings_that_are_mounted_by_a_link(place):
    """They are what the link leads to, as the settings name them."""
    for name in ("instruments.yaml", "config.yaml"):
        moved = (place.root / name).rename(place.root / f"mounted.{name}")
        (place.root / name).symlink_to(moved)
    assert [] == place.create().left_out
    place.restore()
    assert b"threads: 2\n" == place.files("back")["config.yaml"]
    assert b"instruments: []\n" == place.files("back")["instruments.yaml"]


def test_settings_of_one_name(place, monkeypatch):
    """The second one is named as left out, as the first lies where it would be restored."""
    (place.root / "other").mkdir()
    other = (place.root / "instruments.yaml").rename(place.root / "other/config.yaml")
    monkeypatch.setenv("PIPELINE_INSTRUMENTS_FILE", str(other))
    (left_out,) = place.create().left_out
    assert left_out.startswith(f"{place.root}/config.yaml: another file of settings has its name")
    place.restore()
    assert b"instruments: []\n" == place.files("back")["config.yaml"]


@pytest.mark.parametrize("folder", ["none", "data/backup", "."])
def test_a_folder_that_is_none(place, monkeypatch, folder):
    """A disk that is not mounted, and a folder inside of what is copied or around it."""
    (place.data / "backup").mkdir()
    monkeypatch.setenv("PIPELINE_BACKUP_FOLDER", str(place.root / folder))
    with pytest.raises(SettingsError, match="backup_folder"):
        place.create()


def test_a_clock_that_was_ahead(place):
    """No state is put before one that there is."""
    place.create()
    for path in list((place.folder / "states").iterdir()):
        path.rename(path.with_name(f"3{path.name[1:]}"))
    with pytest.raises(BackupError, match="of a time to come"):
        place.create()


def test_the_archive_is_a_tar(place):
    """Any tool unpacks it, and finds the files under the names that they are restored to."""
    place.create()
    (path,) = place.folder.glob("states/*.tar")
    with tarfile.open(path) as archive:
        names = {name.removeprefix("settings/") for name in archive.getnames()}
        rows = archive.extractfile("settings/config.yaml").read()
    assert (ARCHIVED, b"threads: 2\n") == (names, rows)


def test_a_full_disk(place, full_at):
    """The error is the machine's, no state is there, and the one of before is whole."""
    place.create()
    (place.lake / HOUR.replace("00", "02")).write_bytes(LONG * 2)
    with full_at(len(LONG)), pytest.raises(OSError, match="File too large"):
        place.create()
    assert (1, []) == (len(place.names()), place.verify().faults)
    assert [] == [path for path in place.files() if "partial" in path]
    assert 1 == place.create().copied


def back_up_for_ever(root, environment, ready):
    os.chdir(root)
    os.environ.clear()
    os.environ.update(environment)
    ready.set()
    while True:
        create(load_settings(), root / "home", raw=True, tables=True)


def test_what_a_kill_left_of_the_ring(place, monkeypatch):
    """The next backup removes what was written of the ring's copy, as it does of others."""
    use_keys(monkeypatch, place.data, "backups", seal="backups")
    place.create()
    (place.root / "backup/keys" / f"ring.json.{'0' * 32}.partial").write_bytes(b"{")
    place.create()
    assert [] == [path for path in place.files() if "partial" in path]
    assert "keys/ring.json" in place.files()


@pytest.mark.slow
def test_killed_at_any_moment(place, monkeypatch):
    """Every state that is there is whole, and the next backup removes what was left."""
    use_keys(monkeypatch, place.data, "captures", "backups", seal="backups")
    monkeypatch.setenv("PIPELINE_BACKUP_STATES", "3")
    place.create()
    for number in range(5):
        (place.lake / HOUR.replace("00", f"{number + 2:02}")).write_bytes(LONG[number:] * 3)
        ready = forks().Event()
        process = forks().Process(target=back_up_for_ever, args=(place.root, {**os.environ}, ready))
        process.start()
        assert ready.wait(PATIENCE_SECONDS)
        time.sleep(number / 8)
        process.kill()
        process.join()
        assert place.names()
        assert [] == place.verify().faults
    place.create(raw=True, tables=True)
    assert [] == [path for path in place.files() if "partial" in path]
    sealed = {path for path in place.files() if path.endswith(".sealed")}
    assert {f"{path}.keys" for path in sealed} == {
        path for path in place.files() if path.endswith(".sealed.keys")
    }
    states = {path for path in sealed if path.startswith("states/")}
    assert states == {
        f"states/{name}.{kind}.sealed" for name in place.names() for kind in ("json", "tar")
    }
