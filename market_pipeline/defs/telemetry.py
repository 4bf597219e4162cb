"""What a run records about itself: the figures that its steps have at hand anyway."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import polars as pl

from market_pipeline.books.record import RebuildRecord
from market_pipeline.config.settings import load_settings
from market_pipeline.errors import SettingsError
from market_pipeline.memory import allocated_bytes
from market_pipeline.quality.row import ReportRow
from market_pipeline.stages.raw.day import ManifestRows
from market_pipeline.telemetry.metrics import table
from market_pipeline.telemetry.metrics.metric import Metric
from market_pipeline.telemetry.metrics.recording import flush, record
from market_pipeline.warehouse.staging import StagedFile
from market_pipeline.warehouse.tables import Table

__all__ = [
    "record_files",
    "record_raw",
    "record_rebuilds",
    "record_rows",
    "record_step",
    "record_verdicts",
    "timed",
]


@contextmanager
def timed(metric: Metric, **attributes: str) -> Iterator[None]:
    """Records how long the block takes, if it ends well."""
    began_s = time.perf_counter()
    yield
    record(metric, time.perf_counter() - began_s, **attributes)


def record_step(
    step: str, *, wall_s: float, cpu_s: Mapping[str, float], peak_bytes: float, failed: bool
) -> None:
    """What a step took, by part, when it has ended; a failure is written at once."""
    last = {
        table.STEP_DURATION: wall_s,
        table.STEP_MEMORY: peak_bytes,
        table.STEP_EXIT: int(failed),
    }
    record(table.STEP_DURATION, wall_s, step=step)
    for part, seconds in cpu_s.items():
        record(table.STEP_CPU, seconds, step=step, part=part)
    record(table.STEP_MEMORY, peak_bytes, step=step)
    for allocator, size in allocated_bytes().items():
        record(table.STEP_ALLOCATED, size, step=step, allocator=allocator)
    record(table.STEP_FAILURES, int(failed), step=step)
    record(table.STEP_EXIT, int(failed), step=step)
    flush(may_wait=not failed)  # the end of the run writes what has waited
    with suppress(SettingsError):  # which the step has met itself
        settings = load_settings()
        if settings.pushgateway_url is not None:
            from market_pipeline.telemetry.bridge.pushgateway import push_last_run  # noqa: PLC0415

            push_last_run(settings, step, last)


def record_files(of: Table, files: Iterable[StagedFile]) -> None:
    """The files of a table that were published."""
    for file in files:
        attributes = {"table": of.sql_name, "venue": file.instrument.partition(":")[0]}
        record(table.PUBLISHED_ROWS, file.rows, **attributes)
        record(table.PUBLISHED_BYTES, file.bytes, **attributes)


def record_rows(of: Table, frame: pl.DataFrame) -> None:
    """The rows of a small table that were published."""
    for venue, rows in Counter(frame["exchange"].to_list()).items():
        record(table.PUBLISHED_ROWS, rows, table=of.sql_name, venue=venue)


def record_raw(of: Table, registered: ManifestRows) -> None:
    """The raw objects of a day that were fetched, if the lake is a store, and registered."""
    if registered.fetched is not None:
        for action, count in registered.fetched.counts.items():
            record(table.FETCHED_OBJECTS, count, table=of.sql_name, action=action)
    for row in registered.rows:
        attributes = {"table": of.sql_name, "venue": row.exchange}
        record(table.RAW_OBJECTS, 1, status=row.status, **attributes)
        if row.status == "usable":
            record(table.RAW_ROWS, row.rows, **attributes)
            record(table.RAW_BYTES, row.bytes, **attributes)


def record_rebuilds(records: Iterable[RebuildRecord]) -> None:
    """The days of instruments that a run has rebuilt."""
    for each in records:
        attributes = {"venue": each.exchange, "instrument": each.instrument_id}
        record(table.REBUILT_DAYS, 1, outcome=each.outcome, **attributes)
        record(table.REBUILT_MESSAGES, each.messages, **attributes)
        record(table.REBUILT_RESYNCS, each.resyncs, **attributes)
        record(table.STREAMED_ROW_GROUPS, each.streamed_row_groups, **attributes)


def record_verdicts(rows: Sequence[ReportRow]) -> None:
    """The verdicts that a run has given, and the figures behind them that are watched."""
    for row in rows:
        attributes = {"venue": row.exchange, "instrument": row.instrument_id}
        record(table.VERDICTS, 1, condition=str(row.condition), **attributes)
        record(table.GAPS, row.gap_count, **attributes)
        record(table.GAP_TIME, row.gap_seconds, **attributes)
        record(table.PRECISION_LOSSES, row.price_precision_losses, column="price", **attributes)
        record(table.PRECISION_LOSSES, row.size_precision_losses, column="size", **attributes)
        record(table.EXPECTED_TIME, row.expected, **attributes)
        if row.expected:
            record(table.VALID_SHARE, (row.valid_seconds or 0.0) / row.expected, **attributes)
        for skew_ms in row.skew_p50_ms_per_hour or ():
            if skew_ms is not None:
                record(table.SKEW, max(skew_ms, 0.0) / 1e3, **attributes)
