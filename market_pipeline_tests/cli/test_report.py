from __future__ import annotations

from pathlib import Path

import pytest

from market_pipeline.audit.record import AUDIT_FOLDER
from market_pipeline.audit.verify import read_entries
from market_pipeline_tests.cli.conftest import GOOD, NONE
from market_pipeline_tests.defs.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("runs")]


def test_writes_the_page(workspace: Workspace):
    """The page of a day is written into the current folder, its path printed, whatever is on it."""
    finished = workspace.run("report", "--day", "2025-03-03")
    file = workspace.root / "report-2025-03-03.html"
    page = file.read_text(encoding="utf-8")

    assert (0, f"{file}\n", "") == (finished.exit_code, finished.output, finished.errors)
    entries = read_entries(workspace.data_dir / AUDIT_FOLDER)
    assert f"{file}" in [each.what.get("file") for each in entries if each.action == "read"]
    assert [2, 2] == [page.count('class="instrument"'), page.count("<svg")]


def test_chosen_instrument_and_file(workspace: Workspace, tmp_path: Path):
    """With an instrument and a file named, that one is told of and there."""
    file = tmp_path / "one.html"
    chosen = ("--instrument", NONE, "--output", str(file))
    finished = workspace.run("report", "--day", "2025-03-03", *chosen)
    page = file.read_text(encoding="utf-8")

    assert 0 == finished.exit_code
    assert (True, False) == (NONE in page, GOOD in page)


def test_who_was_not_validated(workspace: Workspace):
    """A configured instrument without a verdict of that day is named on the page."""
    workspace.run("report", "--day", "2025-03-04")
    page = (workspace.root / "report-2025-03-04.html").read_text(encoding="utf-8")

    assert f"Not validated on this day: <code>{NONE}</code>" in page


def test_1_nothing_validated(workspace: Workspace):
    """A day without any verdict has no page: 1, and what to do."""
    finished = workspace.run("report", "--day", "2025-03-09")

    assert (1, "") == (finished.exit_code, finished.errors)
    assert (
        "Nothing was validated on 2025-03-09; `market-pipeline run` validates days.\n"
        == finished.output
    )
    assert not (workspace.root / "report-2025-03-09.html").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--day", "2025-03-03", "--instrument", "X:Y"), "not configured"),
        (("--day", "2025-03-03", "--output", "nowhere/x.html"), "refused a file or folder"),
        (("--day", "03.03.2025"), "does not match"),
        ((), "Missing option"),
    ],
    ids=["unknown instrument", "no folder", "no date", "no day"],
)
def test_2_refused(workspace: Workspace, arguments, text):
    """What cannot be told or written is refused with 2 and a message."""
    finished = workspace.run("report", *arguments)

    assert (2, "") == (finished.exit_code, finished.output)
    assert text in " ".join(finished.errors.replace("│", " ").split())
    assert "Traceback" not in finished.errors
