"""The metrics of a capture and of its sinks."""

from __future__ import annotations

from market_pipeline.telemetry.metrics.metric import COMMIT_BOUNDS_S, Metrics

__all__ = ["CAPTURE_METRICS"]

_LIVE_S = 120.0
_FAILOVER_BOUNDS_S = (0.1, 0.3, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 300.0)

CAPTURE_METRICS = Metrics()
_metric = CAPTURE_METRICS.declare

CAPTURE_FRAMES = _metric(
    "capture.frames",
    "counter",
    "{frame}",
    "venue stream",
    "Frames recorded from all connections.",
)
CAPTURE_MESSAGES = _metric(
    "capture.messages",
    "counter",
    "{message}",
    "venue stream fate",
    "Messages by what became of them: taken, duplicate, or filled from another connection.",
)
CAPTURE_GAPS = _metric(
    "capture.gaps", "counter", "{gap}", "venue stream", "Gaps that no connection could fill."
)
CAPTURE_TIME = _metric(
    "capture.time",
    "counter",
    "s",
    "venue stream state",
    "Time observed by state: verified, unverifiable, gap, downtime.",
)
CAPTURE_RESYNCS = _metric(
    "capture.resyncs",
    "counter",
    "{resync}",
    "venue stream",
    "Times a whole book took the live book's place.",
)
CAPTURE_BARS = _metric("capture.bars", "counter", "{bar}", "venue stream", "Bars that were closed.")
CAPTURE_LATE_TRADES = _metric(
    "capture.late_trades",
    "counter",
    "{trade}",
    "venue stream",
    "Trades left out of bars, as they came after these were closed.",
)
CAPTURE_STATUS = _metric(
    "capture.status_timestamp",
    "gauge",
    "s",
    "venue",
    "Unix time of the last state of a capture that was recorded; 0 once it has ended as asked.",
)
CAPTURE_CONNECTIONS = _metric(
    "capture.connections",
    "gauge",
    "{connection}",
    "venue state",
    "Connections by state: live, and planned.",
    stale_s=_LIVE_S,
)
CAPTURE_RECONNECTS = _metric(
    "capture.reconnects",
    "counter",
    "{connection}",
    "venue",
    "Connections that ended without having been replaced.",
)
CAPTURE_FAILOVER = _metric(
    "capture.failover.duration",
    "histogram",
    "s",
    "venue",
    "For how long a stream was on no connection until it was on one again, of each stream.",
    _FAILOVER_BOUNDS_S,
)
CAPTURE_UNDECODABLE = _metric(
    "capture.undecodable",
    "counter",
    "{frame}",
    "venue",
    "Frames that are no message of the venue.",
)
CAPTURE_SNAPSHOTS = _metric(
    "capture.snapshots",
    "counter",
    "{request}",
    "venue outcome",
    "Whole books over REST: taken, or refused with 429 or 418.",
)
CAPTURE_LAG = _metric(
    "capture.lag",
    "gauge",
    "s",
    "venue quantile",
    "From the receipt of a frame until the system has it, of the last flushes.",
    stale_s=_LIVE_S,
)
CAPTURE_QUEUE = _metric(
    "capture.queue",
    "gauge",
    "{item}",
    "venue queue",
    "What waits: frames for the disk, frames for books, batches for each sink.",
    stale_s=_LIVE_S,
)
CAPTURE_QUEUE_SHARE = _metric(
    "capture.queue_share",
    "gauge",
    "1",
    "venue queue",
    "How full the queue before the books and before each sink is.",
    stale_s=_LIVE_S,
)
CAPTURE_DROPS = _metric(
    "capture.drops",
    "counter",
    "{item}",
    "venue reason",
    "What was left out: frames that books were too slow for, best quotes that were conflated, "
    "batches that a sink was too slow for.",
)
CAPTURE_CLOCK = _metric(
    "capture.clock_offset",
    "gauge",
    "s",
    "venue",
    "This machine's clock less the venue's.",
    stale_s=_LIVE_S,
)
CAPTURE_FREE = _metric(
    "capture.free_space", "gauge", "By", "venue", "What the disk has left.", stale_s=_LIVE_S
)
SINK_ROWS = _metric("sink.rows", "counter", "{row}", "venue sink", "Rows that a sink took.")
SINK_LEFT_OUT = _metric(
    "sink.left_out",
    "counter",
    "{row}",
    "venue sink",
    "Rows that a sink raised at, or was not given while it was off after that.",
)
SINK_COMMITS = _metric(
    "sink.commits",
    "counter",
    "{commit}",
    "venue sink outcome",
    "Times a sink put rows where they are safe, or could not.",
)
SINK_COMMIT_DURATION = _metric(
    "sink.commit.duration",
    "histogram",
    "s",
    "venue sink",
    "Time of the writes with which a sink put rows where they are safe.",
    COMMIT_BOUNDS_S,
)
SINK_BLOCKED = _metric(
    "sink.blocked_time", "counter", "s", "venue sink", "Time that books and bars waited for a sink."
)
