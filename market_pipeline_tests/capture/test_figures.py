from __future__ import annotations

import time
from pathlib import Path

from market_pipeline.capture.figures import StatusFigures
from market_pipeline.capture.status import SinkStatus, Status, StreamStatus
from market_pipeline.capture.streams import Streams
from market_pipeline.config.capture import CaptureSettings
from market_pipeline.config.settings import load_settings
from market_pipeline.sources.venues.binance import BINANCE_SPOT
from market_pipeline.telemetry.bridge.sums import Bridge
from market_pipeline.telemetry.metrics.capture_table import (
    CAPTURE_FAILOVER,
    CAPTURE_STATUS,
    SINK_COMMIT_DURATION,
)
from market_pipeline.telemetry.metrics.recording import begin
from market_pipeline_tests.telemetry.figures import names_of


def test_states_become_figures(tmp_path: Path):
    """Every row of the table that is a state of captures is there; counts are those of the last,
    also where seconds became fewer in between, and gauges its own.
    """
    begin(load_settings(data_dir=tmp_path), "capture")
    figures = StatusFigures("BINANCE")
    stream = StreamStatus(frames=5, verified_s=9.0)
    status = Status(
        0, streams={"depth:X": stream}, sinks={"jsonl": SinkStatus(written=4, left_out=2)}
    )
    status.lag_p50_ms = status.lag_p99_ms = status.offset_ms = 2.0
    figures.look(status)
    stream.frames, stream.verified_s, stream.gap_s, status.waiting = 7, 4.0, 5.0, 3
    figures.look(status)
    stream.verified_s = 12.0
    status.derived_share, status.wall_ns = 0.75, 5_000_000_000
    figures.look(status)
    begin(load_settings(data_dir=tmp_path, metrics=False), "capture")

    bridge = Bridge(tmp_path / "metrics")
    bridge.update()
    families = dict(bridge.families(time.time_ns()))
    as_it_happens = {CAPTURE_FAILOVER.name, SINK_COMMIT_DURATION.name}
    assert names_of("capture", "sink") - as_it_happens == families.keys()

    def value(name: str, **labels: str) -> float:
        of = labels | {"role": "capture", "venue": "BINANCE"}
        (found,) = (
            each.value
            for each in families[f"market_pipeline.{name}"].series.values()
            if each.labels == of
        )
        return found

    assert (7, 12.0, 5.0) == (
        value("capture.frames", stream="depth:X"),
        value("capture.time", stream="depth:X", state="verified"),
        value("capture.time", stream="depth:X", state="gap"),
    )
    assert (4, 2, 3, 0.002) == (
        value("sink.rows", sink="jsonl"),
        value("sink.left_out", sink="jsonl"),
        value("capture.queue", queue="disk"),
        value("capture.lag", quantile="0.99"),
    )
    assert (0.75, 5.0) == (
        value("capture.queue_share", queue="books"),
        value("capture.status_timestamp"),
    )


def test_an_end_as_asked_is_no_loss(tmp_path: Path):
    """The time of the last state becomes one that no rule takes for a capture that is gone."""
    begin(load_settings(data_dir=tmp_path), "capture")
    figures = StatusFigures("BINANCE")
    figures.look(Status(5_000_000_000))
    figures.ended()
    begin(load_settings(data_dir=tmp_path, metrics=False), "capture")
    bridge = Bridge(tmp_path / "metrics")
    bridge.update()
    (series,) = dict(bridge.families(0))[CAPTURE_STATUS.name].series.values()
    assert 0.0 == series.value


def test_a_failover_has_its_seconds(tmp_path: Path):
    """From when a stream is on no connection until it is on one again, but not before its first."""
    begin(load_settings(data_dir=tmp_path), "capture")
    chosen = CaptureSettings(venue="binance_spot", symbols="BTCUSDT", streams="depth")
    streams = Streams(BINANCE_SPOT, chosen, Status(0), None, lambda name, gap: None)
    times = ((0, False), (1, True), (3, False), (4, False), (9, True), (10, True))
    for at_s, is_covered in (*times, (12, False), (11, True)):  # the clock was set back
        streams.cover("depth:BTCUSDT", is_covered, "", at_s * 1_000_000_000)
    begin(load_settings(data_dir=tmp_path, metrics=False), "capture")
    bridge = Bridge(tmp_path / "metrics")
    bridge.update()
    ((name, family),) = bridge.families(0)
    (series,) = family.series.values()
    assert (CAPTURE_FAILOVER.name, 2, 6.0, "BINANCE") == (
        *(name, series.count, series.value, series.labels["venue"]),
    )
