"""What a capture records about itself: how its counts have grown, and what is so at the moment."""

from __future__ import annotations

from market_pipeline.capture.status import SinkStatus, Status, StreamStatus
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.telemetry.metrics import capture_table as table
from market_pipeline.telemetry.metrics.metric import Metric
from market_pipeline.telemetry.metrics.recording import flush, record

__all__ = ["EVERY_S", "StatusFigures"]

EVERY_S = 30.0
"""Seconds between two looks: each is a line of all streams."""


class StatusFigures:
    """Records one state of a capture after the other.

    Args:
        venue: Whose streams it records.
    """

    def __init__(self, venue: str) -> None:
        self._venue = venue
        self._recorded: dict[tuple[str, ...], float] = {}

    def look(self, status: Status) -> None:
        """Records a state, and writes what it has beyond those before."""
        for name, stream in status.streams.items():
            self._stream(name, stream)
        for name, sink in status.sinks.items():
            self._sink(name, sink)
        self._grown(table.CAPTURE_RECONNECTS, status.reconnects)
        self._grown(table.CAPTURE_UNDECODABLE, status.undecodable)
        self._grown(table.CAPTURE_SNAPSHOTS, status.snapshots, outcome="taken")
        self._grown(table.CAPTURE_SNAPSHOTS, status.refused, outcome="refused")
        self._grown(table.CAPTURE_DROPS, status.derived_dropped, reason="books_behind")
        self._grown(table.CAPTURE_DROPS, status.conflated, reason="conflated")
        self._now(table.CAPTURE_CONNECTIONS, status.connections, state="live")
        self._now(table.CAPTURE_CONNECTIONS, status.links, state="planned")
        self._now(table.CAPTURE_LAG, _seconds(status.lag_p50_ms), quantile="0.5")
        self._now(table.CAPTURE_LAG, _seconds(status.lag_p99_ms), quantile="0.99")
        self._now(table.CAPTURE_QUEUE, status.waiting, queue="disk")
        self._now(table.CAPTURE_QUEUE, status.derived_waiting, queue="books")
        self._now(table.CAPTURE_CLOCK, _seconds(status.offset_ms))
        self._now(table.CAPTURE_FREE, status.free_bytes)
        self._now(table.CAPTURE_QUEUE_SHARE, status.derived_share, queue="books")
        self._now(table.CAPTURE_STATUS, status.wall_ns / NS_PER_SECOND)
        flush()

    def ended(self) -> None:
        """Records that nobody is to miss the capture: it has ended as it was asked to."""
        self._now(table.CAPTURE_STATUS, 0.0)
        flush()

    def _stream(self, name: str, stream: StreamStatus) -> None:
        self._grown(table.CAPTURE_FRAMES, stream.frames, stream=name)
        self._grown(table.CAPTURE_MESSAGES, stream.messages, stream=name, fate="taken")
        self._grown(table.CAPTURE_MESSAGES, stream.duplicates, stream=name, fate="duplicate")
        self._grown(table.CAPTURE_MESSAGES, stream.filled, stream=name, fate="filled")
        self._grown(table.CAPTURE_GAPS, stream.gaps, stream=name)
        self._grown(table.CAPTURE_RESYNCS, stream.resyncs, stream=name)
        self._grown(table.CAPTURE_BARS, stream.bars, stream=name)
        self._grown(table.CAPTURE_LATE_TRADES, stream.late_trades, stream=name)
        for state in ("verified", "unverifiable", "gap", "downtime"):
            seconds: float = getattr(stream, f"{state}_s")
            self._grown(table.CAPTURE_TIME, seconds, stream=name, state=state)

    def _sink(self, name: str, sink: SinkStatus) -> None:
        self._grown(table.SINK_ROWS, sink.written, sink=name)
        self._grown(table.SINK_LEFT_OUT, sink.left_out, sink=name)
        self._grown(table.SINK_COMMITS, sink.commits, sink=name, outcome="done")
        self._grown(table.SINK_COMMITS, sink.failures, sink=name, outcome="failed")
        self._grown(table.SINK_BLOCKED, sink.blocked_s, sink=name)
        self._grown(table.CAPTURE_DROPS, sink.dropped, reason=f"sink_{name}")
        self._now(table.CAPTURE_QUEUE, sink.waiting, queue=f"sink_{name}")
        self._now(table.CAPTURE_QUEUE_SHARE, sink.share, queue=f"sink_{name}")

    def _grown(self, metric: Metric, value: float, **attributes: str) -> None:
        """Records by how much a count is above its highest so far, and at first also nothing.

        Seconds become fewer where a gap shows late; they are recorded again when they are past it.
        """
        series = (metric.name, *attributes.values())
        before = self._recorded.get(series)
        if before is None or value > before:
            record(metric, value - (before or 0), venue=self._venue, **attributes)
            self._recorded[series] = value

    def _now(self, metric: Metric, value: float | None, **attributes: str) -> None:
        record(metric, value, venue=self._venue, **attributes)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1e3
