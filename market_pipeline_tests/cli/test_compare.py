from __future__ import annotations

import json
from pathlib import Path

import pytest

from market_pipeline_tests.cli.conftest import GOOD, NONE
from market_pipeline_tests.defs.workspace import Workspace
from market_pipeline_tests.sources.simulated.days import DAY

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("runs")]


def test_a_book_against_itself(workspace: Workspace):
    """It passes with 0 everywhere, which is said in a few lines."""
    finished = workspace.run("compare", GOOD, GOOD, "--day", str(DAY))
    assert (0, "") == (finished.exit_code, finished.errors)
    lines = finished.output.splitlines()
    assert f"{GOOD} in {workspace.data_dir} against {GOOD} in {workspace.data_dir}" == lines[0]
    assert "pass The books are equal in every figure that has a bound." == lines[1].rstrip()


def test_json_has_the_pair_and_every_figure(workspace: Workspace):
    """One object by the names of the tables' columns, the figures as a list."""
    addressed = f"{GOOD}@{workspace.data_dir}"
    finished = workspace.run("compare", addressed, GOOD, "--day", str(DAY), "--json")
    told = json.loads(finished.output)
    assert (0, "pass", "number") == (finished.exit_code, told["grade"], told["matched_by"])
    # Before the first snapshot there is no valid book.
    assert told["matched"] == told["compared"] + told["golden_invalid"] > 7_000
    assert {0.0} == {each["value"] for each in told["metrics"]}
    assert {"level_mismatch", "size_error", "spread_ks"} <= {
        each["metric"] for each in told["metrics"]
    }


def test_a_page_is_written_beside(workspace: Workspace, tmp_path: Path):
    """With `--page` there is a page with the plot, for its owner only."""
    file = tmp_path / "fidelity.html"
    finished = workspace.run("compare", GOOD, GOOD, "--day", str(DAY), "--page", str(file))
    page = file.read_text(encoding="utf-8")
    assert (0, 0o600, 1) == (
        finished.exit_code,
        file.stat().st_mode & 0o777,
        page.count("<svg"),
    )
    assert "level_mismatch bid 20" in page


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((GOOD, GOOD), "A published book is of a day"),
        ((GOOD, NONE, "--day", str(DAY)), "There is no published book to compare"),
        ((GOOD, "nothing.gz", "--day", str(DAY)), "neither published nor captured"),
        ((GOOD,), "Missing argument"),
    ],
    ids=["no day", "not published", "no file", "one book"],
)
def test_2_refused(workspace: Workspace, arguments, text):
    """What cannot be read is refused with 2, a message and nothing on standard output."""
    finished = workspace.run("compare", *arguments)
    assert (2, "") == (finished.exit_code, finished.output)
    assert text in " ".join(finished.errors.replace("│", " ").split())
    assert "Traceback" not in finished.errors


def test_captures(workspace: Workspace, sample_data: Path):
    """Two captures given as a file and as a folder, and one that is of another instrument."""
    spot = sample_data / "captures" / "spot"
    file = str(spot / "btcusdt_20240808.gz")
    whose = ("--instrument", "BINANCE:BTC-USDT")
    same = workspace.run("compare", file, file, *whose, "--json")
    told = json.loads(same.output)
    assert (0, 3_451, 345.965) == (same.exit_code, told["matched"], told["common_seconds"])
    longer = json.loads(workspace.run("compare", file, str(spot), *whose, "--json").output)
    assert ("pass", 3_451) == (longer["grade"], longer["matched"])
    other = workspace.run("compare", file, file, "--instrument", "BINANCE:ETH-USDT")
    assert (2, "") == (other.exit_code, other.output)
    assert "no depth event of the instrument" in other.errors
