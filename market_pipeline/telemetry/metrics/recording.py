"""How figures are recorded: once for each batch or step, never for each event.

Nothing is kept before `begin`, and nothing of OpenTelemetry is loaded before the first figure, so a
verb that records nothing pays nothing. A figure that cannot be kept is lost, and the work goes on.
"""

from __future__ import annotations

import atexit
import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from market_pipeline.config.settings import Settings

if TYPE_CHECKING:
    from market_pipeline.telemetry.metrics._meter import Meter
    from market_pipeline.telemetry.metrics.metric import Metric

__all__ = ["FOLDER", "Role", "begin", "flush", "record"]

FOLDER = "metrics"
"""The folder in the data folder."""

Role = Literal["run", "capture", "daemon", "command"]
"""What a process is, by which the series of several processes are distinguished.

It is the whole `service.instance.id`: a number of the process, or a container's host name, would
make new series with each run."""


class _Recorder:
    """Where this process records to; without a folder it records nothing."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.place: tuple[Path, Role] | None = None
        self.meter: Meter | None = None


_recorder = _Recorder()


def begin(settings: Settings, role: Role) -> None:
    """Has this process record, from now on, what the settings say; again is nothing."""
    place = (settings.data_dir / FOLDER, role) if settings.metrics else None
    if place == _recorder.place:
        return
    flush()
    with _recorder.lock:
        _recorder.place, _recorder.meter = place, None
    atexit.unregister(flush)
    if place is not None:
        atexit.register(flush)


def record(metric: Metric, value: float | None, **attributes: str) -> None:
    """Records a value: adds it to a counter, sets a gauge, or sorts it into a histogram.

    Args:
        metric: One of the table.
        value: In the metric's unit; None and what is not finite are passed over.
        **attributes: Exactly those that the metric has.
    """
    if _recorder.place is None or value is None or not math.isfinite(value):
        return
    if attributes.keys() != set(metric.attributes):
        raise ValueError(f"{metric.name} has {metric.attributes}, not {sorted(attributes)}")
    meter = _recorder.meter
    if meter is None:
        meter = _made()
    if meter is not None:
        meter.record(metric, value, attributes)


def flush(*, may_wait: bool = False) -> None:
    """Writes what was recorded since the last time.

    Args:
        may_wait: Whether more comes soon, so that within five seconds nothing is written.
    """
    if _recorder.meter is not None:
        _recorder.meter.flush(may_wait=may_wait)


def _made() -> Meter | None:
    from market_pipeline.telemetry.metrics._meter import Meter  # noqa: PLC0415

    with _recorder.lock:
        if _recorder.meter is None and _recorder.place is not None:
            _recorder.meter = Meter(*_recorder.place)
        return _recorder.meter
