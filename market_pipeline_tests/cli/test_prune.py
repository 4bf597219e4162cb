from __future__ import annotations

import io
import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from market_pipeline.config.instruments import load_instruments
from market_pipeline.sources.crypto_lake import DELTAS
from market_pipeline.stages.raw.register import register_day
from market_pipeline.tables import with_catalogue
from market_pipeline.warehouse.manifest import RAW_BOOK_DELTAS
from market_pipeline.warehouse.working import replace_rows
from market_pipeline_tests.cli.stored import SYMBOLS, Stored, stored
from market_pipeline_tests.defs.runs import finished_run

OLD = date(2024, 8, 8)
YOUNG = datetime.now(UTC).date() - timedelta(days=3)
ONE = ("--instrument", f"BINANCE:{SYMBOLS[0]}")


@pytest.fixture
def lake(moto_server, tmp_path, monkeypatch, capsys) -> Stored:
    """A store and a local lake with an old and a young day."""
    made = stored(moto_server, tmp_path, monkeypatch, capsys)
    made.put([DELTAS], [OLD, YOUNG])
    for day in (OLD, YOUNG):
        made.run("fetch", "--start-date", f"{day}", "--end-date", f"{day}", *ONE)
    return made


def files(lake: Stored) -> set[str]:
    return {path.relative_to(lake.lake).as_posix() for path in lake.lake.rglob("*.parquet")}


def both(lake: Stored) -> set[str]:
    return {lake.key(DELTAS, day) for day in (OLD, YOUNG)}


def test_looks_only_unless_told(lake):
    """Without --yes it shows what goes, why and how many bytes, and removes nothing."""
    for arguments in ((), ("--dry-run",)):
        finished = lake.run("prune", "--older-than", "30", *arguments)
        assert (0, both(lake)) == (finished.exit_code, files(lake))
        assert "older than 30 days, and the store has it" in finished.output
        assert "Would free 4 B at once." in finished.output


def test_yes(lake):
    """With --yes old days go, and a second time there is nothing to remove."""
    finished = lake.run("prune", "--older-than", "30", "--yes")
    again = lake.run("prune", "--older-than", "30", "--yes")

    assert (0, {lake.key(DELTAS, YOUNG)}) == (finished.exit_code, files(lake))
    assert "Freed 4 B at once." in finished.output
    assert "Nothing to remove." in again.output


def test_settings(lake, monkeypatch):
    """Without settings days are kept for ever; with one they go."""
    forever = lake.run("prune", "--yes")
    monkeypatch.setenv("PIPELINE_KEEP_RAW_DAYS", "30")
    told = json.loads(lake.run("prune", "--json").output)

    assert ("raw days: kept for ever", both(lake)) == (
        forever.output.splitlines()[0],
        files(lake),
    )
    assert (30, None, False) == (
        told["keep_raw_days"],
        told["keep_derived_days"],
        told["removed"],
    )
    assert [("raw", f"{OLD}", True, 4)] == [
        (each["kind"], each["day"], each["goes"], each["bytes"]) for each in told["items"]
    ]


def test_last_copy_is_asked_for(lake, monkeypatch):
    """A last copy stays, and goes only after its number was typed."""
    lake.client.delete_object(Bucket=lake.bucket, Key=f"feed/{lake.key(DELTAS, OLD)}")
    stays = lake.run("prune", "--older-than", "30", "--yes")
    assert (0, True) == (stays.exit_code, "last copy: the store does not have it" in stays.output)
    for typed, code, left in (("2", 2, both(lake)), ("1", 0, {lake.key(DELTAS, YOUNG)})):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{typed}\n"))
        finished = lake.run("prune", "--older-than", "30", "--yes", "--also-last-copies")
        assert (code, left) == (finished.exit_code, files(lake))
        assert "1 of these are last copies (4 B)" in finished.errors


def test_store_out_of_reach(lake, monkeypatch):
    """Nothing goes that the store was not asked for; 1, with the reason."""
    monkeypatch.setenv("PIPELINE_LAKE_URI", "s3://no-such-bucket-here/feed")
    finished = lake.run("prune", "--older-than", "30", "--yes", "--also-last-copies")
    assert (1, both(lake)) == (finished.exit_code, files(lake))
    assert "not looked at: there is no such bucket" in finished.errors


def test_folder_lake(lake, monkeypatch):
    """A lake that is a folder is never touched."""
    monkeypatch.setenv("PIPELINE_LAKE_URI", str(lake.lake))
    finished = lake.run("prune", "--older-than", "1", "--yes", "--also-last-copies")
    assert (0, both(lake)) == (finished.exit_code, files(lake))
    assert "Nothing to remove." in finished.output


@pytest.mark.slow
@pytest.mark.parametrize("is_there", [True, False])
def test_history(lake, monkeypatch, tmp_path, is_there):
    """The history of an old day goes with the day, and stays if the day does as a last copy."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    bitcoin, _ = load_instruments(tmp_path / "instruments.yaml")
    rows = RAW_BOOK_DELTAS.frame(register_day(lake.lake, DELTAS, bitcoin, OLD))
    replace_rows(with_catalogue(tmp_path / "data"), RAW_BOOK_DELTAS, OLD, [bitcoin.id], rows)
    if not is_there:
        lake.client.delete_object(Bucket=lake.bucket, Key=f"feed/{lake.key(DELTAS, OLD)}")
        shutil.rmtree((lake.lake / lake.key(DELTAS, OLD)).parent)
    with dg.DagsterInstance.get() as instance:
        finished_run(instance, OLD)
    with closing(sqlite3.connect(tmp_path / "home/history/runs.db")) as runs, runs:
        runs.execute("UPDATE runs SET update_timestamp = '2024-08-09'")
    shown = lake.run("prune", "--older-than", "30")
    lake.run("prune", "--older-than", "30", "--yes")
    with dg.DagsterInstance.get() as instance:
        left = instance.get_runs_count()

    assert f"history of runs: kept for 30 days, {int(is_there)} go" in shown.output
    assert int(not is_there) == left


def test_days_that_the_sensor_asks_for(lake, monkeypatch):
    """Who keeps published days for less than the sensor looks back is told that they come again."""
    monkeypatch.setenv("PIPELINE_KEEP_DERIVED_DAYS", "7")
    assert "PIPELINE_LAKE_HORIZON_DAYS" in lake.run("prune").errors
    monkeypatch.setenv("PIPELINE_LAKE_HORIZON_DAYS", "5")
    assert "" == lake.run("prune").errors


def test_wrong_usage(lake):
    """Both of --dry-run and --yes, or no days at all, is wrong usage."""
    for arguments in (("--dry-run", "--yes"), ("--older-than", "0")):
        assert 2 == lake.run("prune", *arguments).exit_code
