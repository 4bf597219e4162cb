from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from market_pipeline.cli.main import main
from market_pipeline.quality.row import VALIDATION_REPORT
from market_pipeline.tables import refresh_catalogue
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.working import ensure_table
from market_pipeline.warehouse.working_file import writing
from market_pipeline_tests.cli.conftest import GOOD, NONE, Runs
from market_pipeline_tests.defs.workspace import Finished, Workspace
from market_pipeline_tests.quality.factory import a_row

FIRST, DAYS = date(2023, 1, 1), 300
ETH = "BINANCE_FUTURES:ETH-USDT-PERP"
pytestmark = pytest.mark.slow


@pytest.fixture
def many_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of a data folder with 300 days of two instruments; every seventh is degraded."""
    rows = [
        replace(
            a_row(symbol=symbol, dt=FIRST + timedelta(days=day)),
            **({} if day % 7 else {"condition": "degraded", "reasons": ("a\x1b gap", "a hole")}),
        )
        for day in range(DAYS)
        for symbol in ("BTC-USDT-PERP", "ETH-USDT-PERP")
    ]
    warehouse = Warehouse(tmp_path / "data")
    warehouse.prepare()
    with writing(warehouse) as connection:
        ensure_table(connection, VALIDATION_REPORT)
        frame = VALIDATION_REPORT.frame(row.as_record() for row in rows).to_arrow()
        connection.register("rows_of_days", frame)
        connection.execute(f"INSERT INTO {VALIDATION_REPORT.sql_name} BY NAME FROM rows_of_days")
    refresh_catalogue(warehouse)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(warehouse.data_dir))


def said(capture: pytest.CaptureFixture[str], *arguments: str) -> Finished:
    """What the verb says in this process."""
    capture.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["market-pipeline", "verdict", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return Finished(ended.value.code, *capture.readouterr())


@pytest.mark.usefixtures("many_days")
class TestManyDays:
    def test_lines(self, capsys: pytest.CaptureFixture[str]):
        """Where a table would be long each instrument and day has a line, its reasons below it."""
        finished = said(capsys)
        heading, *lines = finished.output.splitlines()
        days = [line.split() for line in lines if not line.startswith(" ")]

        assert (1, "") == (finished.exit_code, finished.errors)
        assert ["day", "instrument", "condition"] == heading.split()[:3]
        assert [
            (f"{FIRST + timedelta(days=day)}", f"BINANCE_FUTURES:{symbol}-USDT-PERP")
            for day in range(DAYS)
            for symbol in ("BTC", "ETH")
        ] == [tuple(cells[:2]) for cells in days]
        assert Counter(degraded=86, available=514) == Counter(cells[2] for cells in days)
        assert ["    a\\x1b gap", "    a hole"] == lines[1:3]
        assert 1 == len({len(line) for line in lines if not line.startswith(" ")})

    def test_json(self, capsys: pytest.CaptureFixture[str]):
        """The array has each instrument and day once, in order, also where it is read in parts."""
        rows = json.loads(said(capsys, "--json", "--instrument", ETH).output)

        assert [str(FIRST + timedelta(days=day)) for day in range(DAYS)] == [
            row["dt"] for row in rows
        ]
        assert {ETH} == {f"{row['exchange']}:{row['symbol']}" for row in rows}
        assert ["a\x1b gap", "a hole"] == rows[7]["reasons"]

    def test_json_of_available_days(self, capsys: pytest.CaptureFixture[str]):
        """Its exit code is that of the table."""
        day = ("--start-date", "2023-01-02", "--end-date", "2023-01-07")

        assert [0, 0] == [said(capsys, *day, *more).exit_code for more in ((), ("--json",))]


def refuse(constant: str) -> None:
    """NaN and Infinity are no JSON, though Python writes and reads them."""
    raise ValueError(constant)


def test_json(workspace: Workspace, runs: Runs):
    """The rows come as valid JSON: an object per instrument and day with every column."""
    finished = workspace.run("verdict", "--json", "--end-date", "2025-03-03")
    rows = json.loads(finished.output, parse_constant=refuse)
    good, none = rows

    assert (0, 1) == (runs.good.exit_code, runs.pending.exit_code)
    assert (1, "") == (finished.exit_code, finished.errors)
    assert [[each.name for each in VALIDATION_REPORT.columns]] * 2 == [list(row) for row in rows]
    assert ("SIMULATED", "GOOD-USD", "2025-03-03") == tuple(
        good[name] for name in ("exchange", "symbol", "dt")
    )
    assert ("available", "rebuilt", [], None) == tuple(
        good[name] for name in ("condition", "outcome", "reasons", "failure")
    )
    assert ("pending", "no_data", [none["failure"]], "MissingDataError") == tuple(
        none[name] for name in ("condition", "outcome", "reasons", "failure_kind")
    )


@pytest.mark.parametrize(
    ("arguments", "exit_code", "shown"),
    [
        ((), 1, {GOOD, NONE}),
        (("--instrument", GOOD), 1, {GOOD}),
        (("--instrument", GOOD, "--end-date", "2025-03-03"), 0, {GOOD}),
        (("--instrument", NONE), 1, {NONE}),
        (("--instrument", GOOD, "--instrument", NONE), 1, {GOOD, NONE}),
        (("--start-date", "2025-03-03", "--end-date", "2025-03-03"), 1, {GOOD, NONE}),
        (("--start-date", "2025-03-04"), 1, {GOOD}),
        (("--start-date", "2025-03-06"), 1, set()),
        (("--end-date", "2025-03-02"), 1, set()),
    ],
)
def test_selection(workspace: Workspace, runs: Runs, arguments, exit_code, shown):
    """Days and instruments can be chosen; 0 means that all that were chosen are available."""
    finished = workspace.run("verdict", *arguments)

    assert (exit_code, "") == (finished.exit_code, finished.errors)
    assert shown == {name for name in (GOOD, NONE) if name in finished.output}


def test_nothing_yet(tmp_path, workspace: Workspace):
    """Before the first run there is nothing to show: 1, and what to do; as JSON an empty list."""
    fresh = Workspace(tmp_path / "fresh", workspace.lake)
    told = fresh.run("verdict")
    as_json = fresh.run("verdict", "--json")

    assert (1, "No published day matches; `market-pipeline run` validates days.\n", "") == (
        told.exit_code,
        told.output,
        told.errors,
    )
    assert (1, []) == (as_json.exit_code, json.loads(as_json.output))


def test_damaged(tmp_path, workspace: Workspace):
    """A catalogue that is no database is built anew from what is published, here nothing."""
    broken = Workspace(tmp_path / "broken", workspace.lake)
    broken.warehouse.prepare()
    broken.warehouse.catalogue.write_bytes(b"no database" * 1_000)
    finished = broken.run("verdict")

    assert (1, "No published day matches; `market-pipeline run` validates days.\n", "") == (
        finished.exit_code,
        finished.output,
        finished.errors,
    )
