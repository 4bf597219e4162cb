from __future__ import annotations

import json
from datetime import date, timedelta

import pytest

from market_pipeline.sources.crypto_lake import DELTAS
from market_pipeline.stages.raw.inventory import RAW_TABLES
from market_pipeline_tests.cli.stored import SYMBOLS, Stored, stored

DAYS = [date(2024, 8, 8) + timedelta(days=number) for number in range(3)]
ONE = ("--instrument", f"BINANCE:{SYMBOLS[0]}")


@pytest.fixture
def lake(moto_server, tmp_path, monkeypatch, capsys) -> Stored:
    """A store with three days of one instrument."""
    made = stored(moto_server, tmp_path, monkeypatch, capsys)
    made.put(RAW_TABLES, DAYS)
    return made


def test_table(lake):
    """Each table of each instrument is a line: days, what is missing, what is local, bytes."""
    lake.run("fetch", "--start-date", "2024-08-08", "--end-date", "2024-08-09", *ONE)
    finished = lake.run("inventory", "--start-date", "2024-08-07")
    deltas = next(line for line in finished.output.splitlines() if DELTAS.name in line)
    none = [line for line in finished.output.splitlines() if SYMBOLS[1] in line]

    assert (1, "") == (finished.exit_code, finished.errors)
    assert [
        f"BINANCE:{SYMBOLS[0]}",
        DELTAS.name,
        "2024-08-08..08-10 (3)",
        "2024-08-07 (1)",
        "2024-08-08..08-09 (2)",
        "3",
        "12 B",
        "8 B",
    ] == [cell.strip() for cell in deltas.strip("│").split("│")]
    assert 3 == len(none)
    assert all("none" in line for line in none)


def test_json(lake):
    """As JSON every day is listed with its objects and bytes."""
    finished = lake.run("inventory", "--json", *ONE)
    first = json.loads(finished.output)[0]

    assert (0, "") == (finished.exit_code, finished.errors)
    assert {"day": "2024-08-08", "objects": 1, "bytes": 4} == {
        name: first["days"][0][name] for name in ("day", "objects", "bytes")
    }
    assert ([], 12, 0) == (first["missing"], first["bytes"], first["local_bytes"])


def test_folder(lake, monkeypatch):
    """Of a lake that is a folder it tells what lies there, and nothing of a store."""
    lake.run("fetch", "--start-date", "2024-08-08", "--end-date", "2024-08-10", *ONE)
    monkeypatch.setenv("PIPELINE_LAKE_URI", str(lake.lake))
    finished = lake.run("inventory", *ONE)

    assert (0, 3) == (finished.exit_code, finished.output.count("2024-08-08..08-10 (3)"))
    assert "local" not in finished.output.partition("\n")[2]


def test_wrong_usage(lake):
    """An end before the start is wrong usage."""
    finished = lake.run("inventory", "--start-date", "2024-08-09", "--end-date", "2024-08-08")
    assert (2, True) == (finished.exit_code, "is before" in finished.errors)


def test_store_out_of_reach(lake, monkeypatch):
    """A store that has no such bucket is an error with what to do, not an empty lake."""
    monkeypatch.setenv("PIPELINE_LAKE_URI", "s3://no-such-bucket-here/feed")
    finished = lake.run("inventory")
    assert (2, "", True) == (
        finished.exit_code,
        finished.output,
        "there is no such bucket" in finished.errors,
    )
