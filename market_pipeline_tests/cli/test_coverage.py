from __future__ import annotations

import json
from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.cli.coverage import day_blocks
from market_pipeline_tests.cli.conftest import GOOD, NONE
from market_pipeline_tests.defs.workspace import Workspace

COLUMNS = [
    *("exchange", "symbol", "dt", "condition"),
    *("expected_seconds", "valid_share", "verified_share", "observed_share"),
    *("gap_seconds", "crossed_seconds", "reasons", "first_reason"),
]


@settings(max_examples=50)
@given(st.dates(date(2023, 12, 1), date(2024, 3, 31)), st.integers(1, 400), st.integers(7, 200))
def test_blocks(start, length, width):
    """Every day is in one block, in order; a block fits and is of whole months, or whole weeks.

    Two blocks that would fit beside one another are one.
    """
    days = [start + timedelta(days=number) for number in range(length)]
    blocks = list(day_blocks(days, width))
    widths = [sum(map(len, block)) + len(block) - 1 for block in blocks]
    first_days = [block[0][0] for block in blocks[1:]]
    fits = width >= max(
        sum(day.replace(day=1) == other.replace(day=1) for other in days) for day in days
    )

    assert days == [day for block in blocks for month in block for day in month]
    assert all(len({day.month for day in month}) == 1 for block in blocks for month in block)
    assert max(widths) <= width
    assert all(day.day == 1 if fits else day.day % 7 == 1 for day in first_days)
    if fits:
        assert all(
            wide + 1 + len(following[0]) > width
            for wide, (_, following) in zip(widths, pairwise(blocks), strict=False)
        )


@pytest.mark.slow
@pytest.mark.usefixtures("runs")
class TestVerb:
    def test_grid(self, workspace: Workspace):
        """Instruments down, days across, a letter for each condition and a dot for none."""
        finished = workspace.run("coverage")
        lines = finished.output.splitlines()
        margin = " " * (len(GOOD) + 1)

        assert (1, "") == (finished.exit_code, finished.errors)
        assert [f"{margin}2025-03", f"{margin}000", f"{margin}345"] == lines[:3]
        assert [f"{GOOD} AMM", f"{NONE} p.."] == lines[3:5]
        assert [GOOD, *"10020"] == lines[-2].split()[:6]
        assert [NONE, *"00102", "0.000%"] == lines[-1].split()
        assert "\x1b" not in finished.output

    def test_json(self, workspace: Workspace):
        """The rows of the view come as JSON; a day that was not validated has null."""
        finished = workspace.run("coverage", "--json", "--start-date", "2025-03-04")
        rows = json.loads(finished.output)

        assert 1 == finished.exit_code
        assert [COLUMNS] * 4 == [list(row) for row in rows]
        assert [
            ("GOOD-USD", "2025-03-04", "missing"),
            ("GOOD-USD", "2025-03-05", "missing"),
            ("NONE-USD", "2025-03-04", None),
            ("NONE-USD", "2025-03-05", None),
        ] == [(row["symbol"], row["dt"], row["condition"]) for row in rows]

    def test_0_all_available(self, workspace: Workspace):
        """If every day shown is available it ends with 0."""
        chosen = ("--instrument", GOOD, "--end-date", "2025-03-03")

        assert 0 == workspace.run("coverage", *chosen).exit_code

    def test_nothing_yet(self, tmp_path, workspace: Workspace):
        """Before the first run there is nothing to show: 1, and what to do."""
        finished = Workspace(tmp_path / "fresh", workspace.lake).run("coverage")

        assert (1, "No published day matches; `market-pipeline run` validates days.\n", "") == (
            finished.exit_code,
            finished.output,
            finished.errors,
        )
