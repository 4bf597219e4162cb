"""Pushes the sums of a bridge to a collector, by the exporter of OpenTelemetry, and new spans.

Sums are of temporality CUMULATIVE and only ever come from the bridge: what short processes would
push of their own replaces each other, or makes series for each.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from market_pipeline import __version__
from market_pipeline.config.addresses import addresses_of
from market_pipeline.config.settings import Settings
from market_pipeline.telemetry.bridge._trace_push import TracePush
from market_pipeline.telemetry.bridge.push_session import (
    collector_headers,
    push_session,
    without_login,
)
from market_pipeline.telemetry.bridge.sums import ROLE, Bridge, Family, Series

__all__ = ["OtlpPush"]

_LOG = logging.getLogger(__name__)
# Its texts hold the address.
logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)

_EVERY_S: Final = 30.0
_WAIT_S = 10.0
_SUMS = AggregationTemporality.CUMULATIVE


class OtlpPush:
    """Pushes to every collector that the settings name, from a thread of its own.

    Args:
        bridge: Whose sums.
        current: The settings as they are now, with the addresses; without any it does nothing.
    """

    def __init__(self, bridge: Bridge, current: Callable[[], Settings]) -> None:
        self._bridge, self._current = bridge, current
        self._stop = threading.Event()
        self._failed = False
        self._settings: Settings | None = None
        self._turn_to_collectors()
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)

    def start(self) -> None:
        """Pushes at once, and then every half a minute."""
        self._thread.start()

    def stop(self) -> None:
        """Pushes once more, and waits for it as long as a push may take."""
        self._stop.set()
        self._thread.join(_WAIT_S)

    def push(self) -> bool:
        """Pushes what the bridge has now; whether every collector took it."""
        self._turn_to_collectors()
        if not self._exporters:
            return True
        data = sums_of(self._bridge, time.time_ns())
        if not data.resource_metrics:
            return True
        results = [each.export(data) for each in self._exporters]
        failed = any(each is not MetricExportResult.SUCCESS for each in results)
        if failed and not self._failed:
            _LOG.warning("a collector of PIPELINE_OTLP_URL does not take the figures")
        self._failed = failed
        return not failed

    def _turn_to_collectors(self) -> None:
        """Those that the settings name now, with the credentials of now."""
        settings = self._current()
        if settings != self._settings:
            self._settings = settings
            self._exporters = [
                OTLPMetricExporter(
                    endpoint=f"{without_login(address)}/v1/metrics",
                    headers=collector_headers(settings),
                    timeout=_WAIT_S,
                    session=push_session(settings, address),
                )
                for address in addresses_of(settings.otlp_url)
            ]
            self._traces = TracePush(settings)

    def _run(self) -> None:
        while True:
            is_last = self._stop.wait(0)
            self.push()
            self._traces.push()
            if is_last:
                return
            self._stop.wait(_EVERY_S)


def sums_of(bridge: Bridge, now_ns: int) -> MetricsData:
    """The sums of a bridge as the SDK has them, a resource for each role."""
    of_roles: dict[str, list[Metric]] = defaultdict(list)
    for name, family in bridge.families(now_ns):
        for role in sorted({each.labels[ROLE] for each in family.series.values()}):
            of_role = [each for each in family.series.values() if each.labels[ROLE] == role]
            of_roles[role].append(_metric(name, family, of_role, now_ns))
    scope = InstrumentationScope("market_pipeline", __version__)
    return MetricsData(
        [
            ResourceMetrics(
                Resource({"service.name": "market-pipeline", "service.instance.id": role}),
                [ScopeMetrics(scope, metrics, "")],
                "",
            )
            for role, metrics in of_roles.items()
        ]
    )


def _metric(name: str, family: Family, series: list[Series], now_ns: int) -> Metric:
    about = name, family.description, family.unit
    if family.kind == "histogram":
        points = [
            HistogramDataPoint(
                _attributes(each),
                family.since_ns,
                now_ns,
                each.count,
                each.value,
                each.buckets,
                family.bounds,
                None,  # type: ignore[arg-type]  # the least and the most are not known
                None,  # type: ignore[arg-type]
            )
            for each in series
        ]
        return Metric(*about, Histogram(points, _SUMS))
    if family.kind == "sum":
        sums = [
            NumberDataPoint(_attributes(each), family.since_ns, now_ns, each.value)
            for each in series
        ]
        return Metric(*about, Sum(sums, _SUMS, is_monotonic=True))
    last = [NumberDataPoint(_attributes(each), 0, each.time_ns, each.value) for each in series]
    return Metric(*about, Gauge(last))


def _attributes(series: Series) -> dict[str, str]:
    return {name: value for name, value in series.labels.items() if name != ROLE}
