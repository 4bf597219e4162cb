"""The bridge with Prometheus and Alertmanager: panels have data, and an alert comes and goes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from market_pipeline_tests.alerts.receiver import Receiver
from market_pipeline_tests.cli.conftest import Runs
from market_pipeline_tests.cli.test_telemetry import served
from market_pipeline_tests.defs.workspace import Workspace
from market_pipeline_tests.ops.dashboard import dashboard_queries
from market_pipeline_tests.ops.services import alertmanager, prometheus, until

pytestmark = pytest.mark.slow

WITHOUT_DATA = re.compile(
    "market_pipeline[_:](capture|sink|recording|store|alerts|expiry|due_newest)"
)
"""Captures, merged recordings, object stores, receivers, what expires, and a day of this week: none
of them is in runs of a day of long ago."""
ALERT = "MarketPipelineVerbFailed"


@pytest.fixture
def copied(runs: Runs, workspace: Workspace, tmp_path: Path) -> Workspace:
    """A pipeline with what the runs of another one have made and recorded."""
    mine = Workspace(tmp_path / "pipeline", workspace.lake, more=dict(workspace.more))
    shutil.copytree(workspace.data_dir, mine.data_dir, symlinks=True)
    shutil.copy(workspace.instruments_file, mine.instruments_file)
    return mine


def test_panels_and_an_alert(copied: Workspace, tmp_path: Path):
    """Each expression of the dashboard has data, but those of what was not run; a verb that fails
    is an alert at the desk, and one that ends well is its end.
    """
    copied.more |= {"PIPELINE_BACKUP_STAMP": f"{tmp_path / 'backup-ended'}"}  # by no backup yet
    assert 2 == copied.start("health").finish().exit_code
    assert 2 == copied.start("prune", "--no-such-option").finish().exit_code
    desk = Receiver().open()

    def posted() -> list[str]:
        titles = [each["attachments"][0]["title"] for each in desk.taken]
        return [each for each in titles if ALERT in each]

    bridge, _ = served(copied)
    (place,) = re.findall(r"http://([\d.:]+)/", bridge.output.read_text())
    with (
        alertmanager(tmp_path / "alertmanager", desk.url()) as alerts,
        prometheus(tmp_path / "prometheus", place, alerts) as metrics,
    ):

        def in_force() -> list[str]:
            found = alerts.get("/api/v2/alerts", params={"filter": f'alertname="{ALERT}"'}).json()
            return [each["labels"]["verb"] for each in found]

        def has_data(expression: str) -> bool:
            answer = metrics.get("/api/v1/query", params={"query": expression}).json()
            assert "success" == answer["status"], answer
            return bool(answer["data"]["result"])

        def with_data() -> set[tuple[str, str]]:
            return {each for each in queries if has_data(each[1])}

        queries = dashboard_queries()
        expected = {each for each in queries if not WITHOUT_DATA.search(each[1])}
        until(lambda: with_data() == expected)  # rates need a second scrape
        assert expected == with_data()
        until(lambda: in_force() == ["prune"])
        assert ["prune"] == in_force()

        assert 0 == copied.start("prune").finish().exit_code
        ended = f"resolved: {ALERT}"
        until(lambda: not in_force() and posted()[-1:] == [ended])
    bridge.kill()
    desk.close()
    # A scrape that a busy machine was too slow for ends an alert, too, until the next one.
    assert [f"firing: {ALERT}", ended] == [posted()[0], posted()[-1]]
