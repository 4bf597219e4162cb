from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.stages.published_rows import count_rows, read_rows
from market_pipeline.warehouse.read import DayRows
from market_pipeline.warehouse.tables import Column, Table
from market_pipeline_tests.stages.days import BTC, ETH

ROWS = Table(
    schema="books",
    name="rows",
    description="Rows with their places.",
    columns=(
        Column("exchange", "VARCHAR", "The venue."),
        Column("symbol", "VARCHAR", "The symbol."),
        Column("dt", "DATE", "The day."),
        Column("place", "BIGINT", "Which row of its instrument."),
    ),
    storage="delta",
)
GROUP_ROWS = 20


def written(folder: Path, *rows_of_files: int) -> DayRows:
    """Files of one instrument with so many rows each, which count their places on."""
    files = []
    first = 0
    for rows in rows_of_files:
        frame = pl.DataFrame(
            {
                "exchange": ["BINANCE"] * rows,
                "symbol": ["BTC-USDT"] * rows,
                "dt": [date(2025, 1, 6)] * rows,
                "place": range(first, first + rows),
            },
            schema={
                "exchange": pl.String,
                "symbol": pl.String,
                "dt": pl.Date,
                "place": pl.Int64,
            },
        )
        files.append(folder / f"{len(files)}.parquet")
        frame.write_parquet(files[-1], row_group_size=GROUP_ROWS)
        first += rows
    return DayRows(ROWS, {BTC.id: files} if files else {})


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.integers(0, 70), max_size=4), batch_rows=st.integers(1, 80))
def test_every_row_once_and_in_order(tmp_path_factory, rows, batch_rows):
    """Over all borders of files and row groups the rows come in order, none lost or twice."""
    table = written(tmp_path_factory.mktemp("rows"), *rows)
    batches = [each["place"].to_list() for each in read_rows(table, BTC, ["place"], batch_rows)]

    assert list(range(sum(rows))) == [place for batch in batches for place in batch]
    assert sum(rows) == count_rows(table, BTC)
    assert all(0 < len(batch) <= batch_rows for batch in batches)


@pytest.mark.parametrize("of", [BTC, ETH])
def test_an_instrument_without_rows(folder: Path, of):
    """There is no batch of what is not there, with a file without rows and with no file."""
    table = written(folder, 0)

    assert [] == list(read_rows(table, of, ["place"], 2))
    assert 0 == count_rows(table, of)


def test_files_of_others_are_not_opened(folder: Path):
    """One instrument's rows are read though the files of another are gone."""
    rows = written(folder, 3)
    table = DayRows(ROWS, {**rows.files, ETH.id: [folder / "gone.parquet"]})

    assert 3 == count_rows(table, BTC)
    assert [[0, 1, 2]] == [each["place"].to_list() for each in read_rows(table, BTC, ["place"], 9)]
