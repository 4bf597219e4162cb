"""The verbs for the hourly files of a capture."""

from __future__ import annotations

import gzip
import json
import os

import pytest
from typer.testing import CliRunner

from market_pipeline.audit.record import AUDIT_FOLDER
from market_pipeline.audit.verify import read_entries
from market_pipeline.cli.app import app
from market_pipeline.sources.recording import RecordingOf, RecordingWriter, RecordKind
from market_pipeline.sources.recording.format import Entry
from market_pipeline.sources.recording.journal import Journal

START_NS = 1_723_161_600_000_000_000


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """The folder of a lake with a file of each of two hosts, of which the second lost a frame."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    root = tmp_path / "data" / "lake" / "recording"
    for host, lost in (("one", ()), ("two", (3,))):
        writer = RecordingWriter(root, RecordingOf("BINANCE", "BTCUSDT", host, "run"))
        for at in range(6):
            frame = b'{"e":"depthUpdate","s":"BTCUSDT","U":%d,"u":%d,"b":[],"a":[]}' % (at, at)
            if at not in lost:
                wall_ns = START_NS + at * 100_000_000
                writer.append(RecordKind.FRAME, wall_ns, at, 1, "depth:BTCUSDT", frame)
        writer.close()
    return root


def ran(*arguments):
    done = CliRunner().invoke(app, ["recording", *map(str, arguments)])
    return done.exit_code, done.stdout


def test_list(recorded):
    """A symbol's day has its hosts, files and records; an empty folder has none, and code 1."""
    code, out = ran("list", "--json")
    (day,) = json.loads(out)
    assert (0, "BINANCE", "BTCUSDT", ["one", "two"], 11) == (
        code,
        *(day[name] for name in ("exchange", "symbol", "hosts", "records")),
    )
    assert "2024-08-09" in ran("list")[1]
    (recorded / "none").mkdir()
    assert 1 == ran("list", recorded / "none")[0]


def test_list_journals(recorded):
    """A journal alone is a file left open, of whatever host, and `recover` is what to do next."""
    entries = [
        Entry(symbol, RecordKind.FRAME, START_NS + at, at, 1, "depth", b"%d" % at)
        for at, symbol in enumerate(("BTCUSDT", "ETHUSDT", "ETHUSDT"))
    ]
    journal = Journal(recorded / "BINANCE", "BINANCE", "former", "run")
    journal.append(entries)
    assert 0 == ran("list")[0]  # a process writes it
    os.close(journal._file)
    code, out = ran("list", "--json")
    days = {day["symbol"]: day for day in json.loads(out)}
    assert (1, ["BTCUSDT", "ETHUSDT"]) == (code, list(days))
    assert [(11, 1), (0, 2)] == [(day["records"], day["journal_records"]) for day in days.values()]
    assert (["former"], "left open") == (
        days["ETHUSDT"]["hosts"],
        days["ETHUSDT"]["files"][0]["state"],
    )
    assert "recording recover" in ran("list")[1]
    unreadable = recorded / "BINANCE" / ".another_run_0.journal"
    unreadable.mkdir()
    cut_off = recorded / "BINANCE" / ".cut_run_0.journal"
    cut_off.write_bytes(next(recorded.glob("*/.former*")).read_bytes()[:-1])
    nothing = [each for each in json.loads(ran("list", "--json")[1]) if not each["day"]]
    assert [("", "unreadable"), ("BINANCE", "left open")] == [
        (day["exchange"], day["files"][0]["state"]) for day in nothing
    ]
    unreadable.rmdir()
    assert 0 == ran("recover")[0]
    assert (0, False) == (ran("list")[0], 'journal_records": 2' in ran("list", "--json")[1])


def test_verify(recorded):
    """All files are as written; a changed byte is named with its file and its place."""
    assert 0 == ran("verify")[0]
    path = sorted(recorded.rglob("*.recording"))[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    code, out = ran("verify", "--json")
    faulty = [each for each in json.loads(out) if each["damages"]]
    assert (1, [str(path)]) == (code, [each["file"] for each in faulty])
    assert "checksum" in faulty[0]["damages"][0]["found"]


def test_recover(recorded):
    """A file that was left open is closed, with the bytes that were cut off; then none is left."""
    path = sorted(recorded.rglob("*.recording"))[0]
    left = path.with_name(path.name + ".partial")
    left.write_bytes(path.read_bytes()[:-60])
    path.unlink()
    assert 1 == ran("verify")[0]
    code, out = ran("recover", "--json")
    (outcome,) = json.loads(out)
    assert (0, "closed", 6) == (code, outcome["outcome"], outcome["records"])
    assert (0, 0) == (ran("verify")[0], ran("recover")[0])
    journal = path.parents[2] / ".host_run_0.journal"
    journal.write_bytes(b"damaged at its beginning")
    code, out = ran("recover", "--json")
    assert (1, str(journal), "damaged") == (code, *list(json.loads(out)[0].values())[:2])


def test_export(recorded, tmp_path):
    """Lines are receipt and frame; each host fills what the other lost, and no file is replaced."""
    out = tmp_path / "btcusdt.gz"
    assert 0 == ran("export", out, recorded)[0]
    lines = gzip.decompress(out.read_bytes()).splitlines()
    assert [START_NS + at * 100_000_000 for at in range(6)] == [
        int(line.split(b" ", 1)[0]) for line in lines
    ]
    assert list(range(6)) == [json.loads(line.split(b" ", 1)[1])["u"] for line in lines]
    (read, written) = (
        (each.action, each.what["folder"], each.what["files"])
        for each in read_entries(tmp_path / "data" / AUDIT_FOLDER)
        if each.action in {"read", "write"}
    )
    files = sorted(recorded.rglob("*.recording"))
    assert ("read", str(files[0].parent), [each.name for each in files]) == read
    assert ("write", str(tmp_path), [out.name]) == written
    assert (2, 2) == (
        ran("export", out, recorded)[0],
        ran("export", tmp_path / "n.gz", tmp_path / "x")[0],
    )
