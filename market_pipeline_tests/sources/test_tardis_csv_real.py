"""Tardis files made from the real sample's lake files give the book that the lake files give."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import load_settings
from market_pipeline.sources.crypto_lake import read_deltas
from market_pipeline.sources.crypto_lake_snapshots import read_snapshots
from market_pipeline.sources.raw_writer import RawWriter
from market_pipeline.sources.tardis_csv import CONVERTER, tardis_exchange, tardis_symbol
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan
from market_pipeline_tests.published_day import MINUTES, publish_day
from market_pipeline_tests.quality.sample import read_table
from market_pipeline_tests.sources.capture_sample import joined, rebuilt, steps_of
from market_pipeline_tests.sources.tardis_files import (
    BOOK_25,
    INCREMENTAL,
    TRADES,
    book_of,
    incremental_of,
    path_of,
    trades_of,
    write_frame,
)

QUICK = ("BINANCE_FUTURES", "ETH-USDT-PERP", date(2024, 7, 18))
DAYS = [
    pytest.param(*QUICK),
    pytest.param("BINANCE_FUTURES", "BTC-USDT-PERP", date(2024, 8, 8), marks=pytest.mark.slow),
    pytest.param("BINANCE", "BTC-USDT", date(2024, 8, 8), marks=pytest.mark.slow),
]
TIMES = ["ts_origin_ns", "ts_receipt_ns"]
_MOST_NS = 628
"""What the nearest microsecond is away from a time that a float64 of seconds moved before."""


def write_tardis(lake: Path, of: Instrument, day: date, **frames: pl.DataFrame) -> None:
    """Writes an instrument's frames, made by `incremental_of` and its like, by their data type."""
    for data_type, frame in frames.items():
        path = path_of(lake, tardis_exchange(of), data_type, day, tardis_symbol(of))
        write_frame(path, data_type, frame)


def published(settings: Any, name: str, day: date) -> pl.DataFrame:
    return scan(Warehouse(settings.data_dir), TABLES[name], day).collect()


@pytest.mark.parametrize(("venue", "symbol", "day"), DAYS)
def test_the_book_is_that_of_the_lake_files(sample_data, tmp_path, venue, symbol, day):
    """Every row of bbo and depth agrees in price, size, flags and everything but the clock.

    Times are those of the lake to the microsecond, and sequence numbers count the messages. What is
    validated of the day, gaps, comparisons and crossed time, is the same too.
    """
    vendors = Instrument(venue=venue, symbol=symbol, source="crypto_lake")
    of = vendors.model_copy(update={"source": "tardis_csv"})
    own = tardis_exchange(of), tardis_symbol(of)
    deltas, book, trades = (
        read_table(f"lake/{table}", venue, symbol, day)
        for table in ("book_delta_v2", "book", "trades")
    )
    frames = {
        INCREMENTAL: incremental_of(deltas, *own),
        BOOK_25: book_of(book, *own),
        TRADES: trades_of(trades, *own),
    }
    write_tardis(tmp_path / "vendor", of, day, **frames)
    settings = [
        load_settings(lake_uri=lake, data_dir=tmp_path / name, depth_interval_ms=0, **MINUTES)
        for lake, name in ((sample_data / "lake", "lake"), (tmp_path / "vendor", "tardis"))
    ]
    rows = [
        publish_day(each, [whose], day)[0].row.as_record()
        for each, whose in zip(settings, (vendors, of), strict=True)
    ]

    for name in ("book_bbo", "book_depth"):
        ours, theirs = (published(each, name, day) for each in settings)
        plain = ours.drop(*TIMES, "sequence_number")
        assert plain.equals(theirs.select(plain.columns)) and ours.height > 3_000
        assert theirs["sequence_number"].to_list() == list(range(1, ours.height + 1))
        for column in TIMES:
            assert (ours[column] - theirs[column]).abs().max() <= _MOST_NS
    same = [
        "rows",
        "messages",
        "snapshots",
        "trades",
        "gap_count",
        "snapshots_compared",
        "snapshots_mismatched",
    ]
    same += ["crossed_messages", "trade_through_count", "reference_differing_messages", "bars"]
    same = [name for name in same if name in rows[0]]
    assert [rows[0][name] for name in same] == [rows[1][name] for name in same]
    assert len(same) > 5 and rows[1]["reference_differing_messages"] == 0


@pytest.mark.parametrize(("venue", "symbol", "day"), DAYS[:2])
def test_an_is_snapshot_block_seeds_the_whole_book(sample_data, tmp_path, venue, symbol, day):
    """The venue's own snapshot of 1,000 levels as such a block gives the independent book.

    From there on best bid and ask are those of the reference after every message, and valid.
    """
    of = Instrument(venue=venue, symbol=symbol, source="tardis_csv")
    own = tardis_exchange(of), tardis_symbol(of)
    deltas = read_table("lake/book_delta_v2", venue, symbol, day)
    rest = read_table("truth/rest_snapshot", venue, symbol, day)
    reference = read_table("truth/reference_bbo", venue, symbol, day)
    later = deltas.filter(pl.col("sequence_number") >= reference["sequence_number"][0])
    at = pl.lit(later["receipt_timestamp"][0] - 1_000)
    block = rest.with_columns(receipt_timestamp=at)
    write_tardis(
        tmp_path,
        of,
        day,
        **{
            INCREMENTAL: pl.concat(
                [
                    incremental_of(block, *own, is_snapshot=True),
                    incremental_of(later, *own),
                ],
                how="diagonal",
            )
        },
    )
    with RawWriter(tmp_path / "made", "test") as out:
        CONVERTER.convert(CONVERTER.find(tmp_path, of, day), out, of, day)
    files = [sorted((tmp_path / "made" / name).iterdir()) for name in ("book_delta_v2", "book")]
    batches, snapshots = list(read_deltas(files[0])), list(read_snapshots(files[1]))

    steps = steps_of(batches, snapshots)
    run = rebuilt([joined(batches)], snapshots, steps, levels=0)

    names = ["bid_0_price", "bid_0_size", "ask_0_price", "ask_0_size"]
    ours = pl.DataFrame(
        {
            name: scale.to_floats(run.top[1:, place])
            for place, (name, scale) in enumerate(zip(names, steps * 2, strict=True))
        }
    )
    assert ours.equals(reference.select(names))
    assert not (run.flags & INVALIDATING).any()
    assert (1, 1_000) == snapshots[0].bid_price.shape
