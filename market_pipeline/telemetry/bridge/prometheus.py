"""What Prometheus scrapes: the sums of a bridge under the names that it expects."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from market_pipeline.telemetry.bridge.sums import ROLE, Bridge, Family

__all__ = ["prometheus_name", "scraped"]

_UNITS = {"s": "seconds", "By": "bytes", "1": "ratio"}
_OWN = "market_pipeline_telemetry"


def prometheus_name(name: str, unit: str) -> str:
    """The name of a metric with its unit; what is counted (`{row}`) is no unit."""
    plain = re.sub(r"[^a-zA-Z0-9_]", "_", name)
    return f"{plain}_{_UNITS[unit]}" if unit in _UNITS else plain


def scraped(
    bridge: Bridge, accept: str, clock: Callable[[], int] = time.time_ns
) -> tuple[str, bytes]:
    """The content type and text of all metrics, in the form that the scraper takes.

    Args:
        bridge: Where they come from.
        accept: The header of the request.
        clock: Unix ns.
    """
    encoder, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(bridge, clock))
    return content_type, encoder(registry)


class _Collector:
    def __init__(self, bridge: Bridge, clock: Callable[[], int]) -> None:
        self._bridge, self._clock = bridge, clock

    def collect(self) -> Iterator[Metric]:
        for name, family in self._bridge.families(self._clock()):
            yield _family(prometheus_name(name, family.unit), family)
        last = GaugeMetricFamily(
            f"{_OWN}_last_point_timestamp_seconds",
            "When the newest figure of a role was recorded, Unix time.",
            labels=[ROLE],
        )
        for role, time_ns in sorted(self._bridge.last_ns.items()):
            last.add_metric([role], time_ns / 1e9)
        yield last
        yield CounterMetricFamily(
            f"{_OWN}_unreadable_lines",
            "Lines of metrics that could not be read.",
            value=self._bridge.unreadable,
        )


def _family(name: str, family: Family) -> Metric:
    labels = sorted({label for each in family.series.values() for label in each.labels})
    text = family.description
    made: CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
    if family.kind == "histogram":
        made = HistogramMetricFamily(name, text, labels=[_label(each) for each in labels])
    elif family.kind == "sum":
        made = CounterMetricFamily(name, text, labels=[_label(each) for each in labels])
    else:
        made = GaugeMetricFamily(name, text, labels=[_label(each) for each in labels])
    for each in family.series.values():
        values = [each.labels.get(label, "") for label in labels]
        if isinstance(made, HistogramMetricFamily):
            made.add_metric(values, _buckets(family.bounds, each.buckets), each.value)
        else:
            made.add_metric(values, each.value)
    return made


def _label(name: str) -> str:
    return name.replace(".", "_")


def _buckets(bounds: list[float], counts: list[int]) -> list[tuple[str, float]]:
    """Each bound with how many values are up to it."""
    up_to, found = 0, []
    for bound, count in zip([*map(str, bounds), "+Inf"], counts, strict=True):
        up_to += count
        found.append((bound, float(up_to)))
    return found
