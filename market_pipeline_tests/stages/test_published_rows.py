from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.stages.published_rows import count_rows, read_rows
from market_pipeline_tests.stages.days import BTC, ETH, instrument

XRP = instrument("XRP-USDT")
NAMES = {each.symbol: each for each in (BTC, ETH, XRP)}


def a_table(symbols: list[str]) -> pl.DataFrame:
    """A row of each symbol given, its place as a number, and a time that runs back now and then."""
    places = range(len(symbols))
    return pl.DataFrame(
        {
            "exchange": ["BINANCE"] * len(symbols),
            "symbol": symbols,
            "place": places,
            "ts_receipt_ns": [place * 7 % 10 for place in places],
        },
        schema={
            "exchange": pl.String,
            "symbol": pl.String,
            "place": pl.Int64,
            "ts_receipt_ns": pl.Int64,
        },
    )


def places_of(table: pl.LazyFrame, symbol: str, batch_rows: int) -> list[list[int]]:
    """The places of the rows read, batch by batch."""
    batches = read_rows(table, NAMES[symbol], ["place"], batch_rows)
    return [batch["place"].to_list() for batch in batches]


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(st.tuples(st.sampled_from(sorted(NAMES)), st.integers(0, 30)), max_size=6),
    batch_rows=st.integers(1, 60),
    wanted=st.sampled_from(sorted(NAMES)),
)
def test_every_row_once_and_in_order(runs, batch_rows, wanted):
    """Whatever the batches, an instrument's rows come in the table's order, none lost or twice."""
    symbols = [symbol for symbol, rows in runs for _ in range(rows)]
    table = a_table(symbols).lazy()
    batches = places_of(table, wanted, batch_rows)

    expected = [place for place, symbol in enumerate(symbols) if symbol == wanted]
    assert expected == [place for batch in batches for place in batch]
    assert len(expected) == count_rows(table, NAMES[wanted])
    assert all(len(batch) <= batch_rows for batch in batches)


@pytest.mark.parametrize("batch_rows", [1, 7, 64, 1_000])
def test_files_of_several_row_groups(folder: Path, batch_rows: int):
    """Files as they are published, one per instrument, are read over all their borders."""
    files = []
    for symbol, rows in (("BTC-USDT", 130), ("ETH-USDT", 75), ("XRP-USDT", 1)):
        files.append(folder / f"{symbol}.parquet")
        a_table([symbol] * rows).write_parquet(files[-1], row_group_size=20)
    table = pl.scan_parquet(files, hive_partitioning=False)

    for symbol, rows in (("BTC-USDT", 130), ("ETH-USDT", 75), ("XRP-USDT", 1)):
        batches = places_of(table, symbol, batch_rows)
        assert list(range(rows)) == [place for batch in batches for place in batch]
        # What lies before and after an instrument's file is not even read.
        assert all(batches)


def test_an_instrument_without_rows(folder: Path):
    """There is no batch of what is not there, also in a table without any row."""
    for symbols in ([], ["BTC-USDT"] * 5):
        assert [] == places_of(a_table(symbols).lazy(), "ETH-USDT", 2)
        assert 0 == count_rows(a_table(symbols).lazy(), ETH)
