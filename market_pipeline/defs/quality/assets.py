"""The validation report: a verdict for every instrument and day."""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

import dagster as dg
import polars as pl

from market_pipeline.audit.record import anchor, record
from market_pipeline.books.record import RebuildRecord
from market_pipeline.config.instruments import Instrument
from market_pipeline.defs.anchors import AUDIT_ANCHOR
from market_pipeline.defs.describe import (
    Line,
    Metadata,
    figure_markdown,
    table_metadata,
    unchanged_table,
)
from market_pipeline.defs.interrupts import run_step
from market_pipeline.defs.io_managers import PartitionRows, PublishedRows, published_together
from market_pipeline.defs.options import options
from market_pipeline.defs.partitions import DAILY, day_of, green_if
from market_pipeline.defs.resources import Pipeline
from market_pipeline.defs.step_times import makes
from market_pipeline.defs.telemetry import record_verdicts
from market_pipeline.plots.coverage import coverage_plot
from market_pipeline.plots.valid_time import valid_time_plot
from market_pipeline.quality.coverage import recorded_coverage, with_rows
from market_pipeline.quality.findings import FINDINGS
from market_pipeline.quality.row import VALIDATION_REPORT, ReportRow
from market_pipeline.stages.provenance import VALIDATED
from market_pipeline.stages.raw.message_index import forget_messages
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay
from market_pipeline.stages.recorded_day import UnchangedDay
from market_pipeline.stages.validation.context import PublishedBooks
from market_pipeline.stages.validation.day import ValidatedDay, report_day
from market_pipeline.stages.validation.lookups import Lookups, report_made_of
from market_pipeline.warehouse.read import DayRows

__all__ = ["ASSETS"]

_COVERAGE_DAYS = 60


@dg.multi_asset(
    name="validate_day",
    outs={name: dg.AssetOut(**options(name)) for name in ("validation_report", "quality_findings")},
    partitions_def=DAILY,
)
@makes
@run_step
def validate_day(
    context: dg.AssetExecutionContext,
    pipeline: Pipeline,
    book_rebuilds: pl.DataFrame,
    book_bbo: DayRows,
    book_depth: DayRows,
    book_intervals: DayRows,
    raw_book_deltas: pl.DataFrame,
    raw_book_snapshots: pl.DataFrame,
    raw_trades: pl.DataFrame,
    raw_profiles: pl.DataFrame,
) -> Iterator[dg.Output[PartitionRows | PublishedRows]]:
    """Measure the day's books and validate them; instruments without a book have their row too."""
    lake = pipeline.settings.lake_path
    manifests = raw_book_deltas, raw_book_snapshots, raw_trades
    deltas, snapshots, trades = (RawObjects(lake, manifest) for manifest in manifests)
    raw = RegisteredDay(day_of(context), lake, deltas, snapshots, trades, raw_profiles)
    lookups = Lookups(raw, pipeline.warehouse)
    made_of = report_made_of(lookups, pipeline.selected, book_rebuilds, pipeline.settings)
    unchanged = pipeline.unchanged(context, VALIDATED, made_of)
    made = [each for each in pipeline.selected if each.id not in unchanged]
    validated = report_day(
        lookups,
        made,
        PublishedBooks(book_rebuilds, book_bbo, book_depth, book_intervals),
        pipeline.settings,
        # The only reading of the clock: whether a day without data is pending or missing.
        as_of_ns=time.time_ns(),
    )
    record_verdicts([each.row for each in validated])
    rows = _rows(pipeline.selected, validated, unchanged)
    has_books = any(row.outcome == "rebuilt" for row in rows)
    report = VALIDATION_REPORT.frame(each.row for each in validated)
    found = FINDINGS.frame(row for each in validated for row in each.finding_rows)
    outputs = published_together(
        {
            "validation_report": PartitionRows(report, made, made_of),
            "quality_findings": PartitionRows(found, made, made_of),
        }
    )
    metadata = _of_verdicts(rows, book_rebuilds, _coverage(context, pipeline, rows))
    metadata["unchanged"] = unchanged_table(unchanged)
    if noted := anchor(pipeline.warehouse.data_dir):
        metadata[AUDIT_ANCHOR] = dg.MetadataValue.json(noted)
    yield dg.Output(
        outputs["validation_report"],
        output_name="validation_report",
        metadata=green_if(has_books, context, "validation_report", metadata),
    )
    published = sum(each.rows[FINDINGS.sql_name].height for each in unchanged.values())
    metadata = {"findings": found.height + published, "unchanged": unchanged_table(unchanged)}
    yield dg.Output(
        outputs["quality_findings"],
        output_name="quality_findings",
        metadata=green_if(has_books, context, "quality_findings", metadata),
    )
    # Reached when both are published: no later stage asks for the messages.
    forget_messages(pipeline.warehouse, pipeline.selected, raw.day)


def _rows(
    instruments: Sequence[Instrument],
    validated: Sequence[ValidatedDay],
    unchanged: Mapping[str, UnchangedDay],
) -> list[ReportRow]:
    """The row of each instrument, made by this run or published before."""
    of_each = {each.row.instrument_id: each.row for each in validated} | {
        name: ReportRow.read(found.rows[VALIDATION_REPORT.sql_name])[0]
        for name, found in unchanged.items()
    }
    return [of_each[each.id] for each in instruments]


def _of_verdicts(rows: Sequence[ReportRow], book_rebuilds: pl.DataFrame, coverage: str) -> Metadata:
    """What the UI shows of a day's verdicts: tables, plots and how many of each condition."""
    off_grid = [loss for row in RebuildRecord.read(book_rebuilds) for loss in _off_grid(row)]
    return {
        "verdicts": table_metadata([_verdict(row) for row in rows]),
        "reasons": table_metadata([reason for row in rows for reason in _reasons(row)]),
        "off_grid": table_metadata(off_grid),
        "valid_time": figure_markdown(valid_time_plot(rows), "valid time by instrument"),
        "coverage": figure_markdown(coverage, "condition by instrument and day"),
        **{
            condition: sum(row.condition == condition for row in rows)
            for condition in ("available", "degraded", "pending", "missing")
        },
    }


def _coverage(
    context: dg.AssetExecutionContext, pipeline: Pipeline, rows: Sequence[ReportRow]
) -> str:
    """The days up to this one: what is published, and what this run is about to publish."""
    day = day_of(context)
    start = day - timedelta(days=_COVERAGE_DAYS - 1)
    what = {"table": VALIDATION_REPORT.sql_name, "days": [f"{start}", f"{day}"]}
    record(pipeline.warehouse.data_dir, "read", what, why=context.run_id)
    published = recorded_coverage(pipeline.warehouse, start, day)
    return coverage_plot(with_rows(published, rows), start, day)


def _verdict(row: ReportRow) -> Line:
    def rounded(value: float | None) -> str | None:
        return None if value is None else f"{value:,.3f}"

    return {
        "instrument": row.instrument_id,
        "condition": row.condition,
        "valid h": rounded(None if row.valid_seconds is None else row.valid_seconds / 3600),
        "messages": row.messages,
        "gaps": row.gap_count,
        "gap s": rounded(row.gap_seconds),
        "crossed s": rounded(row.crossed_seconds),
        "skew p50 ms": rounded(row.skew_p50_ms),
    }


def _off_grid(record: RebuildRecord) -> Iterator[Line]:
    """The first ten prices off the tick and sizes off the lot, and their places."""
    for column, step in (("price", "tick"), ("size", "lot")):
        places = (getattr(record, f"{column}_loss_{part}") for part in ("files", "rows", "values"))
        for file, row, value in zip(*(each or () for each in places), strict=True):
            yield {
                "instrument": record.instrument_id,
                "column": column,
                "value": repr(value),
                "step": getattr(record, step),
                "file": file,
                "row": row,
            }


def _reasons(row: ReportRow) -> list[Line]:
    """A line for each sentence: a reason made the day what it is, a warning changed nothing."""
    texts = [("reason", text) for text in row.reasons]
    texts += [("warning", text) for text in row.warnings]
    return [{"instrument": row.instrument_id, "kind": kind, "text": text} for kind, text in texts]


ASSETS = [validate_day]
