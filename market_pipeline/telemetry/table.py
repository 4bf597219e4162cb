"""Every metric there is: its name, kind, unit, attributes, bounds of buckets, and one sentence.

Names are dotted and without units, as OpenTelemetry has them; the unit is written in UCUM. An
attribute has as many values as there are steps, tables, venues, instruments, streams, sinks or
receivers: never a file, a run or a day, with which series would grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["METRICS", "Kind", "Metric", "table_markdown"]

Kind = Literal["counter", "gauge", "histogram"]

_STEP_BOUNDS_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0)
_COMMIT_BOUNDS_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_SKEW_BOUNDS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_LIVE_S = 120.0


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: Dotted, as it is recorded.
        kind: What is done with its values: added up, replaced by the next, or sorted into buckets.
        unit: In UCUM; what is counted stands in braces.
        attributes: What its series are distinguished by, beside the role of the process.
        description: One sentence.
        bounds: Upper bounds of a histogram's buckets, in the unit.
        stale_s: After so long a gauge that nobody renewed says nothing any more, as its process
            ended; None for one that stays true until the next run.
    """

    name: str
    kind: Kind
    unit: str
    attributes: tuple[str, ...]
    description: str
    bounds: tuple[float, ...] = ()
    stale_s: float | None = None


METRICS: dict[str, Metric] = {}
"""Every metric by its name, in the order of the documentation."""


def _metric(
    name: str,
    kind: Kind,
    unit: str,
    attributes: str,
    description: str,
    bounds: tuple[float, ...] = (),
    stale_s: float | None = None,
) -> Metric:
    made = Metric(
        f"market_pipeline.{name}",
        kind,
        unit,
        tuple(attributes.split()),
        description,
        bounds,
        stale_s,
    )
    METRICS[made.name] = made
    return made


# --- a run ------------------------------------------------------------------------------------

STEP_DURATION = _metric(
    "step.duration",
    "histogram",
    "s",
    "step",
    "Time of a step's own work, without the reading of inputs and publishing.",
    _STEP_BOUNDS_S,
)
STEP_CPU = _metric(
    "step.cpu_time",
    "counter",
    "s",
    "step part",
    "CPU time of all threads of a step, by part: load, make.",
)
STEP_MEMORY = _metric(
    "step.peak_memory",
    "gauge",
    "By",
    "step",
    "The most resident memory that the process had had when the step ended.",
)
STEP_FAILURES = _metric(
    "step.failures", "counter", "{failure}", "step", "Steps that ended with an error."
)
PUBLISH_DURATION = _metric(
    "publish.duration",
    "histogram",
    "s",
    "table",
    "Time to publish a day of a table.",
    _COMMIT_BOUNDS_S,
)
PUBLISH_CPU = _metric(
    "publish.cpu_time",
    "counter",
    "s",
    "table",
    "CPU time of all threads to publish days of a table.",
)
UNCHANGED_DAYS = _metric(
    "publish.unchanged",
    "counter",
    "{day}",
    "table",
    "Days of instruments that were not made again, as they would have come out the same; of "
    "tables that are made together the first.",
)
PUBLISHED_ROWS = _metric(
    "publish.rows", "counter", "{row}", "table venue", "Rows that were published."
)
PUBLISHED_BYTES = _metric(
    "publish.size", "counter", "By", "table venue", "Bytes of files that were published."
)
CATALOGUE_DURATION = _metric(
    "catalogue.duration",
    "histogram",
    "s",
    "",
    "Time to build the catalogue and swap it in.",
    _COMMIT_BOUNDS_S,
)
RAW_OBJECTS = _metric(
    "raw.objects", "counter", "{object}", "table venue status", "Raw objects that were registered."
)
RAW_ROWS = _metric("raw.rows", "counter", "{row}", "table venue", "Rows of usable raw objects.")
RAW_BYTES = _metric("raw.size", "counter", "By", "table venue", "Bytes of usable raw objects.")
REBUILT_DAYS = _metric(
    "rebuild.outcomes",
    "counter",
    "{day}",
    "venue instrument outcome",
    "Days of instruments that were rebuilt, had no data or were quarantined.",
)
REBUILT_MESSAGES = _metric(
    "rebuild.messages", "counter", "{message}", "venue instrument", "Messages of rebuilt days."
)
REBUILT_RESYNCS = _metric(
    "rebuild.resyncs",
    "counter",
    "{resync}",
    "venue instrument",
    "Times a later snapshot replaced the book.",
)
STREAMED_ROW_GROUPS = _metric(
    "rebuild.streamed_row_groups",
    "counter",
    "{row_group}",
    "venue instrument",
    "Raw row groups that were too large to be decoded whole.",
)
RESUMED_REBUILDS = _metric(
    "rebuild.resumes",
    "counter",
    "{resume}",
    "venue instrument",
    "Rebuilds resumed from a checkpoint of a run that was killed.",
)
VERDICTS = _metric(
    "validation.verdicts",
    "counter",
    "{verdict}",
    "venue instrument condition",
    "Verdicts that were given: available, degraded, pending or missing.",
)
GAPS = _metric(
    "validation.gaps", "counter", "{gap}", "venue instrument", "Suspected gaps of validated days."
)
GAP_TIME = _metric(
    "validation.gap_time", "counter", "s", "venue instrument", "Their length, summed."
)
PRECISION_LOSSES = _metric(
    "validation.precision_losses",
    "counter",
    "{value}",
    "venue instrument column",
    "Prices off the tick and sizes off the lot.",
)
SKEW = _metric(
    "validation.skew",
    "histogram",
    "s",
    "venue",
    "Median of receipt minus exchange time of each hour of each instrument; 0 where negative.",
    _SKEW_BOUNDS_S,
)
VALID_SHARE = _metric(
    "validation.valid_share",
    "gauge",
    "1",
    "venue instrument",
    "Share of the day validated last in which the book was valid; 0 without a book.",
)

# --- the object store -------------------------------------------------------------------------

STORE_CALLS = _metric(
    "store.calls", "counter", "{call}", "", "What was asked of the object store, once each."
)
STORE_REQUESTS = _metric(
    "store.requests",
    "counter",
    "{request}",
    "",
    "Requests sent for it; beyond the calls, the client has repeated them.",
)
STORE_REFUSALS = _metric(
    "store.refusals",
    "counter",
    "{answer}",
    "",
    "Answers of the store that ask for fewer requests (429, 503).",
)
STORE_BYTES = _metric("store.size", "counter", "By", "", "Bytes of objects that were received.")
STORE_BLOCKED = _metric(
    "store.blocked_time",
    "counter",
    "s",
    "limit",
    "Time that threads waited for our own limit of requests or of bytes, summed.",
)

# --- alerts -----------------------------------------------------------------------------------

ALERT_ATTEMPTS = _metric(
    "alerts.attempts",
    "counter",
    "{attempt}",
    "receiver outcome",
    "Attempts to hand an alert to a receiver: sent, failed, or dead after the last one.",
)
ALERTS_WAITING = _metric(
    "alerts.waiting", "gauge", "{alert}", "receiver", "Alerts that wait for a receiver."
)
ALERTS_DEAD = _metric(
    "alerts.dead", "gauge", "{alert}", "receiver", "Alerts that are dead letters."
)

# --- a capture --------------------------------------------------------------------------------

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
SINK_COMMITS = _metric(
    "sink.commits",
    "counter",
    "{commit}",
    "venue sink outcome",
    "Times a sink put rows where they are safe, or could not.",
)
SINK_BLOCKED = _metric(
    "sink.blocked_time", "counter", "s", "venue sink", "Time that books and bars waited for a sink."
)


def table_markdown() -> str:
    """The table of the documentation."""
    lines = [
        "| metric | kind | unit | attributes | bounds of buckets | what it is |",
        "|---|---|---|---|---|---|",
    ]
    for each in METRICS.values():
        attributes = ", ".join(f"`{name}`" for name in each.attributes)
        bounds = ", ".join(f"{bound:g}" for bound in each.bounds)
        lines.append(
            f"| `{each.name}` | {each.kind} | `{each.unit}` | {attributes} | {bounds} "
            f"| {each.description} |"
        )
    return "\n".join(lines) + "\n"
