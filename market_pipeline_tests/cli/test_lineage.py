from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from market_pipeline.tables import TABLES
from market_pipeline_tests.cli.conftest import GOOD, NONE
from market_pipeline_tests.defs.workspace import NOT_ASKED_FOR, Workspace, raw_file
from market_pipeline_tests.sources.simulated.days import DAY

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("runs")]
RAW_TABLES = {name for name in TABLES if name.startswith("raw_")} - {"raw_profiles"}
OF_DAY = ("--day", f"{DAY}", "--instrument", GOOD)


@pytest.fixture(scope="module")
def told(workspace: Workspace, runs: object) -> list[dict[str, Any]]:
    """The links of the good instrument's day."""
    finished = workspace.run("lineage", *OF_DAY, "--json")
    assert (0, "") == (finished.exit_code, finished.errors)
    return json.loads(finished.output)["tables"]


def test_every_table_leads_to_the_raw_objects(workspace: Workspace, told: list[dict[str, Any]]):
    """From each table one comes to raw objects, whose hashes are those of the files' bytes."""
    inputs = {link["table"]: link["inputs"] for link in told}

    def objects(table: str) -> set[tuple[str, str]]:
        found = set()
        for each in inputs[table]:
            if each["path"] is not None:
                found.add((each["path"], each["sha256"]))
            else:
                found |= objects(each["table"])
        return found

    files = [
        raw_file(workspace.lake, table, "GOOD-USD", DAY)
        for table in ("book_delta_v2", "book", "trades")
    ]
    expected = {
        (
            file.relative_to(workspace.lake).as_posix(),
            hashlib.sha256(file.read_bytes()).hexdigest(),
        )
        for file in files
    }

    assert {
        table.sql_name for name, table in TABLES.items() if name not in RAW_TABLES | NOT_ASKED_FOR
    } == set(inputs)
    assert [expected] * len(inputs) == [objects(table) for table in inputs]


def test_tables_lead_to_tables(told: list[dict[str, Any]]):
    """What is made of a table names it by the hash that the table's own link has."""
    hashes = {link["table"]: link["sha256"] for link in told}
    named = {
        (each["table"], each["sha256"])
        for link in told
        for each in link["inputs"]
        if each["path"] is None
    }

    assert {"books.bbo", "books.rebuilds", "lake.profiles", "quality.validation_report"} <= {
        table for table, _ in named
    }
    assert named <= set(hashes.items())


def test_says_parameters_and_code(told: list[dict[str, Any]]):
    """Each link says by which code and when it was made, and with which parameters."""
    of = {link["table"]: link for link in told}

    assert "0.1" == of["books.bbo"]["parameters"]["tick"]
    assert 21600 == of["books.bbo"]["parameters"]["checkpoint_seconds"]
    assert of["metrics.book_metrics"]["code_version"].startswith("metrics ")
    assert all(link["made_at"].endswith("Z") for link in told)


def test_text(workspace: Workspace, told: list[dict[str, Any]]):
    """As text each table has its hash, and each raw object its hash and its path."""
    finished = workspace.run("lineage", *OF_DAY)
    lines = finished.output.splitlines()

    assert 0 == finished.exit_code
    for link in told:
        assert f"{link['table']}  {link['sha256']}" in lines
        for each in link["inputs"]:
            assert f"  of {each['table']} {each['day']}  {each['sha256']}" in lines
            assert each["path"] is None or f"     {each['path']}" in lines
    assert "\x1b" not in finished.output


def test_1_nothing_recorded(workspace: Workspace):
    """Of an instrument and day that nobody ran there is nothing: 1, and a sentence."""
    finished = workspace.run("lineage", "--day", "2025-03-09", "--instrument", GOOD)

    assert (1, f"Nothing is recorded of {GOOD} on 2025-03-09.\n", "") == (
        finished.exit_code,
        finished.output,
        finished.errors,
    )


def test_0_of_nothing(workspace: Workspace):
    """A day without any raw file is told as made of nothing but what was looked for."""
    finished = workspace.run("lineage", "--day", f"{DAY}", "--instrument", NONE)

    assert 0 == finished.exit_code
    assert "books.rebuilds  " in finished.output
    assert "  of nothing" in finished.output.splitlines()


def test_2_no_instrument(workspace: Workspace):
    """What is no id is refused with what an id looks like."""
    finished = workspace.run("lineage", "--day", f"{DAY}", "--instrument", "GOOD-USD")

    assert 2 == finished.exit_code
    assert "EXCHANGE:SYMBOL" in finished.errors
