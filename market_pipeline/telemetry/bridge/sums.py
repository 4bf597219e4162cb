"""Adds up what all processes wrote: differences become the sums that Prometheus asks for.

How far each file was read and what it came to are kept together in one file, so that a bridge that
begins anew counts nothing twice and nothing less, also of files that were removed meanwhile.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from market_pipeline.telemetry.files import line_files, lines_from
from market_pipeline.telemetry.metrics.table import METRICS
from market_pipeline.telemetry.otlp import DELTA, Data, MetricsData, Point, Stream, decode, int64
from market_pipeline.warehouse.layout import written_whole

__all__ = ["ROLE", "Bridge", "Family", "Series"]

_LOG = logging.getLogger(__name__)

ROLE = "role"
"""The label of what a process is."""

_STATE = "bridge.json"


class Series(msgspec.Struct):
    """One series.

    Attributes:
        labels: The role and the attributes.
        value: The sum, or a gauge's last value.
        count, buckets: Of a histogram; `buckets` has one more than there are bounds.
        time_ns: When it was last written to, Unix ns.
    """

    labels: dict[str, str]
    value: float = 0
    count: int = 0
    buckets: list[int] = []
    time_ns: int = 0


class Family(msgspec.Struct):
    """All series of a metric, by their labels as text; added up since `since_ns`, Unix ns."""

    kind: str
    unit: str
    description: str
    bounds: list[float] = []
    since_ns: int = 0
    series: dict[str, Series] = {}


class _State(msgspec.Struct):
    """What is kept.

    Attributes:
        read: By file, how many of its bytes.
        families: By metric.
        unreadable: Lines that were none of the protocol, or of which a point could not be added.
        last_ns: By role, when its newest point was recorded.
    """

    read: dict[str, int] = {}
    families: dict[str, Family] = {}
    unreadable: int = 0
    last_ns: dict[str, int] = {}


_decoder = msgspec.json.Decoder(_State)


class Bridge:
    """The sums of one folder; safe for one reader and many who look.

    Args:
        folder: Where the files of metrics are; nothing need be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._state = self._kept()

    @property
    def unreadable(self) -> int:
        """How many lines could not be read."""
        return self._state.unreadable

    @property
    def last_ns(self) -> dict[str, int]:
        """By role, when its newest figure was recorded, Unix ns."""
        with self._lock:
            return dict(self._state.last_ns)

    def families(self, now_ns: int) -> Iterator[tuple[str, Family]]:
        """Each metric with its series as of now, without gauges that nobody renews any more."""
        with self._lock:
            copied = msgspec.json.encode(self._state)
        for name, family in sorted(_decoder.decode(copied).families.items()):
            known = METRICS.get(name)
            if known is not None and known.stale_s is not None:
                most_ns = int(known.stale_s * 1e9)
                family.series = {
                    key: each
                    for key, each in family.series.items()
                    if abs(now_ns - each.time_ns) <= most_ns
                }
            if family.series:
                yield name, family

    def update(self) -> bool:
        """Reads what was written since the last time; whether there was anything.

        Raises:
            OSError: A file cannot be read, or what was read cannot be noted.
        """
        files = line_files(self._folder)
        names = {path.name for path in files}
        changed = False
        with self._lock:
            for gone in self._state.read.keys() - names:
                del self._state.read[gone]
            for path in files:
                changed |= self._read(path)
        if changed:
            self._keep()
        return changed

    def _read(self, path: Path) -> bool:
        """Adds the whole lines that are new in a file."""
        changed = False
        for line, end in lines_from(path, self._state.read.get(path.name, 0)):
            self._take(line)
            self._state.read[path.name] = end
            changed = True
        return changed

    def _take(self, line: bytes) -> None:
        if not line:
            return
        try:
            data: MetricsData = decode(line)
            streams = [
                (resource["service.instance.id"], stream) for resource, stream in data.streams
            ]
        except (ValueError, KeyError, RecursionError):
            self._state.unreadable += 1
            return
        for role, stream in streams:
            try:
                self._add(role, stream)
            except ValueError as error:
                _LOG.warning("a point of %s is left out: %s", stream.name, error)
                self._state.unreadable += 1

    def _add(self, role: str, stream: Stream) -> None:
        now_ns = time.time_ns()
        for kind in ("sum", "gauge", "histogram"):
            data: Data | None = getattr(stream, kind)
            if data is None:
                continue
            if kind != "gauge" and data.aggregation_temporality != DELTA:
                raise ValueError("it is no difference to the point before")
            for point in data.data_points:
                _check(kind, point)
                family = self._family(kind, stream, point)
                labels = {ROLE: role, **dict(sorted(point.labels.items()))}
                key = msgspec.json.encode(labels).decode()
                series = family.series.get(key) or Series(labels)
                _add_point(kind, series, point, now_ns)
                family.series[key] = series
                last_ns = self._state.last_ns.get(role, 0)
                self._state.last_ns[role] = _newest_ns(last_ns, point.time_ns, now_ns)

    def _family(self, kind: str, stream: Stream, point: Point) -> Family:
        family = self._state.families.get(stream.name)
        if family is None or (family.kind, family.bounds) != (kind, point.explicit_bounds):
            # A release changed what it is: nothing can be added to what was before.
            about = kind, stream.unit, stream.description, point.explicit_bounds
            family = Family(*about, time.time_ns())
            self._state.families[stream.name] = family
        family.unit, family.description = stream.unit, stream.description
        return family

    # --- what is kept --------------------------------------------------------------------------

    def _kept(self) -> _State:
        try:
            return _decoder.decode((self._folder / _STATE).read_bytes())
        except FileNotFoundError:
            return _State()
        except (OSError, ValueError) as error:
            _LOG.warning(
                "%s cannot be read (%s): the files that are there are added up anew",
                self._folder / _STATE,
                error,
            )
            return _State()

    def _keep(self) -> None:
        with self._lock:
            text = msgspec.json.encode(self._state)
        with written_whole(self._folder / _STATE) as file:
            file.write(text)


def _check(kind: str, point: Point) -> None:
    """Refuses a point before anything of it is added.

    Raises:
        ValueError: It is none that can be added: sums only grow, and one number that is not finite
            would make all that comes after it the same.
    """
    if kind == "histogram":
        _ = point.buckets, int64(point.count or "0")
        numbers = [point.sum, *point.explicit_bounds]
    else:
        numbers = [point.number]
    if not all(map(math.isfinite, numbers)) or (kind == "sum" and numbers[0] < 0):
        raise ValueError("it has a number that cannot be added")
    _ = point.time_ns


def _add_point(kind: str, series: Series, point: Point, now_ns: int) -> None:
    """Adds a point to what there is; a gauge takes it if it is the newest."""
    newest_ns = _newest_ns(series.time_ns, point.time_ns, now_ns)
    if kind == "gauge":
        if newest_ns == point.time_ns:
            series.value = point.number
    else:
        value = series.value + (point.number if kind == "sum" else point.sum)
        if not math.isfinite(value):
            raise ValueError("the sum would be too large")
        series.value = value
        if kind == "histogram":
            series.count += int64(point.count or "0")
            before = series.buckets or [0] * len(point.buckets)
            series.buckets = [sum(pair) for pair in zip(before, point.buckets, strict=True)]
    series.time_ns = newest_ns


def _newest_ns(known_ns: int, time_ns: int, now_ns: int) -> int:
    """The later of two times; what is ahead of now is of a clock that was set back since."""
    return time_ns if known_ns > now_ns else max(known_ns, time_ns)
