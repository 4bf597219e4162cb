from __future__ import annotations

import pytest
from typer.testing import CliRunner

from market_pipeline.cli.app import app
from market_pipeline.telemetry.bridge.prometheus import prometheus_name
from market_pipeline.telemetry.metrics.table import METRICS
from market_pipeline_tests.conftest import REPOSITORY


def test_the_documentation_has_it():
    """docs/telemetry.md ends with what `telemetry list` prints."""
    printed = CliRunner().invoke(app, ["telemetry", "list"]).output
    assert (REPOSITORY / "docs" / "telemetry.md").read_text().endswith(f"\n\n{printed}")
    assert len(METRICS) + 2 == len(printed.splitlines())


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_metric_is_declared_soundly(metric):
    """No unit and no `total` is in a name, no attribute grows, and bounds are a histogram's."""
    words = {"total", "seconds", "days", "bytes", "count"}
    assert not words & set(metric.name.replace(".", "_").split("_"))
    assert metric.unit in {"s", "By", "1"} or (metric.unit[0], metric.unit[-1]) == ("{", "}")
    assert not {"file", "run", "run_id", "day", "dt", "pid"} & set(metric.attributes)
    assert (metric.kind == "histogram") == bool(metric.bounds)
    assert [*metric.bounds] == sorted(set(metric.bounds))
    assert metric.description.endswith(".")


def test_names_of_prometheus():
    """They are as different as those of the table."""
    names = {prometheus_name(each.name, each.unit) for each in METRICS.values()}
    assert len(METRICS) == len(names)
