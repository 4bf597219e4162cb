"""Captures as a raw asset source: the truth's book, and every proven loss told as a gap."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.config.instruments import GapRule, Instrument, Policies
from market_pipeline.config.settings import Settings, load_settings
from market_pipeline.errors import InstrumentsError
from market_pipeline.sources.binance_capture import CONVERTER
from market_pipeline.sources.converted_columns import LOST, LOST_BEFORE, RECOVERED
from market_pipeline.sources.raw_writer import RawWriter
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan
from market_pipeline_tests.published_day import MINUTES, publish_day
from market_pipeline_tests.sources.capture_files import capture, depth, line, rest, trade
from market_pipeline_tests.sources.capture_sample import SETS, CaptureSet

DAY = date(2024, 8, 9)
BTC = Instrument.model_validate(
    {"venue": "BINANCE", "symbol": "BTC-USDT", "source": "binance_capture", "tick": 1, "lot": 1}
)
TOUCH = ("bid_price", "bid_size", "ask_price", "ask_size")
QUICK = "usdm_ETHUSDT_20240718_19"


def published(settings: Settings, name: str, day: date) -> pl.DataFrame:
    return scan(Warehouse(settings.data_dir), TABLES[name], day).collect()


@pytest.mark.parametrize(
    "of",
    [pytest.param(of, marks=() if of.name == QUICK else pytest.mark.slow) for of in SETS[1:3]],
    ids=lambda each: each.name,
)
def test_real_captures_give_the_truth_s_book(of: CaptureSet, sample_data: Path, tmp_path: Path):
    """From the snapshot on all messages have the best bid and ask of the independent book.

    The second day holds no snapshot, and goes on from the closing book of the first, which ends up
    to 1.4 s before it.
    """
    folder = tmp_path / "vendor" / "binance_capture" / of.market
    folder.mkdir(parents=True)
    for file in of.files(sample_data):
        shutil.copy(file, folder)
    instrument = Instrument(
        venue=of.venue,
        symbol=of.our_symbol,
        source="binance_capture",
        policies=Policies(seed="previous_close"),
        gap_rule=GapRule(silence_floor_seconds=2.0),
    )
    settings = load_settings(lake_uri=tmp_path / "vendor", data_dir=tmp_path / "data", **MINUTES)
    rows, books = [], []
    for each in of.days:
        day = date.fromisoformat(each)
        rows += [
            validated.row.as_record() for validated in publish_day(settings, [instrument], day)
        ]
        books.append(published(settings, "book_bbo", day))
    ours = pl.concat(books).filter(pl.col("flags") & INVALIDATING == 0)
    columns = ["sequence_number", *TOUCH]
    truth = of.truth_table(sample_data, "reference_bbo")
    truth = truth.rename({each.replace("_", "_0_"): each for each in TOUCH})
    assert ours.select(columns).equals(truth.select(columns))
    assert [0, 0] == [row["gap_count"] + row["proven_gap_count"] for row in rows]
    assert [0, 0] == [row["reference_differing_messages"] for row in rows]


def write_capture(folder: Path, name: str, lines: list[bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return capture(folder / name, lines)


def some_lines() -> list[bytes]:
    """A snapshot, messages, a loss that no snapshot recovers, then one that a snapshot does."""
    bids, asks = [("100", "1"), ("99", "1")], [("101", "1"), ("102", "1")]
    frames = [
        rest(10, bids, asks),
        depth("spot", (10, 12), [("100", "2")]),
        depth("spot", (12, 13), [("100", "3")]),
        depth("spot", (15, 16), [("100", "4")]),
        depth("spot", (16, 17), asks=[("101", "5")]),
        rest(21, bids, asks),
        depth("spot", (20, 22), [("100", "6")]),
        trade(7),
        trade(9),
    ]
    return [line(frame, at * 100) for at, frame in enumerate(frames)] + [b"no line"]


def test_proven_losses_are_in_the_raw_tables_and_told(tmp_path):
    """`lost_before` says where, the begin of the stream is none, and notes tell of the rest."""
    write_capture(tmp_path / "binance_capture/spot", "btcusdt_20240809.gz", some_lines())
    with RawWriter(tmp_path / "made", "test") as out:
        CONVERTER.convert(CONVERTER.find(tmp_path, BTC, DAY), out, BTC, DAY)
    deltas = pl.read_parquet(tmp_path / "made/book_delta_v2/1.snappy.parquet")
    trades = pl.read_parquet(tmp_path / "made/trades/1.snappy.parquet")
    assert [12, 13, 16, 17, 22] == deltas["sequence_number"].to_list()
    assert [0, 0, LOST, 0, RECOVERED] == deltas[LOST_BEFORE].to_list()
    assert [7, 9] == trades["id"].to_list()
    told = [note.split(" (")[0] for note in out.notes]
    assert told == [
        "2 x deltas: gap",
        "1 x deltas: undecodable",
        "1 x snapshots: undecodable",
        "1 x trades: gap",
        "1 x trades: undecodable",
    ]
    assert "line 4 of btcusdt_20240809.gz, expected U=14, found U=16" in out.notes[0]


def test_a_proven_loss_is_a_gap_of_the_day(tmp_path):
    """No silence explains it, so the report counts it; the book is flagged until it recovers."""
    folder = tmp_path / "vendor/binance_capture/spot"
    write_capture(folder, "btcusdt_20240809.gz", some_lines())
    settings = load_settings(lake_uri=tmp_path / "vendor", data_dir=tmp_path / "data", **MINUTES)
    (validated,) = publish_day(settings, [BTC], DAY)
    causes = published(settings, "book_intervals", DAY)["cause"].to_list()
    assert (validated.row.proven_gap_count, validated.row.reference_differing_messages) == (1, 0), (
        causes
    )
    assert "GAP" in causes


def test_a_day_s_files_are_those_of_its_date_by_name(tmp_path):
    """Hourly parts come in order; other days, symbols and markets are not among them."""
    folder = tmp_path / "binance_capture/spot"
    names = ["btcusdt_20240809_01.gz", "btcusdt_20240809_00.gz", "btcusdt_20240810.gz"]
    for name in [*names, "ethusdt_20240809.gz"]:
        write_capture(folder, name, [])
    found = CONVERTER.find(tmp_path, BTC, DAY)
    assert ["btcusdt_20240809_00.gz", "btcusdt_20240809_01.gz"] == [each.name for each in found]
    elsewhere = BTC.model_copy(update={"venue": "KRAKEN"})
    assert [] == CONVERTER.find(tmp_path, elsewhere, DAY)


def test_another_venue_is_refused(tmp_path):
    """Whose rules of update ids hold is known of Binance's markets only."""
    elsewhere = BTC.model_copy(update={"venue": "KRAKEN"})
    with RawWriter(tmp_path, "test") as out, pytest.raises(InstrumentsError, match="KRAKEN"):
        CONVERTER.convert([tmp_path / "any.gz"], out, elsewhere, DAY)
