"""The report row: its table and its way through Arrow, Polars and DuckDB."""

from __future__ import annotations

from dataclasses import fields

import duckdb
import polars as pl
import pytest

from market_pipeline.quality.row import VALIDATION_REPORT, ReportRow
from market_pipeline_tests.quality.factory import GAP_OF_5_S, a_failed_row, a_row


def as_arrow(rows):
    return VALIDATION_REPORT.frame(row.as_record() for row in rows).to_arrow()


ROWS = (a_row(**GAP_OF_5_S, reasons=("One.", "Two.")), a_failed_row(), a_row(trades=None))


def test_the_columns_of_the_table_are_the_fields_of_the_row():
    """There is one definition, and every column has a sentence that ends."""
    names = [column.name for column in VALIDATION_REPORT.columns]

    assert {each.name for each in fields(ReportRow)} == set(names)
    assert len(names) == len(set(names)) == sum(len(fields(group)) for group in ReportRow.__bases__)
    assert all(column.description.endswith(".") for column in VALIDATION_REPORT.columns)
    assert ("quality.validation_report", "duckdb") == (
        VALIDATION_REPORT.sql_name,
        VALIDATION_REPORT.storage,
    )


@pytest.mark.parametrize(
    "read",
    [
        lambda table: table.to_pylist(),
        lambda table: pl.from_arrow(table).to_dicts(),
        lambda report: duckdb.sql("FROM report").to_arrow_table().to_pylist(),
    ],
    ids=["arrow", "polars", "duckdb"],
)
def test_rows_come_back_as_they_were(read):
    """A row read from a table is the row that was written, nulls and lists included."""
    records = read(as_arrow(ROWS))

    assert list(ROWS) == [ReportRow.from_record(record) for record in records]


def test_gaps_can_be_unnested_in_sql():
    """A researcher lists every gap with its trades by one query."""
    report = as_arrow(ROWS)
    gaps = duckdb.sql(
        "SELECT unnest(gap_starts_ns), unnest(gap_ends_ns), unnest(gap_trades) FROM report"
    ).fetchall()

    assert 3 == report.num_rows
    assert [
        (GAP_OF_5_S["gap_starts_ns"][0], GAP_OF_5_S["gap_ends_ns"][0], 14),
    ] == gaps


def test_a_row_of_another_version_is_read_as_far_as_it_goes():
    """Unknown columns are left out and missing ones are null."""
    record = {**a_failed_row().as_record(), "some_later_figure": 1}
    del record["seed"]

    assert a_failed_row() == ReportRow.from_record(record)
