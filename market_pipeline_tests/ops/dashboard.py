"""What Grafana's dashboard asks for."""

from __future__ import annotations

import json

from market_pipeline_tests.conftest import REPOSITORY

DASHBOARD = REPOSITORY / "ops" / "grafana" / "dashboards" / "market-pipeline.json"


def dashboard_queries() -> list[tuple[str, str]]:
    """Panels by title with each expression, over five minutes where Grafana chooses."""
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", "5m"))
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel.get("targets", [])
    ]
