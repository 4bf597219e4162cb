from __future__ import annotations

import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from market_pipeline.telemetry.logs import files
from market_pipeline.telemetry.logs.files import ERRORS, LogFile, log_files

LINE = b'{"n":1}\n'


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of two lines, and room for four of them."""
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 2 * len(LINE))
    monkeypatch.setattr(files, "MAX_TOTAL_BYTES", 8 * len(LINE))


def written(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in log_files(folder)]


def test_a_file_is_followed_by_the_next(tmp_path: Path):
    """No file is larger than it may be, none begins before a line, and all are private."""
    folder = tmp_path / "logs"
    log = LogFile(folder, "run")
    assert not folder.exists()
    for _ in range(5):
        log.write(LINE, is_error=False)
    assert [LINE * 2, LINE * 2, LINE] == sorted(written(folder), key=len, reverse=True)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert ({0o600}, 0o700) == (modes, stat.S_IMODE(folder.stat().st_mode))


def test_two_processes_of_one_name(tmp_path: Path):
    """Each has files of its own, also where a container gives both the same number."""
    logs = [LogFile(tmp_path, "run") for _ in range(2)]
    for log in logs:
        log.write(LINE, is_error=False)
    assert [LINE, LINE] == written(tmp_path)


def test_all_together_stay_small(tmp_path: Path):
    """However much is written, there is never more than the most there may be, the newest of it."""
    log = LogFile(tmp_path, "run")
    for number in range(100):
        log.write(b'{"n":%d}\n' % (number % 10), is_error=False)
        assert sum(map(len, written(tmp_path))) <= files.MAX_TOTAL_BYTES
    assert b'{"n":9}\n' in b"".join(written(tmp_path))


def test_what_is_old_is_removed(tmp_path: Path):
    """When a file is begun those go that nobody wrote to for so long; others' files never do."""
    LogFile(tmp_path, "run").write(LINE, is_error=True)
    (tmp_path / "notes.jsonl").touch()
    old_s = time.time() - (files.MAX_AGE_DAYS + 1) * 86_400
    for path in tmp_path.iterdir():
        os.utime(path, (old_s, old_s))
    LogFile(tmp_path, "capture").write(LINE, is_error=False)
    left = {path.name.partition("-")[0] for path in tmp_path.iterdir()}
    assert {"capture", "notes.jsonl"} == left


def test_what_is_not_ours(tmp_path: Path):
    """A link or a folder that has such a name stays as it is, and is not read."""
    other = tmp_path / "other"
    other.write_bytes(LINE)
    old_s = time.time() - (files.MAX_AGE_DAYS + 1) * 86_400
    os.utime(other, (old_s, old_s))
    folder = tmp_path / "logs"
    (folder / "run-20240101T000000Z-1.jsonl").mkdir(parents=True)
    os.utime(folder / "run-20240101T000000Z-1.jsonl", (old_s, old_s))
    (folder / "run-20240101T000000Z-2.jsonl").symlink_to(other)
    (folder / "run-20240101T000000Z-3.jsonl").symlink_to("none")
    LogFile(folder, "run").write(LINE, is_error=False)
    assert (4, [LINE]) == (len([*folder.iterdir()]), written(folder))


def test_a_file_that_was_removed(tmp_path: Path):
    """Who still writes to it begins another one: nothing goes where nobody finds it."""
    log = LogFile(tmp_path, "run")
    log.write(LINE, is_error=False)
    for path in log_files(tmp_path):
        path.unlink()
    log.write(LINE, is_error=False)
    assert [LINE] == written(tmp_path)


def test_errors_of_all_processes(tmp_path: Path):
    """Errors are in one file too, cut by size; its parts go with the other files."""
    for process in ("run", "capture", "health"):
        log = LogFile(tmp_path, process)
        log.write(LINE, is_error=True)
        log.write(LINE, is_error=False)
    errors = [path.read_bytes() for path in tmp_path.glob("errors*")]
    assert [LINE, LINE * 2] == sorted(errors)
    assert LINE == (tmp_path / ERRORS).read_bytes()
    for _ in range(20):
        log.write(LINE, is_error=True)
    everything = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert everything <= files.MAX_TOTAL_BYTES + 2 * files.MAX_FILE_BYTES


def test_errors_of_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """However many find at once that the file of all errors is full, none is lost."""
    monkeypatch.setattr(files, "MAX_TOTAL_BYTES", 10**6)

    def work(number: int) -> None:
        log = LogFile(tmp_path, "run")
        for _ in range(100):
            log.write(b"%d\n" % number, is_error=True)

    with ThreadPoolExecutor(8) as pool:
        [*pool.map(work, range(8))]
    errors = [line for path in tmp_path.glob("errors*") for line in path.read_bytes().splitlines()]
    assert sorted(b"%d" % number for number in range(8) for _ in range(100)) == sorted(errors)


def test_a_full_disk(tmp_path: Path, full_at):
    """What it took a part of swallows no later line."""
    log = LogFile(tmp_path, "run")
    log.write(LINE, is_error=False)
    with full_at(len(LINE) + 3), pytest.raises(OSError):
        log.write(LINE, is_error=False)
    log.write(b"{}\n", is_error=False)
    assert [LINE + LINE[:3] + b"\n{}\n"] == written(tmp_path)
