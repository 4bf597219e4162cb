"""What the report page tells of one instrument's day, read from what is published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import polars as pl

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.thresholds import Thresholds
from market_pipeline.plots.hours import hours_plot
from market_pipeline.plots.published import plot_files
from market_pipeline.plots.samples import interval_totals
from market_pipeline.quality.checks.base import Check, CheckOutcome
from market_pipeline.quality.evaluate import CHECKS, evaluate, thresholds_in_force
from market_pipeline.quality.findings import FINDINGS, FindingRow
from market_pipeline.quality.row import ReportRow
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.file_views import shown_files
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.tables import Record

__all__ = ["PageDay", "read_instrument_day"]

_PLACES = "\"check\", list_position(['first', 'worst', 'further'], place), ts_receipt_ns"
"""The order of a check's places: the first and the worst before the others."""


@dataclass(frozen=True, slots=True)
class PageDay:
    """All that the page tells of one instrument's day.

    Attributes:
        row: Its verdict.
        checks: Every check there is, with its result; None where it could not be asked.
        configured: Whether the thresholds are those of the verdict, or of the instruments file if
            it recorded none; else they are the defaults.
        findings: Its rows of `quality.findings`, by check.
        raw_files: Its rows of `lake.manifest`.
        converter_notes: What is noted in them, once each, as every raw table has all of it.
        intervals: Its rows of `interval_totals`; empty for a day that was not rebuilt.
        day_svg, hours_svg: Its plots; None for a day that was not rebuilt.
    """

    row: ReportRow
    checks: list[tuple[Check, CheckOutcome | None]]
    configured: bool
    findings: list[FindingRow]
    raw_files: Sequence[Record]
    converter_notes: Sequence[str]
    intervals: Sequence[Record]
    day_svg: str | None
    hours_svg: str | None


def read_instrument_day(
    connection: duckdb.DuckDBPyConnection,
    warehouse: Warehouse,
    row: ReportRow,
    instrument: Instrument | None,
) -> PageDay:
    """Reads and draws one instrument's day; its messages are reduced as they are read.

    Args:
        connection: To the catalogue.
        warehouse: Where the big tables lie.
        row: The published verdict.
        instrument: As configured; None if it is no more. The thresholds are those of the verdict.
    """
    configured = Thresholds() if instrument is None else instrument.thresholds
    thresholds = thresholds_in_force(row, configured)
    by_check = {outcome.check: outcome for outcome in evaluate(row, thresholds)}
    intervals: Sequence[Record] = []
    files = {
        asset: shown_files(connection, warehouse, TABLES[asset], row.dt, row.instrument_id)
        for asset in ("book_bbo", "book_depth", "book_intervals")
    }
    plot = plot_files(row, files)
    if plot is not None:
        intervals = interval_totals(files["book_intervals"]).to_dicts()
    hours_title = f"Skew and mismatches of {row.instrument_id} on {row.dt} by hour"
    raw_files = _rows(connection, "lake.manifest", row, "asset, shard")
    notes = raw_files["converter_notes"].explode()
    return PageDay(
        row=row,
        checks=[(check, by_check.get(check)) for check in CHECKS],
        configured=instrument is not None or row.thresholds is not None,
        findings=FindingRow.read(_rows(connection, FINDINGS.sql_name, row, _PLACES)),
        raw_files=raw_files.to_dicts(),
        converter_notes=notes.drop_nulls().unique(maintain_order=True).to_list(),
        intervals=intervals,
        day_svg=None if plot is None else plot.as_inline(),
        hours_svg=None if plot is None else hours_plot(row, hours_title),
    )


def _rows(
    connection: duckdb.DuckDBPyConnection, table: str, row: ReportRow, order: str
) -> pl.DataFrame:
    """One instrument's day of a small table."""
    return connection.execute(
        f"SELECT * FROM {table} WHERE exchange = $1 AND symbol = $2 AND dt = $3 ORDER BY {order}",
        [row.exchange, row.symbol, row.dt],
    ).pl()
