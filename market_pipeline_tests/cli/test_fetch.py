from __future__ import annotations

import json
from datetime import date, timedelta

import pytest

from market_pipeline.sources.crypto_lake import DELTAS, RAW_TABLES, TRADES
from market_pipeline_tests.cli.stored import SYMBOLS, Stored, stored
from market_pipeline_tests.stages.raw.fake_store import store_error

DAYS = [date(2024, 8, 8) + timedelta(days=number) for number in range(2)]
RANGE = ("--start-date", "2024-08-08", "--end-date", "2024-08-09")
ONE = ("--instrument", f"BINANCE:{SYMBOLS[0]}")


@pytest.fixture
def lake(moto_server, tmp_path, monkeypatch, capsys) -> Stored:
    """A store with two days of one instrument."""
    made = stored(moto_server, tmp_path, monkeypatch, capsys)
    made.put(RAW_TABLES, DAYS)
    return made


def local(lake: Stored) -> list[str]:
    return sorted(path.relative_to(lake.lake).as_posix() for path in lake.lake.rglob("*.parquet"))


def test_all_there(lake):
    """Without a terminal each day and table is a line, and a table closes it; 0."""
    finished = lake.run("fetch", *RANGE, *ONE)
    lines = [line for line in finished.output.splitlines() if "1 fetched" in line]

    assert (0, "", 6) == (finished.exit_code, finished.errors, len(lines))
    assert sorted(lake.key(raw, day) for raw in RAW_TABLES for day in DAYS) == local(lake)
    assert "downloaded for the first time" in finished.output
    assert "24 B in" in finished.output
    assert "MB/s; limits delayed downloads for 0.0 s" in finished.output


def test_twice(lake):
    """What is here already is not downloaded again."""
    lake.run("fetch", *RANGE, *ONE)
    again = json.loads(lake.run("fetch", *RANGE, *ONE, "--json").output)

    assert {"unchanged"} == {each["action"] for each in again["objects"]}
    assert (0, [], []) == (again["downloaded_bytes"], again["missing"], again["failures"])


def test_missing(lake):
    """Days that the store does not have are listed; 1."""
    finished = lake.run("fetch", *RANGE)
    told = f"missing: BINANCE:{SYMBOLS[1]} {TRADES.name}: 2024-08-08..08-09 (2)"

    assert (1, True) == (finished.exit_code, told in finished.output)
    assert 6 == len(local(lake))


def test_changed(lake):
    """An object that changed at the store comes as a further version."""
    lake.run("fetch", *RANGE, *ONE)
    lake.put([DELTAS], DAYS[:1], b"corrected")
    finished = lake.run("fetch", *RANGE, *ONE)

    assert (0, True) == (finished.exit_code, "changed: downloaded again" in finished.output)
    assert lake.key(DELTAS, DAYS[0]).replace("/1.snappy", "/1.v2.snappy") in local(lake)


def test_dry_run(lake):
    """A dry run shows what would come and downloads nothing."""
    finished = lake.run("fetch", *RANGE, *ONE, "--dry-run")
    plan = json.loads(lake.run("fetch", *RANGE, *ONE, "--dry-run", "--json").output)

    assert (0, []) == (finished.exit_code, local(lake))
    assert "24 B in all" in finished.output
    assert [(["2024-08-08", "2024-08-09"], 2, 8)] * 3 == [
        (each["days"], each["objects"], each["bytes"]) for each in plan
    ]


def test_failed(lake, monkeypatch):
    """What cannot be downloaded is told with its reason; the rest comes; 1."""
    download = "market_pipeline.store.client.download"
    real = __import__("market_pipeline.store.client", fromlist=["download"]).download

    def cut(*arguments):
        if f"{TRADES.name}/" in arguments[4]:
            raise store_error("cut", arguments[4])
        return real(*arguments)

    monkeypatch.setattr(download, cut)
    finished = lake.run("fetch", *RANGE, *ONE)

    assert (1, 4) == (finished.exit_code, len(local(lake)))
    assert 2 == finished.errors.count(f"{TRADES.name}: 1.snappy.parquet: it did not work")


def test_full_disk(lake, full_at):
    """A file that may not grow ends it with path, need and what to do, and nothing half-written."""
    lake.put([DELTAS], DAYS, bytes(100_000))
    with full_at(50_000):
        finished = lake.run("fetch", *RANGE, *ONE)
    line = finished.errors.splitlines()[-1]

    assert 2 == finished.exit_code
    assert line.startswith(f"error: A file may not grow so large (file={lake.lake}/{DELTAS.name}")
    assert "bytes that are free now" in line
    assert "Free some space" in line
    assert "Traceback" not in finished.errors
    assert [] == list(lake.lake.rglob("*.partial"))
    assert 0 == lake.run("fetch", *RANGE, *ONE).exit_code


def test_folder_that_cannot_be_made(lake):
    """A lake in whose way a file lies is told with its path; 2."""
    lake.lake.parent.mkdir()
    lake.lake.touch()
    finished = lake.run("fetch", *RANGE, *ONE)

    assert 2 == finished.exit_code
    assert f"(file={lake.lake}" in finished.errors.splitlines()[-1]
    assert "Traceback" not in finished.errors


def test_stopped(lake, monkeypatch):
    """Ctrl-C ends it at once with 130, and the same command goes on."""

    def pressed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("market_pipeline.cli.fetch._day_text", pressed)
        finished = lake.run("fetch", *RANGE, *ONE)
    again = lake.run("fetch", *RANGE, *ONE)

    assert (130, 0, 6) == (finished.exit_code, again.exit_code, len(local(lake)))
    assert "the same command goes on" in finished.errors


def test_folder(lake, monkeypatch):
    """A lake that is a folder has nothing to be fetched from: 2, and what to set."""
    monkeypatch.setenv("PIPELINE_LAKE_URI", str(lake.root))
    finished = lake.run("fetch", *RANGE)
    assert (2, True) == (finished.exit_code, "PIPELINE_LAKE_URI" in finished.errors)


def test_converter(lake):
    """An instrument of another vendor is left out, and that is said."""
    file = lake.root / "instruments.yaml"
    file.write_text(file.read_text() + "- {venue: OKX, symbol: BTC-USDT, source: tardis_csv}\n")
    finished = lake.run("fetch", *RANGE)
    assert "OKX:BTC-USDT is left out" in finished.errors
