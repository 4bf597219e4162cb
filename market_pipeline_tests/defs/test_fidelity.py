from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl
import pytest

from market_pipeline.config.settings import Settings
from market_pipeline.sources.simulated import Fault, FaultKind, simulate
from market_pipeline_tests.defs.workspace import Finished, Workspace, entry
from market_pipeline_tests.published_day import MINUTES, publish_day
from market_pipeline_tests.sources.simulated.days import DAY, instrument

pytestmark = pytest.mark.slow

NAMES = ("SAME-USD", "LOST-USD", "FREE-USD")
LOST = Fault(
    kind=FaultKind.LOST_MESSAGES, symbol="LOST-USD", day=DAY, at_s=30_000, duration_s=30_000
)


@dataclass(frozen=True)
class Story:
    """A day run with golden books of two instruments of three, again, and without any.

    Attributes:
        check: What the check said, by run; None if nothing.
        rows: `quality.fidelity_report` after each run.
        ended: How the runs ended.
    """

    workspace: Workspace
    check: list[dg.AssetCheckEvaluation | None]
    rows: list[pl.DataFrame]
    ended: list[Finished]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    root = tmp_path_factory.mktemp("fidelity")
    markets = [instrument(each) for each in NAMES]
    small = {"messages_per_day": 2_000, "snapshot_interval_s": 60.0}
    simulate(root / "right", markets[:2], DAY, DAY, **small)
    simulate(root / "lake", markets, DAY, DAY, faults=[LOST], **small)
    golden = Settings(data_dir=root / "golden", lake_uri=str(root / "right"), **MINUTES)
    publish_day(golden, [each.as_instrument() for each in markets[:2]], DAY)
    workspace = Workspace(root / "pipeline", root / "lake")
    named: list[dict[str, Any]] = [dict(entry(each)) for each in markets]
    for each in named[:2]:
        each["fidelity"] = {"golden": f"SIMULATED:{each['symbol']}@{golden.data_dir}"}
    story = Story(workspace, [], [], [])
    for configured in (named, named, markets):
        workspace.configure(*configured)
        story.ended.append(workspace.run_days(DAY, None, "--force"))
        story.check.append(workspace.last_checks().get("fidelity"))
        story.rows.append(workspace.sql("FROM quality.fidelity_report ORDER BY symbol"))
    return story


def test_who_names_a_golden_book_has_a_row(story: Story):
    """The two that do are compared: one passes, and the one that lost messages fails."""
    rows = story.rows[0]
    assert [("LOST-USD", "fail"), ("SAME-USD", "pass")] == rows.select("symbol", "grade").rows()
    assert [f"SIMULATED:{name}" for name in ("LOST-USD", "SAME-USD")] == [
        golden.partition("@")[0] for golden in rows["golden"]
    ]


def test_the_check_fails_for_the_one_alone(story: Story):
    """It names the instrument and the worst figure, and says where to look."""
    said = story.check[0]
    assert said is not None
    assert (False, dg.AssetCheckSeverity.ERROR) == (said.passed, said.severity)
    assert "LOST-USD" in str(said.description)
    assert "SAME-USD" not in str(said.description)
    assert "beyond its bound" in str(said.description)
    assert "docs/checks/fidelity.md" == said.metadata["docs"].value


def test_a_second_run_says_the_same(story: Story):
    """Made again of the same books, the rows are the same."""
    assert story.rows[0].equals(story.rows[1])


def test_without_golden_books_nothing_is_said(story: Story):
    """When no instrument names one any more its rows are gone, and the check is silent."""
    assert (0, None) == (story.rows[2].height, story.check[2])
    assert 0 == story.workspace.sql("FROM quality.fidelity_metrics").height


def test_no_verdict_follows_from_it(story: Story):
    """A day that fails against its golden book is validated as it would be without one."""
    codes = {each.exit_code for each in story.ended}
    assert 1 == len(codes), story.ended
