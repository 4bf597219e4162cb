from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from market_pipeline.books.flags import BookFlag
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.errors import MissingDataError
from market_pipeline.quality.fidelity.books import BookRows
from market_pipeline.sources.simulated import Fault, FaultKind, simulate
from market_pipeline.stages.fidelity import books
from market_pipeline.stages.fidelity.books import published_book
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan
from market_pipeline_tests.published_day import publish_verdicts
from market_pipeline_tests.sources.simulated.days import DAY, instrument

GAP = Fault(kind=FaultKind.SILENCE_GAP, symbol="A-USD", day=DAY, at_s=40_000, duration_s=3_600)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A day with a gap, and beside it another instrument's."""
    root = tmp_path_factory.mktemp("compared")
    markets = [instrument("A-USD"), instrument("B-USD")]
    small = {"messages_per_day": 1_000, "snapshot_interval_s": 20.0}
    simulate(root / "lake", markets, DAY, DAY, faults=[GAP], **small)
    settings = Settings(
        data_dir=root / "data", lake_uri=str(root / "lake"), depth_interval_ms=1_000
    )
    publish_verdicts(settings, tuple(each.as_instrument() for each in markets), DAY)
    return Warehouse(settings.data_dir)


def rows_of(warehouse: Warehouse, asset: str) -> pl.DataFrame:
    rows = scan(warehouse, TABLES[asset], DAY).filter(pl.col("symbol") == "A-USD")
    return rows.collect()


def joined(batches: list[BookRows]) -> BookRows:
    """Batches as one, with the places of depth counted over all of them."""
    first = 0
    moved = []
    for each in batches:
        depth_row = np.where(each.depth_row >= 0, each.depth_row + first, -1)
        moved.append(each._replace(depth_row=depth_row))
        first += len(each.levels)
    return BookRows._make(map(np.concatenate, zip(*moved, strict=True)))


@pytest.mark.parametrize("batch_rows", [7, 1 << 15])
def test_reads_what_is_published(published: Warehouse, monkeypatch, batch_rows):
    """Every message once and in order, each depth row at its message, however batches are cut."""
    monkeypatch.setattr(books, "_BATCH_ROWS", batch_rows)
    book = published_book(published, "SIMULATED:A-USD", DAY)
    rows = joined(list(book.read()))
    bbo, depth = rows_of(published, "book_bbo"), rows_of(published, "book_depth")
    for name in ("ts_origin_ns", "ts_receipt_ns", "sequence_number", "flags"):
        assert bbo[name].to_list() == getattr(rows, name).tolist()
    touch = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots")
    assert (bbo.select(pl.col(touch).fill_null(0)).to_numpy() == rows.touch).all()
    at = np.flatnonzero(rows.depth_row >= 0)
    assert list(range(depth.height)) == rows.depth_row[at].tolist()
    assert depth["sequence_number"].to_list() == rows.sequence_number[at].tolist()
    assert depth["ask_7_size_lots"].fill_null(0).to_list() == rows.levels[:, 7, 3].tolist()
    assert depth["bid_levels_confirmed"].to_list() == rows.confirmed[:, 0].tolist()


def test_nobody_knows_the_book_from_the_last_message_before_a_gap(published: Warehouse):
    """Each gap breaks the book at the message before the first that is flagged."""
    rows = joined(list(published_book(published, "SIMULATED:A-USD", DAY).read()))
    is_gap = (rows.flags & np.uint16(int(BookFlag.GAP))) != 0
    begins = np.flatnonzero(is_gap[1:] & ~is_gap[:-1])
    assert begins.size > 0
    assert begins.tolist() == np.flatnonzero(rows.breaks).tolist()


def test_a_day_that_is_not_published_is_an_error_that_says_which(published: Warehouse):
    """The error names the instrument, the day and the folder."""
    with pytest.raises(MissingDataError) as caught:
        published_book(published, "SIMULATED:A-USD", date(2025, 1, 1))
    assert (date(2025, 1, 1), published.data_dir) == (caught.value.day, Path(caught.value.file))
    assert "SIMULATED:A-USD" in str(caught.value)


def test_steps_are_those_of_the_files(published: Warehouse):
    """Tick and lot are what the files were written with."""
    book = published_book(published, "SIMULATED:A-USD", DAY)
    own = instrument("A-USD").as_instrument()
    assert isinstance(own, Instrument)
    assert (own.tick, own.lot) == (book.tick.step, book.lot.step)
    assert Path(str(published.data_dir)).name in book.name
