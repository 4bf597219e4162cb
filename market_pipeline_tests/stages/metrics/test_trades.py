from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.tables import BOOK_TRADES
from market_pipeline.sources.converted_columns import CONVERTER_KEY, IS_MARKET
from market_pipeline.sources.crypto_lake import TRADES, day_folder
from market_pipeline.stages.metrics import trades as stage
from market_pipeline.stages.metrics.trades import TradesDay
from market_pipeline.warehouse.read import scan_files
from market_pipeline_tests.sources.raw_files import shard
from market_pipeline_tests.stages.days import (
    BTC,
    DAY,
    ETH,
    MESSAGES,
    delta_rows,
    trade_rows,
    write_day,
)


def rows_of(found: TradesDay) -> pl.DataFrame:
    """The staged rows as readers get them."""
    return scan_files(BOOK_TRADES, [file.path for file in found.staged]).collect()


def rewrite_trades(lake: Path, rows: pa.Table) -> None:
    """Replaces the trades of BTC."""
    shard(day_folder(lake, TRADES, BTC.venue, BTC.symbol, DAY), 1, rows)


def test_a_good_day(lake: Path, rebuilt):
    """Every trade has the book of the message a second before, and costs the half spread twice."""
    write_day(lake, BTC)
    found = rebuilt().trades(BTC)
    rows = rows_of(found)

    assert MESSAGES == rows.height == found.counts[BTC.id].trades
    assert [10**9] == rows["book_age_ns"].unique().to_list()
    assert [BookFlag.NOT_SEEDED, *[0] * (MESSAGES - 1)] == rows["flags"].to_list()
    assert (1_000, 1_005) == (rows["bid_price_ticks"][0], rows["ask_price_ticks"][0])
    assert (5, 500) == (rows["effective_spread_ticks"][0], rows["size_lots"][0])
    assert ([], {}, 0) == (found.withdrawn, found.without, found.counts[BTC.id].without_book)
    assert {b"tick": b"0.1", b"lot": b"0.001"}.items() <= (
        pq.read_metadata(found.staged[0].path).metadata.items()
    )


def test_without_a_trades_file(lake: Path, rebuilt):
    """A book without trades has a file without rows, so that the day is known to be made."""
    write_day(lake, BTC, trades=False)
    found = rebuilt().trades(BTC)

    assert ([(BTC.id, 0)], []) == ([(f.instrument, f.rows) for f in found.staged], found.withdrawn)


def test_without_a_book(lake: Path, rebuilt):
    """An instrument without a rebuilt book has no file, and what there was before is withdrawn."""
    write_day(lake, BTC)
    found = rebuilt().trades(ETH, BTC)

    assert ([BTC.id], [ETH.id]) == ([file.instrument for file in found.staged], found.withdrawn)
    assert {} == found.without


def test_off_the_grid(lake: Path, rebuilt):
    """Values off the tick and the lot are counted, and their first places named."""
    write_day(lake, BTC)
    rows = trade_rows()
    price, amount = rows["price"].to_numpy().copy(), rows["amount"].to_numpy().copy()
    price[20:40], amount[7] = 100.25, 0.50005
    rows = rows.set_column(rows.column_names.index("price"), "price", pa.array(price))
    rows = rows.set_column(rows.column_names.index("amount"), "amount", pa.array(amount))
    rewrite_trades(lake, rows)
    found = rebuilt().trades(BTC)
    counts = found.counts[BTC.id]

    assert (20, 1) == (counts.off_tick, counts.off_lot)
    assert [*range(20, 30), 7] == [place.row for place in counts.off_grid]
    assert {("price", 100.25, "0.1"), ("amount", 0.50005, "0.001")} == {
        (place.column, place.value, str(place.step)) for place in counts.off_grid
    }
    assert [20, 1] == [rows_of(found)[name].null_count() for name in ("price_ticks", "size_lots")]


def test_out_of_order(lake: Path, rebuilt):
    """Trades stay in file order, and each has the book of its own time."""
    write_day(lake, BTC)
    order = np.random.default_rng(3).permutation(MESSAGES)
    expected = rows_of(rebuilt().trades(BTC))
    rewrite_trades(lake, trade_rows().take(pa.array(order)))
    found = rows_of(rebuilt().trades(BTC))

    assert order.tolist() == found["id"].to_list()
    assert expected.drop("taker_order").equals(found.drop("taker_order").sort("id"))


def test_within_a_gap(lake: Path, rebuilt):
    """From the last message before a gap on every trade is flagged, the silence included."""
    rows = delta_rows()
    write_day(lake, BTC, deltas=pa.concat_tables([rows.slice(0, 2_000), rows.slice(2_400)]))
    found = rows_of(rebuilt().trades(BTC)).with_row_index()
    flagged = found.filter(pl.Series(found["flags"].to_numpy() & int(BookFlag.GAP) != 0))

    assert list(range(999, MESSAGES)) == flagged["index"].to_list()
    assert not flagged["verified"].any()


def test_whatever_one_instrument_fails_at_the_others_have_theirs(
    lake: Path, rebuilt, monkeypatch: pytest.MonkeyPatch, caplog
):
    """A file that cannot be used, or an error nobody thought of, is reported for its instrument."""
    for each in (BTC, ETH):
        write_day(lake, each)
    day = rebuilt()
    changed = next((lake / "trades").rglob("symbol=ETH-USDT/**/*.parquet"))
    changed.write_bytes(changed.read_bytes() + b"more")
    found = day.trades(ETH, BTC)

    assert ([BTC.id], [ETH.id]) == ([file.instrument for file in found.staged], found.withdrawn)
    assert found.without[ETH.id].startswith("A raw file changed since it was registered")

    def raises(*_: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(stage, "books_around", raises)
    assert {BTC.id: "ZeroDivisionError: by nothing. See the log of the run."} == day.trades(
        BTC
    ).without
    assert "Traceback" in caplog.text


def test_outside_the_market(lake: Path, rebuilt):
    """What the venue marks in a converted file is marked in the rows, and counted."""
    write_day(lake, BTC)
    marks = pa.array([None, False, False, *[True] * (MESSAGES - 3)])
    rows = trade_rows().append_column(IS_MARKET, marks)
    rewrite_trades(lake, rows.replace_schema_metadata({CONVERTER_KEY: b"any"}))
    found = rebuilt().trades(BTC)

    assert marks.to_pylist() == rows_of(found)["is_market"].to_list()
    assert 2 == found.counts[BTC.id].outside_market
