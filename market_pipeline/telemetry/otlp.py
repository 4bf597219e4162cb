"""The JSON form of OpenTelemetry's protocol: each line is one `MetricsData` or `TracesData`.

Only what is written here is read: attributes that are texts, and 64-bit integers as texts, which
is how the protocol maps them to JSON.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "DELTA",
    "SPAN_ERROR",
    "SPAN_INTERNAL",
    "Attribute",
    "Data",
    "MetricsData",
    "Point",
    "Resource",
    "ResourceMetrics",
    "ResourceSpans",
    "Scope",
    "ScopeMetrics",
    "ScopeSpans",
    "Span",
    "SpanStatus",
    "Stream",
    "Text",
    "TracesData",
    "decode",
    "decode_spans",
    "int64",
]

DELTA = 1
"""The temporality of points that say what was added since the points before."""

SPAN_INTERNAL, SPAN_ERROR = 1, 2
"""The kind of a span that is no call, and the status of one that failed."""

_MOST_DIGITS = 19


def int64(text: str) -> int:
    """An integer of 64 bits.

    Raises:
        ValueError: It is none.
    """
    value = int(text) if len(text) <= _MOST_DIGITS + 1 else None
    if value is None or not -(2**63) <= value < 2**63:
        raise ValueError("an integer of more than 64 bits")
    return value


class Text(msgspec.Struct, rename="camel"):
    """A value that is a text."""

    string_value: str


class Attribute(msgspec.Struct):
    """A name and its value."""

    key: str
    value: Text


class Point(msgspec.Struct, rename="camel", omit_defaults=True):
    """A value of one series: a number, or the buckets of a histogram.

    Attributes:
        attributes: What tells the series apart.
        start_time_unix_nano, time_unix_nano: Between which times it was recorded, Unix ns.
        as_int, as_double: The number.
        count, sum: How many values a histogram took, and what they add up to.
        bucket_counts: How many it took up to each bound, and above the last.
        explicit_bounds: The bounds.
    """

    attributes: list[Attribute] = []
    start_time_unix_nano: str = "0"
    time_unix_nano: str = "0"
    as_int: str | None = None
    as_double: float | None = None
    count: str | None = None
    sum: float = 0.0
    bucket_counts: list[str] = []
    explicit_bounds: list[float] = []

    @property
    def labels(self) -> dict[str, str]:
        """The attributes by name."""
        return {each.key: each.value.string_value for each in self.attributes}

    @property
    def number(self) -> float:
        """The number.

        Raises:
            ValueError: There is none.
        """
        if self.as_int is not None:
            return int64(self.as_int)
        if self.as_double is None:
            raise ValueError("a point without a number")
        return self.as_double

    @property
    def time_ns(self) -> int:
        """When it was recorded, Unix ns.

        Raises:
            ValueError: It is no time.
        """
        return int64(self.time_unix_nano)

    @property
    def buckets(self) -> list[int]:
        """How many values a histogram took up to each bound, and above the last.

        Raises:
            ValueError: They are no counts, or do not fit the bounds.
        """
        counts = [int64(each) for each in self.bucket_counts]
        if len(counts) != len(self.explicit_bounds) + 1 or min(counts) < 0:
            raise ValueError("its buckets do not fit its bounds")
        return counts


class Data(msgspec.Struct, rename="camel", omit_defaults=True):
    """The points of a metric, and how they are to be added up."""

    data_points: list[Point]
    aggregation_temporality: int = 0
    is_monotonic: bool = False


class Stream(msgspec.Struct, omit_defaults=True):
    """One metric: a sum, a gauge or a histogram."""

    name: str
    unit: str = ""
    description: str = ""
    sum: Data | None = None
    gauge: Data | None = None
    histogram: Data | None = None


class Scope(msgspec.Struct):
    """The library that recorded."""

    name: str
    version: str = ""


class ScopeMetrics(msgspec.Struct):
    """The metrics of a library."""

    scope: Scope
    metrics: list[Stream]


class Resource(msgspec.Struct):
    """What the metrics are about."""

    attributes: list[Attribute]


class ResourceMetrics(msgspec.Struct, rename="camel"):
    """The metrics of a resource."""

    resource: Resource
    scope_metrics: list[ScopeMetrics]


class MetricsData(msgspec.Struct, rename="camel"):
    """What one process wrote at once."""

    resource_metrics: list[ResourceMetrics]

    @property
    def streams(self) -> list[tuple[dict[str, str], Stream]]:
        """Each metric with the attributes of what it is about."""
        return [
            ({pair.key: pair.value.string_value for pair in each.resource.attributes}, stream)
            for each in self.resource_metrics
            for scope in each.scope_metrics
            for stream in scope.metrics
        ]


class SpanStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a span ended; without a code it is not known to have failed."""

    code: int = 0
    message: str = ""


class Span(msgspec.Struct, rename="camel", omit_defaults=True):
    """A span; ids in hexadecimal, times in Unix ns."""

    trace_id: str
    span_id: str
    name: str
    start_time_unix_nano: str
    end_time_unix_nano: str
    attributes: list[Attribute]
    parent_span_id: str = ""
    kind: int = 0
    status: SpanStatus = SpanStatus()


class ScopeSpans(msgspec.Struct):
    """The spans of a library."""

    scope: Scope
    spans: list[Span]


class ResourceSpans(msgspec.Struct, rename="camel"):
    """The spans of a resource."""

    resource: Resource
    scope_spans: list[ScopeSpans]


class TracesData(msgspec.Struct, rename="camel"):
    """A line of `traces/`: one span when it ended."""

    resource_spans: list[ResourceSpans]


_decoder = msgspec.json.Decoder(MetricsData)
decode = _decoder.decode
"""Reads one line; raises `msgspec.MsgspecError`, a `ValueError`, if it is none."""

_span_decoder = msgspec.json.Decoder(TracesData)
decode_spans = _span_decoder.decode
"""Reads one line of spans; raises as `decode` does."""
