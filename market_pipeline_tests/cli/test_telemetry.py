"""`market-pipeline telemetry`: what real runs recorded, served by a real process."""

from __future__ import annotations

import re

import httpx
import pytest

from market_pipeline.telemetry.metrics import table
from market_pipeline.telemetry.metrics.metric import Metric
from market_pipeline_tests.cli.conftest import Runs
from market_pipeline_tests.defs.workspace import PATIENCE_SECONDS, Running, Workspace
from market_pipeline_tests.telemetry.figures import (
    Scrape,
    families_of,
    names_of,
    parsed,
    scraped_name,
)

pytestmark = pytest.mark.slow

RUN = names_of("step", "publish", "catalogue", "raw", "rebuild", "validation", "bars", "command")
NOT_OF_THESE = {table.RESUMED_REBUILDS.name, table.RECOVERY_DURATION.name}
"""What only a run records that was killed before; `test_rebuild_assets` has one."""


def served(workspace: Workspace) -> tuple[Running, str]:
    """A bridge that has read all, and what it serves."""
    bridge = workspace.start("telemetry", "serve", "--port", "0")
    bridge.until(lambda: bridge.output.exists() and "/metrics" in bridge.output.read_text())
    (address,) = re.findall(r"http://\S+", bridge.output.read_text())
    bridge.until(lambda: httpx.get(address.replace("metrics", "readyz")).is_success)
    return bridge, httpx.get(address).text


def total(scrape: Scrape, metric: Metric, **labels: str) -> float:
    """The sum of a counter over all series that have these labels."""
    name = f"{scraped_name(metric.name)}_total"
    return sum(
        value
        for (found, of), value in scrape.items()
        if found == name and set(labels.items()) <= of
    )


def test_runs_are_served(runs: Runs, workspace: Workspace):
    """Every row of the table that is about runs is there, with what was published; a bridge that
    was killed and begins anew serves the same.
    """
    bridge, text = served(workspace)
    bridge.kill()
    second, again = served(workspace)
    (address,) = re.findall(r"http://\S+", second.output.read_text())
    health = httpx.get(address.replace("metrics", "health"), timeout=PATIENCE_SECONDS).json()
    second.process.terminate()
    assert 0 == second.finish().exit_code
    assert parsed(text) == parsed(again)
    assert [f"process {second.process.pid}"] == [
        re.findall(r"process \d+", each["found"])[0]
        for each in health["findings"]
        if each["name"] == "heartbeats"
    ]

    expected = {scraped_name(name) for name in RUN - NOT_OF_THESE}
    assert set() == expected - families_of(text)
    scrape = parsed(text)
    assert (1, 2, 1) == tuple(
        total(scrape, table.VERDICTS, condition=each)
        for each in ("available", "missing", "pending")
    )
    (messages,) = workspace.sql("SELECT sum(messages) FROM books.rebuilds").row(0)
    assert messages == total(scrape, table.REBUILT_MESSAGES)
    (rows,) = workspace.sql("SELECT count(*) FROM books.bbo").row(0)
    assert rows == total(scrape, table.PUBLISHED_ROWS, table="books.bbo")
    assert 0 == total(scrape, table.STEP_FAILURES) < total(scrape, table.STEP_CPU, part="make")
    assert {"run", "command"} == {dict(labels)["role"] for _, labels in scrape}
    codes = {
        dict(labels)["verb"]: code
        for (name, labels), code in scrape.items()
        if name == scraped_name(table.COMMAND_EXIT.name)
    }
    # Of the last run, which may be another test's: 1 where a day is not available.
    assert ({"run"}, True) == (set(codes), codes["run"] in {0, 1})
