"""Recordings that lie sealed are listed, checked, united and exported as plain ones are."""

from __future__ import annotations

import shutil

import pytest

from market_pipeline.security.sealing import seal_in_place
from market_pipeline.security.stored import is_sealed, sealed_path, stored_digest
from market_pipeline.sources.recording.check import (
    FileState,
    check_recording,
    find_recordings,
    read_facts,
)
from market_pipeline.sources.recording.heads import Heads, venue_of
from market_pipeline.sources.recording.union import (
    by_host,
    export_collector_form,
    received,
    union,
)
from market_pipeline.sources.recording.writer import RecordingOf, RecordingWriter
from market_pipeline_tests.capture.recorded import record_market
from market_pipeline_tests.security.keys import use_keys


@pytest.fixture
def ring(tmp_path, monkeypatch):
    return use_keys(monkeypatch, tmp_path / "data", "captures", "exports")


@pytest.fixture
def hour(tmp_path):
    record_market(tmp_path / "lake", 300)
    (path,) = find_recordings([tmp_path / "lake"])
    return path


def exported(files, path, ring=None):
    heads = Heads(venue_of("BINANCE"))
    frames = union(received(by_host(files)), heads.update_id)
    return export_collector_form(frames, path, ring)


def test_as_the_plain_one(hour, ring, tmp_path):
    """What it says of itself, its check, and its export are those of the plain file; an export is
    sealed when that is asked for, with the same bytes in it.
    """
    plain = read_facts(hour), check_recording(hour)
    frames = exported([hour], tmp_path / "plain.gz")
    seal_in_place(hour, ring, "captures")
    assert plain == (read_facts(hour), check_recording(hour))
    assert [hour] == find_recordings([tmp_path / "lake"]) == find_recordings([sealed_path(hour)])
    assert frames == exported([hour], tmp_path / "sealed.gz", ring)
    assert is_sealed(tmp_path / "sealed.gz")
    assert stored_digest(tmp_path / "plain.gz") == stored_digest(tmp_path / "sealed.gz")
    with pytest.raises(FileExistsError):
        exported([hour], tmp_path / "sealed.gz")


def test_there_twice(hour, ring, tmp_path):
    """An hour that lies plain and sealed, or a second time under another name, counts once."""
    before = exported([hour], tmp_path / "before.gz")
    copy = hour.with_name("copy_of_it.recording")
    shutil.copyfile(hour, copy)
    seal_in_place(copy, ring, "captures")
    plain = hour.read_bytes()
    seal_in_place(hour, ring, "captures")
    hour.write_bytes(plain)
    found = find_recordings([tmp_path / "lake"])
    assert sorted([hour, copy]) == found
    assert before == exported(found, tmp_path / "after.gz")
    assert stored_digest(tmp_path / "before.gz") == stored_digest(tmp_path / "after.gz")


def test_without_a_key(hour, ring, monkeypatch):
    """It is listed as closed, with its size, and its check says which key is missing."""
    size = hour.stat().st_size
    seal_in_place(hour, ring, "captures")
    monkeypatch.delenv("PIPELINE_MASTER_KEY")
    facts, checked = read_facts(hour), check_recording(hour)
    assert (FileState.LOCKED, size, True) == (facts.state, facts.size_bytes, facts.state.is_closed)
    assert "no master key is set" in checked.damages[0].found


def test_a_name_is_not_used_twice(hour, ring, tmp_path):
    """A file of the same session and hour becomes another part where the first one is sealed."""
    seal_in_place(hour, ring, "captures")
    of = RecordingOf("BINANCE", "BTCUSDT", "host", "session")
    begun_ns = read_facts(hour).header.start_wall_ns
    writer = RecordingWriter(hour.parents[3], of)
    writer.append(0, begun_ns, begun_ns, 1, "depth:BTCUSDT", b"{}")
    closed = writer.close()
    assert hour.parent == closed.path.parent
    assert hour.name.replace("_0.", "_1.") == closed.path.name
