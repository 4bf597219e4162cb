"""Rules and panels ask for what is served, and each alert says what to do."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import yaml

from market_pipeline.telemetry.metrics.table import METRICS
from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.ops.dashboard import dashboard_queries
from market_pipeline_tests.telemetry.figures import scraped_name

FOLDER = REPOSITORY / "ops" / "prometheus"
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
EXPRESSIONS = [*(each["expr"] for each in RULES), *(each for _, each in dashboard_queries())]
ALERTS = [pytest.param(each, id=each["alert"]) for each in RULES if "alert" in each]
SERVED = {scraped_name(name): metric.kind for name, metric in METRICS.items()}
LABELS = {
    *("role", "job", "le", "__name__", "otel_metric_overflow", "alertname", "alertstate"),
    *(attribute for metric in METRICS.values() for attribute in metric.attributes),
}


def test_every_metric_is_served():
    """Each name in a rule or panel is one of the table, as its kind is served, or of the rules."""
    suffix = {"counter": "_total", "histogram": "_bucket", "gauge": ""}
    known = {f"{name}{suffix[kind]}" for name, kind in SERVED.items()}
    names = {name for each in EXPRESSIONS for name in re.findall(r"\bmarket_pipeline_\w+\b", each)}
    labels = {
        label
        for each in EXPRESSIONS
        for inside in re.findall(r"\{([^}]*)\}", each)
        for label in re.findall(r"(\w+)\s*(?:=|!)", inside)
    }
    recorded = {each["record"] for each in RULES if "record" in each}
    used = {name for each in EXPRESSIONS for name in re.findall(r"market_pipeline:[\w:]+", each)}

    assert (set(), set(), recorded) == (names - known - {"market_pipeline_"}, labels - LABELS, used)


@pytest.mark.parametrize("rule", ALERTS)
def test_each_alert_has_its_runbook(rule):
    """Severity, a sentence, and a link to a section that is there."""
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^## (.+)$", (REPOSITORY / page).read_text(), re.MULTILINE)

    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"].endswith(".")
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_each_alert_is_tested():
    """`promtool` is asked for each by its name: for a time when it fires, and for one when not."""
    asked: dict[str, set[bool]] = {each.values[0]["alert"]: set() for each in ALERTS}
    for path in FOLDER.glob("*_test.yml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                asked[case["alertname"]].add(bool(case.get("exp_alerts")))
    assert [] == [name for name, found in asked.items() if found != {True, False}]


@pytest.mark.slow
def test_promtool_agrees():
    """Prometheus reads configuration and rules, and each alert fires on its cause alone."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool (of Debian's package prometheus) is not installed")
    for check in (
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "rules.yml"),
        ("test", "rules", "rules_test.yml", "rules_days_test.yml"),
    ):
        ran = subprocess.run(
            ["promtool", *check], cwd=FOLDER, capture_output=True, text=True, check=False
        )
        assert 0 == ran.returncode, ran.stdout + ran.stderr
