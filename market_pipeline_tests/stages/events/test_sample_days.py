from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from market_pipeline import events
from market_pipeline.books.flags import INVALIDATING
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan
from market_pipeline_tests.naive.events import COLUMNS, read_events, touches
from market_pipeline_tests.published_day import MINUTES, publish_day
from market_pipeline_tests.quality.sample import SAMPLE_DAYS, sample_root

pytestmark = pytest.mark.slow
DAY_NS = 86_400 * 10**9
INVALID = int(INVALIDATING)


@pytest.mark.parametrize(("venue", "symbol", "day"), SAMPLE_DAYS)
def test_a_plain_reader_has_the_published_books(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, venue: str, symbol: str, day: date
):
    """On a real day every valid row of `books.bbo`, and the book of each trade, follow from it."""
    lake = str(sample_root() / "lake")
    settings = Settings(data_dir=tmp_path / "data", lake_uri=lake, **MINUTES)
    monkeypatch.setenv("PIPELINE_LAKE_URI", lake)
    instrument = Instrument(venue=venue, symbol=symbol, source="crypto_lake", market_events=True)
    publish_day(settings, (instrument,), day)
    warehouse = Warehouse(settings.data_dir)
    published = scan(warehouse, TABLES["market_events"], day).collect()
    bbo = scan(warehouse, TABLES["book_bbo"], day).collect()
    trades = scan(warehouse, TABLES["trades"], day).collect()
    books = {"message": touches(bbo), "trade": touches(trades)}
    flags = {"message": bbo["flags"].to_list(), "trade": trades["flags"].fill_null(0).to_list()}
    seen = {"message": 0, "trade": 0}
    for kind, row, is_valid, touch in read_events(published.select(COLUMNS).iter_rows()):
        seen[kind] += 1
        if kind == "message":
            assert is_valid == (flags[kind][row] & INVALID == 0)
        if is_valid and flags[kind][row] & INVALID == 0:
            assert touch == books[kind][row]
    assert {"message": bbo.height, "trade": trades.height} == seen
    start_ns = (day - date(1970, 1, 1)).days * DAY_NS
    made = events(instrument.id, start_ns, start_ns + DAY_NS, data_dir=settings.data_dir)
    assert published.equals(pl.DataFrame(made.read_all()).cast(dict(published.schema)))
