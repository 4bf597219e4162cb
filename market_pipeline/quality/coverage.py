"""Coverage: the verdict of every instrument on every day, holes included."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import duckdb
import polars as pl

from market_pipeline.quality.intervals import SECONDS_PER_DAY
from market_pipeline.quality.row import VALIDATION_REPORT, ReportRow
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.tables import Column, View
from market_pipeline.warehouse.working import ensure_table
from market_pipeline.warehouse.working_file import writing

__all__ = ["COVERAGE", "not_listed", "read_coverage", "recorded_coverage", "with_rows"]

_QUERY = f"""
WITH report AS (
    FROM {VALIDATION_REPORT.sql_name}
    UNION ALL BY NAME  -- null in a catalogue of a version that did not have them
    SELECT NULL::DOUBLE AS expected_seconds,
           NULL::BIGINT AS listed_ns, NULL::BIGINT AS delisted_ns WHERE false
),
instruments AS (  -- a day without a book says nothing of a listing that was stated later
    SELECT exchange, symbol,
           arg_max_null(listed_ns, (outcome = 'rebuilt', dt)) AS listed_ns,
           arg_max_null(delisted_ns, (outcome = 'rebuilt', dt)) AS delisted_ns
    FROM report
    GROUP BY exchange, symbol
),
days AS (
    SELECT CAST(unnest(generate_series(min(dt), max(dt), INTERVAL 1 DAY)) AS DATE) AS dt
    FROM report
),
listed AS (
    SELECT exchange, symbol, dt, greatest(0, least(
               epoch_ns(dt + INTERVAL 1 DAY), instruments.delisted_ns
           ) - greatest(epoch_ns(dt::TIMESTAMP), instruments.listed_ns)) / 1e9 AS listed_seconds
    FROM instruments CROSS JOIN days
),
expected AS (
    SELECT exchange, symbol, dt, report.* EXCLUDE (exchange, symbol, dt, expected_seconds),
           least(
               CASE WHEN outcome = 'rebuilt' THEN NULL ELSE listed_seconds END,
               coalesce(report.expected_seconds, {SECONDS_PER_DAY}::DOUBLE)
           ) AS expected_seconds
    FROM listed LEFT JOIN report USING (exchange, symbol, dt)
)
SELECT exchange, symbol, dt,
       CASE WHEN is_expected THEN condition END AS condition, expected_seconds,
       valid_seconds / nullif(expected_seconds, 0) AS valid_share,
       verified_seconds / nullif(expected_seconds, 0) AS verified_share,
       observed_seconds / nullif(expected_seconds, 0) AS observed_share,
       gap_seconds, crossed_seconds,
       CASE WHEN is_expected THEN len(reasons) END AS reasons,
       CASE WHEN is_expected THEN reasons[1] END AS first_reason
FROM (SELECT *, outcome = 'rebuilt' OR expected_seconds > 0 AS is_expected FROM expected)
"""

COVERAGE = View(
    schema="quality",
    name="coverage",
    description="One row per instrument and UTC day from the first to the last validated day of "
    "any instrument, holes included; null where nothing was validated. With 0 expected seconds "
    "nothing is expected of the day.",
    columns=(
        Column("exchange", "VARCHAR", "Venue, upper case."),
        Column("symbol", "VARCHAR", "Symbol at the venue, upper case."),
        Column("dt", "DATE", "UTC day of receipt."),
        Column(
            "condition",
            "VARCHAR",
            "available, degraded, pending or missing; null: not validated.",
        ),
        Column(
            "expected_seconds",
            "DOUBLE",
            "Seconds of the day in which the instrument is listed; where there is no book, by its "
            "newest row that has one.",
        ),
        Column(
            "valid_share",
            "DOUBLE",
            "Valid seconds as a share of the expected ones; null if not rebuilt.",
        ),
        Column(
            "verified_share",
            "DOUBLE",
            "Verified seconds as a share of the expected ones; null if not rebuilt.",
        ),
        Column(
            "observed_share",
            "DOUBLE",
            "Observed seconds as a share of the expected ones; null if not rebuilt.",
        ),
        Column("gap_seconds", "DOUBLE", "Total length of the gaps."),
        Column("crossed_seconds", "DOUBLE", "Observed seconds with a crossed book."),
        Column("reasons", "BIGINT", "How many reasons there are why it is not available."),
        Column("first_reason", "VARCHAR", "The first of them; null without one."),
    ),
    query=_QUERY,
)


def read_coverage(
    connection: duckdb.DuckDBPyConnection,
    start: date | None = None,
    end: date | None = None,
    instruments: Sequence[str] = (),
) -> pl.DataFrame:
    """The rows of `quality.coverage`, by instrument and day.

    Args:
        connection: To the catalogue; one that is older than the view will do.
        start, end: The first and the last UTC day, both included; None leaves that end open.
        instruments: Only these ids (VENUE:SYMBOL); empty for all.
    """
    return connection.execute(
        f"SELECT * FROM ({_QUERY}) WHERE dt >= coalesce($1, dt) AND dt <= coalesce($2, dt) "
        "AND (len($3::VARCHAR[]) = 0 OR list_contains($3, exchange || ':' || symbol)) "
        "ORDER BY exchange, symbol, dt",
        [start, end, list(instruments)],
    ).pl()


def recorded_coverage(warehouse: Warehouse, start: date, end: date) -> pl.DataFrame:
    """`read_coverage` of the small tables as they are, which the catalogue may not show yet.

    To open the catalogue takes three times as long.

    Raises:
        WarehouseBusyError: Another process kept the lock for the whole wait.
    """
    with writing(warehouse, ()) as connection:
        ensure_table(connection, VALIDATION_REPORT)
        return read_coverage(connection, start, end)


def not_listed() -> pl.Expr:
    """Whether a row's day has no verdict because nothing is expected of it."""
    return pl.col("condition").is_null() & (pl.col("expected_seconds") == 0)


def with_rows(coverage: pl.DataFrame, rows: Sequence[ReportRow]) -> pl.DataFrame:
    """Coverage in which these rows, which may not be published yet, replace what was there.

    Args:
        coverage: Columns of `quality.coverage`.
        rows: Verdicts of instruments and days, each once.
    """
    found = pl.DataFrame(
        [
            {
                "exchange": row.exchange,
                "symbol": row.symbol,
                "dt": row.dt,
                "condition": row.condition,
                "expected_seconds": row.expected,
                "valid_share": _share(row.valid_seconds, row),
                "verified_share": _share(row.verified_seconds, row),
                "observed_share": _share(row.observed_seconds, row),
                "gap_seconds": row.gap_seconds,
                "crossed_seconds": row.crossed_seconds,
                "reasons": len(row.reasons),
                "first_reason": next(iter(row.reasons), None),
            }
            for row in rows
        ],
        schema=coverage.schema,
    )
    key = ["exchange", "symbol", "dt"]
    kept = coverage.join(found, on=key, how="anti")
    return pl.concat([kept, found]).sort(key)


def _share(seconds: float | None, row: ReportRow) -> float | None:
    return None if seconds is None or not row.expected else seconds / row.expected
