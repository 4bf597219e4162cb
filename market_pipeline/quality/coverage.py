"""Coverage: the verdict of every instrument on every day, holes included."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import duckdb
import polars as pl

from market_pipeline.quality.intervals import SECONDS_PER_DAY
from market_pipeline.quality.row import VALIDATION_REPORT, ReportRow
from market_pipeline.warehouse.tables import Column, View

__all__ = ["COVERAGE", "read_coverage", "with_rows"]

_QUERY = f"""
WITH instruments AS (SELECT DISTINCT exchange, symbol FROM {VALIDATION_REPORT.sql_name}),
days AS (
    SELECT CAST(unnest(generate_series(min(dt), max(dt), INTERVAL 1 DAY)) AS DATE) AS dt
    FROM {VALIDATION_REPORT.sql_name}
)
SELECT exchange, symbol, dt, condition,
       valid_seconds / {SECONDS_PER_DAY} AS valid_share,
       verified_seconds / {SECONDS_PER_DAY} AS verified_share,
       observed_seconds / {SECONDS_PER_DAY} AS observed_share,
       gap_seconds, crossed_seconds,
       len(reasons) AS reasons,
       reasons[1] AS first_reason
FROM instruments CROSS JOIN days
LEFT JOIN {VALIDATION_REPORT.sql_name} USING (exchange, symbol, dt)
"""

COVERAGE = View(
    schema="quality",
    name="coverage",
    description="One row per instrument and UTC day from the first to the last validated day of "
    "any instrument, holes included; null where nothing was validated.",
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
            "valid_share", "DOUBLE", "Valid seconds as a share of the day; null if not rebuilt."
        ),
        Column(
            "verified_share",
            "DOUBLE",
            "Verified seconds as a share of the day; null if not rebuilt.",
        ),
        Column(
            "observed_share",
            "DOUBLE",
            "Observed seconds as a share of the day; null if not rebuilt.",
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
                "valid_share": _share(row.valid_seconds),
                "verified_share": _share(row.verified_seconds),
                "observed_share": _share(row.observed_seconds),
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


def _share(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / SECONDS_PER_DAY
