"""Every metric there is; those of a capture are declared in `capture_table`."""

from __future__ import annotations

from market_pipeline.telemetry.metrics.capture_table import CAPTURE_METRICS
from market_pipeline.telemetry.metrics.metric import COMMIT_BOUNDS_S, Metrics

__all__ = ["METRICS", "table_markdown"]

_STEP_BOUNDS_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0)
_SKEW_BOUNDS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)

METRICS = Metrics()
"""By name, in the order of the documentation."""
_metric = METRICS.declare

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
STEP_ALLOCATED = _metric(
    "step.allocated_memory",
    "gauge",
    "By",
    "step allocator",
    "What the allocators of C and of Arrow had given out when the step ended.",
)
STEP_FAILURES = _metric(
    "step.failures", "counter", "{failure}", "step", "Steps that ended with an error."
)
STEP_EXIT = _metric(
    "step.exit_code", "gauge", "{code}", "step", "How the step ended last: 0 well, 1 with an error."
)
PUBLISH_DURATION = _metric(
    "publish.duration",
    "histogram",
    "s",
    "table",
    "Time to publish a day of a table.",
    COMMIT_BOUNDS_S,
)
PUBLISH_FAILURES = _metric(
    "publish.failures", "counter", "{day}", "table", "Days of tables that could not be published."
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
    COMMIT_BOUNDS_S,
)
RAW_OBJECTS = _metric(
    "raw.objects", "counter", "{object}", "table venue status", "Raw objects that were registered."
)
RAW_ROWS = _metric("raw.rows", "counter", "{row}", "table venue", "Rows of usable raw objects.")
RAW_BYTES = _metric("raw.size", "counter", "By", "table venue", "Bytes of usable raw objects.")
FETCHED_OBJECTS = _metric(
    "fetch.objects",
    "counter",
    "{object}",
    "table action",
    "Objects of a store by what became of them; unchanged ones were here already.",
)
RECORDING_GAPS = _metric(
    "recording.gaps",
    "counter",
    "{gap}",
    "venue outcome hour",
    "Gaps found where recordings were merged, by UTC hour: filled from another host or connection, "
    "or left.",
)
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
CHECKPOINT_DURATION = _metric(
    "rebuild.checkpoint.duration",
    "histogram",
    "s",
    "venue",
    "Time to save what a killed rebuild is resumed from.",
    COMMIT_BOUNDS_S,
)
RECOVERY_DURATION = _metric(
    "rebuild.recovery.duration",
    "histogram",
    "s",
    "venue",
    "Time to load what a killed rebuild is resumed from, and to look for its files.",
    COMMIT_BOUNDS_S,
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
    "venue instrument",
    "Median of receipt minus exchange time of each hour; 0 where negative.",
    _SKEW_BOUNDS_S,
)
VALID_SHARE = _metric(
    "validation.valid_share",
    "gauge",
    "1",
    "venue instrument",
    "Share of the expected time of the day validated last in which the book was valid; 0 without a "
    "book.",
    stale_s=2 * 86_400.0,  # of an instrument that is listed, or configured, no more
)
EXPECTED_TIME = _metric(
    "validation.expected_time",
    "gauge",
    "s",
    "venue instrument",
    "How much of the day validated last the instrument was listed.",
    stale_s=2 * 86_400.0,
)

LATE_TRADES = _metric(
    "bars.late_trades",
    "counter",
    "{trade}",
    "venue",
    "Trades of published bars of the smallest width that came behind one of a later bar.",
)

# --- what is due, and what ends ---------------------------------------------------------------

BACKLOG = _metric(
    "due.backlog",
    "gauge",
    "{day}",
    "venue",
    "Of the days of instruments that the last look at the health expected, those not published.",
)
NEWEST = _metric(
    "due.newest_timestamp",
    "gauge",
    "s",
    "venue",
    "Unix time at which the newest published day of a venue ended; its age is `time()` less it.",
)
EXPIRY = _metric(
    "expiry.timestamp",
    "gauge",
    "s",
    "kind setting",
    "Unix time at which a certificate or credential expires, the first of those of a setting.",
)
BACKUP_END = _metric(
    "backup.end_timestamp",
    "gauge",
    "s",
    "",
    "Unix time at which the last backup ended well; 0 if none did.",
    stale_s=86_400.0,  # where the setting is taken away
)
DISK_FREE = _metric(
    "disk.free_space",
    "gauge",
    "By",
    "folder",
    "What the last look at the health found left of the disk of the data folder, of the lake and "
    "of Dagster's home; of those on one disk the first.",
    stale_s=86_400.0,  # where the folder is another
)
COMMAND_DURATION = _metric(
    "command.duration", "histogram", "s", "verb", "Time that a verb took.", _STEP_BOUNDS_S
)
COMMAND_EXIT = _metric(
    "command.exit_code", "gauge", "{code}", "verb", "The exit code that a verb ended with last."
)
COMMAND_END = _metric(
    "command.end_timestamp", "gauge", "s", "verb", "Unix time at which a verb ended last."
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

METRICS |= CAPTURE_METRICS


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
