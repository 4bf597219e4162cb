from __future__ import annotations

import json
from dataclasses import fields

import pytest

from market_pipeline.quality.row import ReportRow
from market_pipeline_tests.cli.conftest import GOOD, NONE, Runs
from market_pipeline_tests.defs.workspace import Workspace

pytestmark = pytest.mark.slow


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
    assert [[each.name for each in fields(ReportRow)]] * 2 == [list(row) for row in rows]
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

    assert (1, "No published day matches; `market-pipeline run` judges days.\n", "") == (
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

    assert (1, "No published day matches; `market-pipeline run` judges days.\n", "") == (
        finished.exit_code,
        finished.output,
        finished.errors,
    )
