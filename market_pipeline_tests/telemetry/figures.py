"""What tests look at of the figures that were recorded."""

from __future__ import annotations

import time
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from market_pipeline.telemetry.bridge.prometheus import prometheus_name
from market_pipeline.telemetry.bridge.sums import Bridge
from market_pipeline.telemetry.metrics.table import METRICS

Scrape = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Values by name and labels."""


def names_of(*parts: str) -> set[str]:
    """The metrics of the table whose names begin with one of these parts."""
    return {name for name in METRICS if name.split(".")[1] in parts}


def recorded(folder: Path) -> set[str]:
    """The metrics that a folder has points of."""
    bridge = Bridge(folder)
    bridge.update()
    return {name for name, _ in bridge.families(time.time_ns())}


def parsed(text: str) -> Scrape:
    """A scrape by name and labels, but for those about the bridge itself."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "_telemetry_" not in sample.name
    }


def families_of(text: str) -> set[str]:
    """The names of the families of a scrape."""
    return {family.name for family in text_string_to_metric_families(text)}


def scraped_name(name: str) -> str:
    """What the scrape calls a metric of the table."""
    return prometheus_name(name, METRICS[name].unit)
