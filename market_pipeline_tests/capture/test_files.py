"""The recorder's files: sealed once their hour is over, where the settings say so."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from market_pipeline.capture.files import RecordingFiles, recording_files
from market_pipeline.config.settings import Settings, load_settings
from market_pipeline.errors import SealError
from market_pipeline.security.stored import is_sealed, open_stored
from market_pipeline.sources.recording.check import FileState, find_recordings, read_facts
from market_pipeline.sources.recording.format import Entry
from market_pipeline.sources.recording.hours import HOUR_NS
from market_pipeline_tests.security.keys import use_keys

VENUE = {"capture__venue": "binance_spot", "capture__symbols": ["BTCUSDT"]}


def put(files: RecordingFiles, entry: Entry) -> None:
    files.append([entry])
    files.turn()
    files.settle([entry])


def recorded(settings: Settings, hours: int, payload: bytes = b"{}") -> None:
    """Records a frame at the end of each of the hours before this one, and one now."""
    now_ns = time.time_ns()
    with recording_files(settings) as files:
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
    with recording_files(settings):
        until = time.monotonic() + 30
        while not all(map(is_sealed, plain)) and time.monotonic() < until:
            time.sleep(0.01)
    assert list(plain.values()) == [open_stored(path).read() for path in plain]


def test_no_key_no_start(tmp_path, monkeypatch):
    """Who asks for sealed captures and has no key for them records nothing, and is told."""
    use_keys(monkeypatch, tmp_path / "data", seal="captures")
    settings = load_settings(**VENUE)
    with pytest.raises(SealError, match="keys new captures"), recording_files(settings):
        pass


def test_what_cannot_be_sealed_stays_plain(tmp_path, monkeypatch, caplog):
    """A key that is destroyed meanwhile costs nothing of the record, and is reported."""
    ring = use_keys(monkeypatch, tmp_path / "data", "captures", seal="captures")
    settings = load_settings(**VENUE)
    with recording_files(settings) as files:
        ring.destroy(ring.active("captures").id)
        now_ns = time.time_ns()
        put(files, Entry("BTCUSDT", 0, now_ns, now_ns, 1, "depth:BTCUSDT", b"{}"))
        files.close()
    (path,) = found(settings)
    assert (FileState.CLOSED, False) == (read_facts(path).state, is_sealed(path))
    assert "no key for captures" in caplog.text
