"""What a process has recorded since it last wrote, kept by the SDK of OpenTelemetry."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    Counter,
    Histogram,
    MeterProvider,
    _Gauge,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from market_pipeline import __version__
from market_pipeline.errors import MarketPipelineError
from market_pipeline.scrub.scrubber import scrubbed_json
from market_pipeline.telemetry.files import TOGETHER_S, append_line
from market_pipeline.telemetry.metrics._encode import encode
from market_pipeline.telemetry.metrics.metric import Metric

__all__ = ["Meter"]

_LOG = logging.getLogger(__name__)

_KINDS = (Counter, _Gauge, Histogram)
_MOST_SERIES = 100_000
"""The SDK puts what is beyond its own limit of 2,000 into one point, under another attribute."""
_MOST_UNWRITTEN = 100


_Take = Callable[[float, Mapping[str, str]], None]


class Meter:
    """The figures of one process, written as differences: a reader adds those of all processes up.

    Args:
        folder: Where to write.
        role: What the process is.
    """

    def __init__(self, folder: Path, role: str) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._unwritten: deque[bytes] = deque(maxlen=_MOST_UNWRITTEN)
        self._failed = False
        self._next_s = 0.0
        self._reader = InMemoryMetricReader(
            # Of a gauge it means that a value is written once, and not again with each flush.
            preferred_temporality=dict.fromkeys(_KINDS, AggregationTemporality.DELTA),
            cardinality_limits=dict.fromkeys(_KINDS, _MOST_SERIES),
        )
        provider = MeterProvider(
            [self._reader],
            # Made whole: what the SDK would add is different in each process.
            Resource({"service.name": "market-pipeline", "service.instance.id": role}),
            exemplar_filter=AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
        )
        self._meter = provider.get_meter("market_pipeline", __version__)
        # Made when they are used: each flush asks all there are.
        self._take: dict[str, _Take] = {}

    def record(self, metric: Metric, value: float, attributes: Mapping[str, str]) -> None:
        """Takes a value of a series."""
        take = self._take.get(metric.name)
        if take is None:
            with self._lock:
                take = self._take.setdefault(metric.name, _take(self._meter, metric))
        take(value, attributes)

    def flush(self, *, may_wait: bool = False) -> None:
        """Writes a line; what cannot be written is tried again with the next.

        Args:
            may_wait: Whether to leave it to the next time where a line was written just before.
        """
        with self._lock:
            now_s = time.monotonic()
            if may_wait and now_s < self._next_s:
                return
            self._next_s = now_s + TOGETHER_S
            data = self._reader.get_metrics_data()
            if data is not None and data.resource_metrics:
                # Labels are names, of which one may be set to what is a secret elsewhere.
                line = scrubbed_json(encode(data).decode(), guess=False)
                self._unwritten.append(line.encode() + b"\n")
            try:
                while self._unwritten:
                    append_line(self._folder, self._unwritten[0])
                    self._unwritten.popleft()
                self._failed = False
            except (OSError, MarketPipelineError) as error:
                if not self._failed:
                    _LOG.warning("metrics cannot be written to %s now: %s", self._folder, error)
                self._failed = True


def _take(meter: api.Meter, metric: Metric) -> _Take:
    """What takes the values of a metric."""
    about = metric.name, metric.unit, metric.description
    if metric.kind == "counter":
        return meter.create_counter(*about).add
    if metric.kind == "gauge":
        return meter.create_gauge(*about).set
    bounds = list(metric.bounds)
    return meter.create_histogram(*about, explicit_bucket_boundaries_advisory=bounds).record
