from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from market_pipeline.telemetry import files
from market_pipeline.telemetry.files import append_line, line_files

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_file_a_day_and_cut_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lines go to the file of their day, and to its next one when that is large; all private."""
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)
    folder = tmp_path / "metrics"
    for hours in (0, 0, 0, 24):
        append_line(folder, b"123456789\n", NOON + timedelta(hours=hours))

    assert [
        "metrics-2026-03-01.jsonl",
        "metrics-2026-03-01.1.jsonl",
        "metrics-2026-03-01.2.jsonl",
        "metrics-2026-03-02.jsonl",
    ] == [path.name for path in line_files(folder)]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert ({0o600}, 0o700) == (modes, stat.S_IMODE(folder.stat().st_mode))


def test_old_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """When a file is begun those go that are too old, and the oldest that are too much."""
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)
    monkeypatch.setattr(files, "MAX_TOTAL_BYTES", 40)
    for days in (0, 40, 41, 42, 43):
        append_line(tmp_path, b"123456789\n", NOON + timedelta(days=days))
    assert 4 == len(line_files(tmp_path))
    append_line(tmp_path, b"123456789\n", NOON + timedelta(days=44))
    assert 4 == len(line_files(tmp_path))
    append_line(tmp_path, b"123456789\n", NOON + timedelta(days=100))
    assert ["metrics-2026-06-09.jsonl"] == [path.name for path in line_files(tmp_path)]


def test_a_line_is_there_whole_or_not_at_all(tmp_path: Path, full_at):
    """A full disk leaves no part of a line; half a line of a killed writer swallows no other."""
    append_line(tmp_path, b"first\n", NOON)
    with full_at(8), pytest.raises(OSError):
        append_line(tmp_path, b"second\n", NOON)
    (path,) = line_files(tmp_path)
    assert b"first\n" == path.read_bytes()
    with path.open("ab") as file:
        file.write(b"hal")
    append_line(tmp_path, b"third\n", NOON)
    assert b"first\nhal\nthird\n" == path.read_bytes()


def test_what_is_no_file_of_metrics(tmp_path: Path):
    """Other files in the folder are left alone, and a folder that is not there has none."""
    for name in ("metrics-2026-13-01.jsonl", "bridge.json", "metrics-2026-03-01.jsonl.bak"):
        (tmp_path / name).touch()
    assert [] == line_files(tmp_path) == line_files(tmp_path / "none")
    assert 3 == len(os.listdir(tmp_path))  # noqa: PTH208
