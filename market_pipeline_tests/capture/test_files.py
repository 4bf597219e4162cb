"""The recorder's files: sealed once their hour is over, where the settings say so."""

from __future__ import annotations

import base64
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.capture import files as files_module
from market_pipeline.capture.files import RecordingFiles, recording_files
from market_pipeline.config.settings import Settings, load_settings
from market_pipeline.errors import SealError
from market_pipeline.security.master import ring_of
from market_pipeline.security.stored import is_sealed, open_stored
from market_pipeline.sources.recording import read_recording, recover
from market_pipeline.sources.recording.check import FileState, find_recordings, read_facts
from market_pipeline.sources.recording.format import Entry
from market_pipeline.sources.recording.hours import HOUR_NS
from market_pipeline.sources.recording.journal import recover_journals
from market_pipeline_tests.security.keys import use_keys

VENUE = {"capture__venue": "binance_spot", "capture__symbols": ["BTCUSDT"]}


def put(files: RecordingFiles, entry: Entry) -> None:
    files.append([entry])
    files.turn()
    files.settle([entry])


def recorded(settings: Settings, hours: int, payload: bytes = b"{}") -> None:
    """Records a frame at the end of each of the hours before this one, and one now."""
    now_ns = time.time_ns()
    with recording_files(lambda: settings) as files:
        for hour in range(hours, -1, -1):
            wall_ns = now_ns - hour * 2 * HOUR_NS
            put(files, Entry("BTCUSDT", 0, wall_ns, wall_ns, 1, "depth:BTCUSDT", payload))
        open_now = [
            path for path in find_recordings([settings.lake_path]) if path.name.endswith(".partial")
        ]
        assert 1 == len(open_now)  # the hour that goes on is plain
        files.close()


def found(settings: Settings) -> list[Path]:
    return find_recordings([settings.lake_path])


def test_sealed_when_the_hour_is_over(tmp_path, monkeypatch):
    """Every closed file is sealed by the end, those that a run left plain as well, and all are
    read as before.
    """
    use_keys(monkeypatch, tmp_path / "data", "captures")
    recorded(load_settings(**VENUE), 1)
    plain = {path: path.read_bytes() for path in found(load_settings())}
    assert [False, False] == [is_sealed(path) for path in plain]
    monkeypatch.setenv("PIPELINE_SEAL", "captures")
    settings = load_settings(**VENUE)
    recorded(settings, 2)
    files = found(settings)
    assert 5 == len(files)
    assert [FileState.CLOSED] * 5 == [read_facts(path).state for path in files]
    new = [path for path in files if path not in plain]
    assert [True] * 3 == [is_sealed(path) for path in new]
    with recording_files(lambda: settings):
        until = time.monotonic() + 30
        while not all(map(is_sealed, plain)) and time.monotonic() < until:
            time.sleep(0.01)
    assert list(plain.values()) == [open_stored(path).read() for path in plain]


def test_no_key_no_start(tmp_path, monkeypatch):
    """Who asks for sealed captures and has no key for them records nothing, and is told."""
    use_keys(monkeypatch, tmp_path / "data", seal="captures")
    settings = load_settings(**VENUE)
    with pytest.raises(SealError, match="keys new captures"), recording_files(lambda: settings):
        pass


def test_another_master_key(tmp_path, monkeypatch):
    """What is closed after it took the old one's place is sealed by a key of the new one."""
    ring = use_keys(monkeypatch, tmp_path / "data", "captures", seal="captures")
    settings = load_settings(**VENUE)
    with recording_files(lambda: load_settings(**VENUE)) as files:
        ring.destroy(ring.active("captures").id)
        monkeypatch.setenv("PIPELINE_MASTER_KEY", base64.b64encode(bytes(32)).decode())
        made = ring_of(load_settings()).new("captures")
        now_ns = time.time_ns()
        put(files, Entry("BTCUSDT", 0, now_ns, now_ns, 1, "depth:BTCUSDT", b"{}"))
        files.close()
    (path,) = found(settings)
    assert is_sealed(path)
    assert made.id in path.with_name(f"{path.name}.sealed.keys").read_text()


def test_what_cannot_be_sealed_stays_plain(tmp_path, monkeypatch, caplog):
    """A key that is destroyed meanwhile costs nothing of the record, and is reported."""
    ring = use_keys(monkeypatch, tmp_path / "data", "captures", seal="captures")
    settings = load_settings(**VENUE)
    with recording_files(lambda: settings) as files:
        ring.destroy(ring.active("captures").id)
        now_ns = time.time_ns()
        put(files, Entry("BTCUSDT", 0, now_ns, now_ns, 1, "depth:BTCUSDT", b"{}"))
        files.close()
    (path,) = found(settings)
    assert (FileState.CLOSED, False) == (read_facts(path).state, is_sealed(path))
    assert "no key for captures" in caplog.text


class Killed(BaseException):
    """The end of the process, in the middle of a write."""


def ended_at(write: int, size: int) -> Callable[[int, bytes, int], int]:
    """A `pwrite` that is the end of the process at its so-many-th call, after some bytes."""
    left, pwrite = [write], os.pwrite

    def written(file: int, data: bytes, offset: int) -> int:
        left[0] -= 1
        if left[0] == 0:
            pwrite(file, data[:size], offset)
            raise Killed
        return pwrite(file, data, offset)

    return written


@given(
    steps=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    write=st.integers(1, 40),
    size=st.integers(0, 300),
)
@settings(max_examples=25, deadline=None)
def test_ended_in_any_write(tmp_path_factory, steps, write, size):
    """Wherever the process ends, after any appends and settlings, each entry that the system was
    given is in the files once, and nothing else but what was being given is.
    """
    folder, now_ns, given_ns = tmp_path_factory.mktemp("ended"), time.time_ns(), Counter[int]()
    files, at, waiting = RecordingFiles(folder / "lake", *("BINANCE", "host", "run")), 0, []
    some: list[Entry] = []
    (folder / "lake").mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "pwrite", ended_at(write, size))
        with suppress(Killed):
            for step in steps:
                if step == 0:  # else so many are appended
                    files.turn()
                    files.settle(waiting)
                    waiting = []
                some = []
                for _ in range(step):
                    at, wall_ns = at + 1, now_ns + at % 4 // 3 * HOUR_NS
                    some.append(Entry("AB"[at % 2], 0, wall_ns, at, 1, "depth", b"%d" % at * 9))
                if some:
                    files.append(some)
                waiting += some
                given_ns.update(each.monotonic_ns for each in some)
                some = []
    left = shutil.copytree(folder / "lake", folder / "left", dirs_exist_ok=True)
    list(recover_journals(left))
    for partial in left.rglob("*.partial"):
        recover(partial)
    found = Counter(
        record.monotonic_ns
        for path in find_recordings([left])
        for chunk in read_recording(path)
        for record in chunk.records()
    )
    assert found in (given_ns, given_ns + Counter(each.monotonic_ns for each in some))
    assert [] == [*left.rglob("*.partial")]


def test_journals_of_a_file_that_refuses(tmp_path, monkeypatch):
    """While a file of a symbol cannot be made, all is in journals, of so many bytes at most; once
    it can, all is in files and there is no journal.
    """
    monkeypatch.setattr(files_module, "BACKLOG_BYTES", 2_000)
    files, now_ns = RecordingFiles(tmp_path, "BINANCE", "host", "run"), time.time_ns()
    (tmp_path / "BINANCE").mkdir()
    (tmp_path / "BINANCE" / "BTCUSDT").touch()
    for at in range(9):
        with pytest.raises(OSError, match="BTCUSDT"):
            put(files, Entry("BTCUSDT", 0, now_ns, at, 1, "depth", b"x" * 500))
    journals = list(tmp_path.rglob("*.journal"))
    assert 3 + 1 == len(journals)  # the last may be of any size
    (tmp_path / "BINANCE" / "BTCUSDT").unlink()
    files.turn()
    files.settle([])
    files.close()
    (path,) = find_recordings([tmp_path])
    assert (9, []) == (read_facts(path).records, list(tmp_path.rglob("*.journal")))


def test_a_slow_disk(tmp_path, monkeypatch):
    """However much has come since files took something, it is in a journal until they have it;
    what they refused is kept up to a limit.
    """
    monkeypatch.setattr(files_module, "BACKLOG_BYTES", 100)
    files = RecordingFiles(tmp_path, "BINANCE", "host", "run")
    sizes = []
    for number in range(3):
        files.append([Entry("A", 0, number, number, 1, "depth", bytes(60 + number))])
        files.turn()
        sizes.append([len(path.read_bytes()) for path in tmp_path.rglob(".*.journal")])
    assert [1, 1, 1] == list(map(len, sizes))
    assert sizes == sorted(sizes)


def test_what_another_host_left(tmp_path, caplog, monkeypatch):
    """A recorder starts beside a copy of another host's files, also one that was copied again
    since an earlier start closed it, and names the journals that it leaves to that host.
    """
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    settings, now_ns = load_settings(**VENUE), time.time_ns()
    other = RecordingFiles(tmp_path / "other", "BINANCE", "other", "run")
    for at in range(2):
        put(other, Entry("BTCUSDT", 0, now_ns + at, at, 1, "depth:BTCUSDT", b"{}"))
        other.append([Entry("BTCUSDT", 0, now_ns + at, at, 1, "depth:BTCUSDT", b"later")])
        copy = settings.lake_path / "recording"
        shutil.copytree(tmp_path / "other", copy, dirs_exist_ok=True)
        with recording_files(lambda: settings):
            pass
    states = [read_facts(each).state for each in found(settings)]
    assert [FileState.RECOVERED, FileState.LEFT_OPEN] == states
    assert ".other_run_000000.journal was left" in caplog.text


def test_sealed_when_no_journal_has_it(tmp_path):
    """A file is given to be sealed once the journals of what it has are removed: who cannot open it
    could not tell what of them it has.
    """
    journals = list[list[Path]]()

    def note(_: Path) -> None:
        journals.append(list(tmp_path.rglob("*.journal")))

    files, now_ns = RecordingFiles(tmp_path, "BINANCE", "host", "run", note), time.time_ns()
    put(files, Entry("BTCUSDT", 0, now_ns - 2 * HOUR_NS, 0, 1, "depth:BTCUSDT", b"{}"))
    assert [[]] == journals
    put(files, Entry("BTCUSDT", 0, now_ns, 1, 1, "depth:BTCUSDT", b"{}"))
    files.close()
    assert [[], []] == journals
