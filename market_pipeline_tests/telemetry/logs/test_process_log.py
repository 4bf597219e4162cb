from __future__ import annotations

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from market_pipeline.cli.app import app
from market_pipeline.config.settings import load_settings
from market_pipeline.scrub.scrubber import learn
from market_pipeline.telemetry.logs import process_log
from market_pipeline.telemetry.logs._journal import Journal
from market_pipeline.telemetry.logs.files import ERRORS, log_files
from market_pipeline.telemetry.logs.process_log import Line, decode
from market_pipeline.telemetry.logs.search import Search
from market_pipeline.telemetry.traces.work import about
from market_pipeline.threads import Workers
from market_pipeline_tests.scrub.written import ways

LOG = logging.getLogger("market_pipeline.stages.some")
SECRET = "+".join(("wJalr/XUtn", "FEMI=K7MDENG.planted"))  # in pieces, as the tree holds no key


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where this process logs to until the test ends."""
    process_log.begin(load_settings(data_dir=tmp_path), "run")
    yield tmp_path / "logs"
    process_log.begin(load_settings(data_dir=tmp_path, log_to="none"), "run")


def lines(folder: Path) -> list[Line]:
    return [decode(line) for path in log_files(folder) for line in path.read_bytes().splitlines()]


def test_no_control_character_is_printed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """`logs --json` writes out what a terminal may obey; read as JSON it is what was logged."""
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(folder.parent))
    text = "a\x1b\x7f\x80\x9b31mb é"
    with about(run="r1"):
        LOG.info("%s", text)
    printed = CliRunner().invoke(app, ["logs", "--run", "r1", "--json"]).output
    assert (text, True) == (json.loads(printed)["message"], printed.strip().isprintable())


def test_a_line_says_what_it_is_about(folder: Path):
    """Run, day, step and instrument of the block it is logged in, also in threads of a pool."""

    def work(instrument: str) -> None:
        with about(instrument=instrument):
            LOG.info("%d messages", 5)

    with about(run="r1", day="2024-08-08", step="rebuild_books"), Workers(2, "rebuild") as pool:
        [*pool.map(work, ["A", "B"])]
        LOG.warning("all done")
    LOG.info("after it")
    named = [(each.run, each.day, each.step, each.instrument) for each in lines(folder)]
    step = ("r1", "2024-08-08", "rebuild_books")
    assert [(*step, "A"), (*step, "B")] == sorted(named[:2])
    assert [(*step, ""), ("", "", "", "")] == named[2:]
    (first, *_) = lines(folder)
    assert ("info", "run", socket.gethostname(), os.getpid(), LOG.name, "5 messages") == (
        *(first.level, first.process, first.host, first.pid, first.logger, first.message),
    )
    assert first.time.endswith("Z") and "2000-01-01T" < first.time


def test_levels(tmp_path: Path, folder: Path):
    """Of this package from the setting on, of libraries warnings; errors are in a file of all."""
    LOG.debug("no")
    logging.getLogger("botocore").info("no")
    logging.getLogger("botocore").warning("a library")
    try:
        raise ValueError("why")
    except ValueError:
        LOG.exception("ours")
    assert ["a library", "ours"] == [each.message for each in lines(folder)]
    (error,) = map(decode, (folder / ERRORS).read_bytes().splitlines())
    assert error == lines(folder)[-1]
    assert "Traceback" in error.error and "ValueError: why" in error.error

    process_log.begin(load_settings(data_dir=tmp_path, log_level="debug"), "run")
    LOG.debug("now")
    assert "now" in [each.message for each in lines(folder)]


def test_no_secret(folder: Path):
    """However a secret is written, in the text, a traceback or what a line is about."""
    learn(SECRET)
    for name, text in ways(SECRET):
        with about(run=text, instrument=f"X:{text}"):
            try:
                raise ValueError(text)
            except ValueError:
                LOG.exception("%s: %s", name, text)
    LOG.info("password=%s and token: %s", "hunter2hunter2", "abc123def456")
    process_log.note(logging.ERROR, "dagster", SECRET, error=SECRET, run=SECRET, step=SECRET)
    text = "".join(path.read_text() for path in folder.iterdir())
    assert [] == [name for name, each in ways(SECRET) if each in text]
    assert not {"hunter2hunter2", "abc123def456"} & {*text.replace('"', " ").split()}
    assert len([*ways(SECRET)]) + 2 == len(lines(folder))


def test_text_that_is_none(folder: Path):
    """Line breaks and halves of surrogate pairs make no line that cannot be read."""
    LOG.info("a\nb\x1b")
    # Not by the logger: pytest shows what it has, and its workers cannot send half of a pair.
    process_log.note(logging.INFO, "who\udc80", "m \udc80")
    assert [(LOG.name, "a\nb\x1b"), ("who\\udc80", "m \\udc80")] == [
        (each.logger, each.message) for each in lines(folder)
    ]


def test_nothing_where_there_is_no_data(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """A data folder is not made for a line; one that cannot be written warns once."""
    process_log.begin(load_settings(data_dir=tmp_path / "none"), "verdict")
    LOG.info("nowhere")
    assert [] == [*tmp_path.iterdir()]
    (tmp_path / "file").touch()
    process_log.begin(load_settings(data_dir=tmp_path, log_dir=tmp_path / "file"), "verdict")
    for _ in range(3):
        LOG.info("nowhere")
    process_log.begin(load_settings(data_dir=tmp_path, log_to="none"), "verdict")
    assert 1 == capfd.readouterr().err.count("the log cannot be written")


def test_nobody_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A log that cannot be written ends no run, though standard error is closed, too."""
    (tmp_path / "file").touch()
    for closed in (None, io.StringIO()):
        if closed is not None:
            closed.close()
        monkeypatch.setattr(sys, "stderr", closed)
        process_log.begin(load_settings(data_dir=tmp_path, log_dir=tmp_path / "file"), "run")
        process_log.note(logging.ERROR, "dagster", "nowhere")
        process_log.begin(load_settings(data_dir=tmp_path, log_to="none"), "run")
    assert ["file"] == [each.name for each in tmp_path.iterdir()]


PROGRAM = """
import logging, os, signal, sys
from pathlib import Path
from market_pipeline.config.settings import load_settings
from market_pipeline.telemetry.logs import process_log
process_log.begin(load_settings(data_dir=Path(sys.argv[1])), "run")
log = logging.getLogger("market_pipeline.some")
if os.fork() == 0:
    log.info("child")
    os._exit(0)
os.wait()
log.warning("shown")
for number in range(1_000):
    log.info("%d", number)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed(tmp_path: Path):
    """All it said is there, in whole lines; one forked from it has a file of its own. Warnings are
    shown as without a log.
    """
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (-signal.SIGKILL, "shown\n") == (ran.returncode, ran.stderr)
    files = {path: path.read_bytes().splitlines() for path in log_files(tmp_path / "logs")}
    child, parent = sorted(files.values(), key=len)
    assert ["child"] == [decode(line).message for line in child]
    assert ["shown", *map(str, range(1_000))] == [decode(line).message for line in parent]


def test_what_belongs_together(folder: Path):
    """A day has the lines of its runs, whenever these ran and though some do not know it, and what
    no run logged on it; torn lines are passed over.
    """
    with about(run="run1", day="2024-08-08"):
        LOG.info("of the day")
        with about(instrument="A"):
            LOG.error("of an instrument")
    with about(run="run2", day="2024-08-09"):
        LOG.info("of another")
    process_log.note(logging.ERROR, "dagster", "its process died", run="run1")
    LOG.info("of none")
    today = lines(folder)[0].time[:10]
    (path,) = log_files(folder)
    with path.open("ab") as file:
        file.write(b'{"time":"2024-08-08T\n{"run1":' + b"[" * 10_000 + b"\n")

    def found(**wanted: object) -> list[str]:
        search = Search(**wanted)  # type: ignore[arg-type]
        return [line.message for _, line in search.lines(folder)]

    of_run = ["of the day", "of an instrument", "its process died"]
    assert of_run == found(run="run1") == found(day="2024-08-08")
    assert ["of the day", "of an instrument", "of another", "its process died"] == found(run="run")
    assert of_run[1:] == found(run="run1", least=logging.ERROR)
    assert ["of an instrument"] == found(day="2024-08-08", instruments=frozenset({"A"}))
    assert ["of none"] == found(day=today)
    assert [] == found(day="2999-01-01") == found(run="\udcff")


def test_journald(tmp_path: Path):
    """A line is a datagram of fields, of which one with line breaks has its length before it."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        journal = Journal(path)
        journal.write(
            b'{"level":"error","message":"m","run":"r1","pid":7,"error":"E\\nF"}', is_error=True
        )
        entry = receiver.recv(10_000)
        journal.close()
    message = b"m\nE\nF"
    assert entry.startswith(
        b"SYSLOG_IDENTIFIER=market-pipeline\nPRIORITY=3\nMESSAGE\n"
        + len(message).to_bytes(8, "little")
        + message
        + b"\n"
    )
    assert {b"RUN=r1", b"PID=7"} == {*entry.splitlines()[-2:]}


def test_a_journald_that_stands_still(tmp_path: Path):
    """Whose queue is full, as it takes nothing: the line is lost, and who logs goes on."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        journal = Journal(path)
        with pytest.raises(TimeoutError):
            while True:
                journal.write(b'{"level":"info","message":"m"}', is_error=False)
        journal.close()
