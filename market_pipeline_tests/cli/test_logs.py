"""`market-pipeline logs`: what real runs logged."""

from __future__ import annotations

import json

import pytest

from market_pipeline.warehouse.layout import make_private_folder
from market_pipeline_tests.cli.conftest import GOOD, NONE
from market_pipeline_tests.defs.workspace import Workspace
from market_pipeline_tests.sources.simulated.days import DAY, NEXT_DAY

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("runs")
def test_lines_of_runs(workspace: Workspace):
    """A day's lines are those of its two runs, in order, with step, instrument and trace; a run's
    are a part of them; of a day that nobody ran there are none.
    """
    shown = workspace.run("logs", "--day", f"{DAY}", "--json")
    found = [json.loads(line) for line in shown.output.splitlines()]
    assert (0, 2, {f"{DAY}"}) == (
        shown.exit_code,
        len({line["run"] for line in found}),
        {line["day"] for line in found if "step" in line},
    )
    assert found == sorted(found, key=lambda line: line["time"])
    steps = {line.get("step") for line in found if line["message"].startswith("Finished")}
    assert {"register_raw", "rebuild_books", "validate_day", "measure_day"} <= steps
    traced = {line["run"].replace("-", "") for line in found}
    assert traced == {line["trace_id"] for line in found if "step" in line}
    written = "".join(path.read_text() for path in (workspace.data_dir / "traces").iterdir())
    assert all(f'"traceId":"{trace}"' in written for trace in traced)
    rebuilt = [line for line in found if "instrument" in line and line["step"] == "rebuild_books"]
    assert {GOOD, NONE} == {line["instrument"] for line in rebuilt}

    one = workspace.run("logs", "--run", found[0]["run"][:8], "--json")
    of_run = [json.loads(line) for line in one.output.splitlines()]
    assert of_run == [line for line in found if line["run"] == found[0]["run"]]
    plain = workspace.run("logs", "--day", f"{NEXT_DAY}", "--instrument", GOOD)
    assert 0 == plain.exit_code and GOOD in plain.output
    none = workspace.run("logs", "--day", "2024-01-01")
    assert (1, "") == (none.exit_code, none.output)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "give a run, or a day"),
        (("--run", "a", "--level", "loud"), "expected one of debug"),
    ],
    ids=["nothing", "level"],
)
def test_refused(workspace: Workspace, arguments: tuple[str, ...], why: str):
    """Without a run or a day, or with a level that is none."""
    refused = workspace.run("logs", *arguments)
    assert 2 == refused.exit_code
    assert why in refused.errors


def test_what_ends_a_verb(workspace: Workspace):
    """The error that a verb ends with is in the log, and in that of all errors."""
    make_private_folder(workspace.data_dir)  # where there is none, nothing is logged
    days = ("--start-date", f"{DAY}", "--end-date", f"{DAY}")
    ended = workspace.run("analyze", *days, "--instrument", "NO:SUCH-THING")
    assert (2, True) == (ended.exit_code, "NO:SUCH-THING" in ended.errors)
    for pattern in ("analyze-*.jsonl", "errors.jsonl"):
        # Other tests of the same pipeline have lines there, too.
        lines = [
            json.loads(line)
            for path in (workspace.data_dir / "logs").glob(pattern)
            for line in path.read_text().splitlines()
        ]
        found = [each for each in lines if "NO:SUCH-THING" in each["message"]]
        assert [("analyze", "error")] == [(each["process"], each["level"]) for each in found]
