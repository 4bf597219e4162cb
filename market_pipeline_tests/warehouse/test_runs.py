"""Rows given as runs: what every reader gets is the rows, whatever the columns hold."""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, date, datetime

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.errors import PublishError
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.read import scan
from market_pipeline.warehouse.runs import RowRuns, StagedRuns
from market_pipeline.warehouse.tables import Column, Table

DAY = date(2024, 8, 8)
PERP = "BINANCE_FUTURES:BTC-USDT-PERP"
TABLE = Table(
    schema="metrics",
    name="of_runs",
    description="A table of this test.",
    columns=(
        Column("exchange", "VARCHAR", "The venue."),
        Column("symbol", "VARCHAR", "The instrument."),
        Column("dt", "DATE", "The UTC day."),
        Column("width", "INTEGER", "The width."),
        Column("start", "TIMESTAMP", "The start."),
        Column("count", "BIGINT", "A whole number."),
        Column("value", "DOUBLE", "A number."),
    ),
    storage="delta",
)
TYPES = TABLE.empty().schema
FIRST_US = int(datetime(2024, 8, 8, tzinfo=UTC).timestamp()) * 1_000_000


def runs_of(*runs, width=1):
    """Runs given as (rows, count, value)."""
    rows, counts, values = zip(*runs, strict=True)
    constants = {"exchange": "BINANCE_FUTURES", "symbol": "BTC-USDT-PERP", "dt": DAY}
    columns = pl.DataFrame(
        {"count": counts, "value": values}, schema={"count": pl.Int64, "value": pl.Float64}
    )
    steps = FIRST_US, width * 1_000_000
    return RowRuns(constants | {"width": width}, "start", *steps, columns, np.array(rows, np.int64))


def staged(warehouse, *groups):
    with StagedRuns(warehouse, TABLE, PERP, {"tick": "0.1"}) as writer:
        for group in groups:
            writer.write(group)
    return writer.staged


def naive_rows(group):
    """The rows one after the other, as a loop makes them."""
    starts, counts, values = [], [], []
    start_us = group.first_us
    for rows, (count, value) in zip(group.rows.tolist(), group.columns.rows(), strict=True):
        for _ in range(rows):
            starts.append(start_us)
            counts.append(count)
            values.append(value)
            start_us += group.step_us
    made = pl.DataFrame(
        {"start": starts, "count": counts, "value": values},
        schema={"start": pl.Int64, "count": pl.Int64, "value": pl.Float64},
    )
    same = (pl.lit(value).alias(name) for name, value in group.constants.items())
    return made.select(*same, "start", "count", "value").cast(TYPES)


def read_by_all(path):
    """The rows as Polars, Arrow and DuckDB read them."""
    with duckdb.connect() as connection:
        table = connection.execute("FROM read_parquet(?)", [str(path)]).to_arrow_table()
    return [
        pl.read_parquet(path, glob=False),
        pl.DataFrame(pl.from_arrow(pq.ParquetFile(path).read())),
        pl.DataFrame(pl.from_arrow(table)),
    ]


NUMBERS = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, 1, 2, -(2**63), 2**63 - 1])
)
VALUES = st.one_of(st.none(), st.sampled_from([0.0, -0.0, 1.5]), st.floats(allow_nan=False))
LENGTHS = st.one_of(st.just(1), st.integers(1, 5), st.sampled_from([63, 64, 128, 129, 8_192]))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(LENGTHS, NUMBERS, VALUES), min_size=1, max_size=300).filter(
            lambda runs: sum(rows for rows, _, _ in runs) < 20_000
        ),
        min_size=1,
        max_size=3,
    )
)
def test_every_reader_gets_the_rows(tmp_path_factory, groups):
    """Any runs of any values, with nulls, in any row groups, are the rows of a plain loop."""
    warehouse = Warehouse(tmp_path_factory.mktemp("runs"))
    given_runs = [runs_of(*runs, width=at + 1) for at, runs in enumerate(groups)]
    file = staged(warehouse, *given_runs)
    expected = pl.concat(map(naive_rows, given_runs))

    assert expected.height == file.rows
    for rows in read_by_all(file.path):
        assert expected.equals(rows.cast(TYPES))
        assert expected["value"].to_numpy().tobytes() == rows["value"].to_numpy().tobytes()
    assert expected.equals(pl.concat(g.expanded().select(*TYPES).cast(TYPES) for g in given_runs))


@pytest.mark.parametrize("distinct", [1, 2, 3, 128, 255, 256, 257, 65_536, 65_537])
def test_many_distinct_values(warehouse: Warehouse, distinct):
    """An index of a dictionary has the bits that it takes, and not a bit less."""
    runs = runs_of(*((9, each, each / 7) for each in range(distinct)))

    expected = pl.Series(range(distinct)).repeat_by(9).explode()
    for rows in read_by_all(staged(warehouse, runs).path):
        assert expected.equals(rows["count"])
        assert expected.cast(pl.Float64).equals((rows["value"] * 7).round())


def test_not_a_number(warehouse: Warehouse):
    """It is what a column has, and not the end of a run."""
    (rows, *_) = read_by_all(staged(warehouse, runs_of((2, 1, math.nan), (3, 1, math.nan))).path)

    assert (5, 5) == (rows.height, rows["value"].is_nan().sum())


def test_what_does_not_change_takes_no_room(warehouse: Warehouse):
    """A day of seconds of one value takes less than a hundredth of its values."""
    day, short = (staged(warehouse, runs_of((rows, 7, None))) for rows in (86_400, 2))
    column = pq.read_metadata(day.path).row_group(0).column(5)

    assert day.bytes - short.bytes < 86_400 * 8 / 100
    assert ("UNCOMPRESSED", True) == (column.compression, "RLE_DICTIONARY" in column.encodings)


def test_what_changes_with_every_row_is_written_out(warehouse: Warehouse):
    """Where a dictionary would be longer there is none."""
    file = staged(warehouse, runs_of(*((1, each, each / 3) for each in range(1_000))))
    column = pq.read_metadata(file.path).row_group(0).column(6)

    assert ("ZSTD", False) == (column.compression, column.has_dictionary_page)
    assert "RLE_DICTIONARY" not in column.encodings


def test_published_and_described(warehouse: Warehouse):
    """It is published as any staged file: hash, size, statistics and metadata are those of it."""
    file = staged(warehouse, runs_of((3, 1, 0.5)), runs_of((2, None, None), width=60))
    contents, footer = file.path.read_bytes(), pq.read_metadata(file.path)
    publish(warehouse, TABLE, DAY, [file])

    assert (5, len(contents), hashlib.sha256(contents).hexdigest()) == (
        *(file.rows, file.bytes),
        file.sha256,
    )
    assert b"0.1" == footer.metadata[b"tick"]
    assert [(1, 1), (60, 60)] == [
        (each.min, each.max)
        for each in (footer.row_group(group).column(3).statistics for group in range(2))
    ]
    assert [1, 1, 1, None, None] == scan(warehouse, TABLE, DAY).collect()["count"].to_list()


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        (pl.DataFrame({"count": [1]}), "value"),
        (pl.DataFrame({"count": [1], "value": [1]}), "value"),
        (pl.DataFrame({"count": [1], "value": [1.0], "more": [1]}), "more"),
    ],
)
def test_other_columns_than_the_table_has(warehouse: Warehouse, columns, name):
    """They are refused by name, and nothing stays."""
    right = runs_of((1, 1, 1.0))
    wrong = RowRuns(right.constants, "start", FIRST_US, 1, columns, right.rows)
    with pytest.raises(PublishError) as refused:
        staged(warehouse, wrong)

    assert name == refused.value.column
    assert [] == list(warehouse.staging_dir.iterdir())


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_full_disk(warehouse: Warehouse, full_at):
    """Where a file may not grow nothing of it is left."""
    runs = runs_of(*((1, each, math.sqrt(each)) for each in range(20_000)))
    with full_at(10_000), pytest.raises(OSError, match="File too large"):
        staged(warehouse, runs)

    assert [] == list(warehouse.staging_dir.iterdir())
