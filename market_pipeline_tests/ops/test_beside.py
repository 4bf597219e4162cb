"""What stands beside a pipeline: the dashboard as generated, routes, and services on loopback."""

from __future__ import annotations

import json
import re
import runpy
import subprocess

import pytest
import yaml

from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.ops.dashboard import DASHBOARD
from market_pipeline_tests.ops.services import binary
from market_pipeline_tests.ops.test_prometheus import RULES

OPS = REPOSITORY / "ops"
SOURCE = yaml.safe_load((OPS / "grafana/provisioning/datasources/prometheus.yml").read_text())
COMPOSE = yaml.safe_load((OPS / "compose.yml").read_text())
SERVICES = [pytest.param(each, id=name) for name, each in COMPOSE["services"].items()]


def test_the_dashboard_is_as_generated():
    """`make dashboard` would write the file that is there."""
    assert DASHBOARD.read_text() == runpy.run_path(str(OPS / "grafana/dashboard.py"))["text"]()


def test_each_panel_has_the_source_that_is_provisioned():
    """The dashboard finds its Prometheus by the uid, and Grafana the folder of dashboards."""
    (source,) = SOURCE["datasources"]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = {each["datasource"]["uid"] for each in panels if "targets" in each}
    (provider,) = yaml.safe_load(
        (OPS / "grafana/provisioning/dashboards/market-pipeline.yml").read_text()
    )["providers"]
    mounts = COMPOSE["services"]["grafana"]["volumes"]

    assert {source["uid"]} == asked
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in mounts


def test_who_explains_whom_is_an_alert():
    """Each alert that inhibits others, and each that is named as inhibited, is one of the rules."""
    text = (OPS / "alertmanager" / "alertmanager.yml").read_text()
    alerts = {each["alert"] for each in RULES if "alert" in each}
    named = re.findall(r'alertname(=~|=|!=)"([^"]+)"', text)

    assert [] == [
        name for _, name in named if not any(re.fullmatch(name, alert) for alert in alerts)
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_of_the_compose_file(service):
    """Its version is pinned, what it mounts is there, and it listens on loopback only."""
    assert ("host", True, ["ALL"]) == (
        service["network_mode"],
        service["read_only"],
        service["cap_drop"],
    )
    assert re.search(r":(v?\d+\.\d+\.\d+|local)$", service["image"])
    assert "ports" not in service
    files = [each.split(":")[0] for each in service["volumes"] if each.startswith(".")]
    assert [] == [each for each in files if not (OPS / each).exists()]
    said = " ".join([*service.get("command", []), *service.get("environment", {}).values()])
    if "telemetry" not in said:  # the bridge can listen nowhere else
        assert "127.0.0.1" in said
    assert "0.0.0.0" not in said


@pytest.mark.parametrize("severity", ["warning", "critical"])
def test_routes(severity):
    """Alertmanager reads its configuration, and whatever fires goes to the desk."""
    program = binary("amtool")
    file = f"--config.file={OPS / 'alertmanager' / 'alertmanager.yml'}"
    command = [program, "config", "routes", "test", file, f"severity={severity}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (0, "desk") == (ran.returncode, ran.stdout.strip()), ran.stderr
