"""What the SDK has collected as a line of the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from opentelemetry.sdk.metrics.export import Gauge, HistogramDataPoint, Metric, NumberDataPoint, Sum

from market_pipeline.telemetry.otlp import (
    Attribute,
    Data,
    MetricsData,
    Point,
    Resource,
    ResourceMetrics,
    Scope,
    ScopeMetrics,
    Stream,
    Text,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import export as sdk

__all__ = ["encode"]


def encode(data: sdk.MetricsData) -> bytes:
    """One line, without its end."""
    made = MetricsData(
        [
            ResourceMetrics(
                Resource(_attributes(each.resource.attributes)),
                [
                    ScopeMetrics(
                        Scope(scope.scope.name, scope.scope.version or ""),
                        [_stream(metric) for metric in scope.metrics],
                    )
                    for scope in each.scope_metrics
                ],
            )
            for each in data.resource_metrics
        ]
    )
    return msgspec.json.encode(made)


def _attributes(given: Mapping[str, object] | None) -> list[Attribute]:
    return [Attribute(name, Text(str(value))) for name, value in (given or {}).items()]


def _stream(metric: Metric) -> Stream:
    stream = Stream(metric.name, metric.unit or "", metric.description or "")
    points = [
        _point(each)
        for each in metric.data.data_points
        if isinstance(each, NumberDataPoint | HistogramDataPoint)
    ]
    if isinstance(metric.data, Gauge):
        stream.gauge = Data(points)
    elif isinstance(metric.data, Sum):
        stream.sum = Data(points, int(metric.data.aggregation_temporality), is_monotonic=True)
    else:
        stream.histogram = Data(points, int(metric.data.aggregation_temporality))
    return stream


def _point(each: NumberDataPoint | HistogramDataPoint) -> Point:
    point = Point(
        _attributes(each.attributes),
        str(each.start_time_unix_nano or 0),
        str(each.time_unix_nano),
    )
    if isinstance(each, HistogramDataPoint):
        point.count = str(each.count)
        point.sum = float(each.sum)
        point.bucket_counts = [str(count) for count in each.bucket_counts]
        point.explicit_bounds = [float(bound) for bound in each.explicit_bounds]
    elif isinstance(each.value, int):
        point.as_int = str(each.value)
    else:
        point.as_double = float(each.value)
    return point
