"""The verbs for golden samples, as an operator uses them."""

from __future__ import annotations

import json
import shutil
import signal

import pytest
from typer.testing import CliRunner

from market_pipeline.audit.record import AUDIT_FOLDER
from market_pipeline.audit.verify import read_entries
from market_pipeline.cli.app import app
from market_pipeline.sources.recording import CONVERTER
from market_pipeline_tests.cli.test_capture import (
    PATIENCE_SECONDS,
    capturing,
    living_exchange,
    until_recorded,
)
from market_pipeline_tests.golden.recorded import DEPTH, STEPS, TRADES, record_host

RECORD = ("--instrument", "BINANCE:BTCUSDT", "--start", "2024-08-09", "--end", "2024-08-09T03:00")


@pytest.fixture
def two_hosts(tmp_path, monkeypatch):
    """This host's data folder and, beside it, a further host's; each lost another message."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_GOLDEN__MIN_HOURS", "2.9")
    monkeypatch.setenv("PIPELINE_GOLDEN__MIN_MESSAGES", "2000")
    for host, folder, lost in (("one", "data", {100}), ("two", "other", {900})):
        record_host(tmp_path / folder / "lake" / CONVERTER.name, host, lost)
    return tmp_path


def ran(*arguments):
    done = CliRunner().invoke(app, ["golden", *map(str, arguments)])
    return done.exit_code, done.stdout


def test_record_merge_verify(two_hosts, monkeypatch):
    """One host's span is below a threshold, the union of both passes, and an edit is found."""
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(two_hosts / "other"))
    assert 1 == ran("record", "night", *RECORD)[0]
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(two_hosts / "data"))
    code, out = ran("record", "night", *RECORD, "--label", "a quiet night", "--json")
    kept = json.loads(out)
    assert (1, ["missing_share", "verified_share"], {"found": 1, "filled": 0, "left": 1}) == (
        code,
        [each["name"] for each in kept["thresholds"] if not each["ok"]],
        kept["gaps"],
    )
    assert 0 == ran("merge", "both", "night", two_hosts / "other" / "golden" / "night")[0]
    code, out = ran("verify", "both", "--json")
    found = json.loads(out)
    assert (0, True, 2 * STEPS, {"found": 2, "filled": 2, "left": 0}) == (
        code,
        found["ok"],
        found["messages"],
        found["gaps"],
    )
    assert (0, None, 0) == (
        found["figures"]["streams"][DEPTH]["missing_ids"],
        found["regime"]["rate_rank"],
        found["regime"]["days"],
    )
    log = [*read_entries(two_hosts / "data" / AUDIT_FOLDER)]
    of_both = [each for each in log if each.what.get("sample") == "both"]
    assert ["write", "read", "read"] == [each.action for each in of_both]
    assert {64} == {len(sha256) for sha256 in of_both[1].what["files"].values()}
    code, out = ran("list")
    assert (0, True, True) == (code, "a quiet night" in out, "both" in out)
    manifest = two_hosts / "data" / "golden" / "both" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("a quiet night", "a wild night"))
    code, out = ran("verify", "both")
    assert (1, True) == (code, "changed: manifest.json, label" in out)


def test_nothing_to_show(two_hosts):
    """Without a sample the list ends with 1; a span needs both ends."""
    assert 1 == ran("list")[0]
    assert 2 == ran("record", "night", *RECORD[:4])[0]
    shutil.rmtree(two_hosts / "data" / "lake")
    assert 1 == ran("record", "night", *RECORD)[0]


@pytest.mark.slow
def test_of_a_live_capture(tmp_path, monkeypatch):
    """What the recorder itself recorded, of two connections, is kept and verified whole."""
    with (
        living_exchange(tmp_path) as (_, environment),
        capturing(tmp_path, environment) as process,
    ):
        until_recorded(tmp_path)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_SECONDS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PIPELINE_GOLDEN__MIN_HOURS", "0")
    monkeypatch.setenv("PIPELINE_GOLDEN__MIN_MESSAGES", "10")
    monkeypatch.setenv("PIPELINE_GOLDEN__MIN_VERIFIED_SHARE", "0")
    assert 0 == ran("record", "live", "--instrument", "BINANCE:BTCUSDT")[0]
    code, out = ran("verify", "live", "--json")
    streams = json.loads(out)["figures"]["streams"]
    assert (0, [0, 0], [0, 0]) == (
        code,
        [streams[name]["gaps"] for name in (DEPTH, TRADES)],
        [streams[name]["out_of_order"] for name in (DEPTH, TRADES)],
    )
