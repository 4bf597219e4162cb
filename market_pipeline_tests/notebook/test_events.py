from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from market_pipeline import events
from market_pipeline.books.flags import INVALIDATING
from market_pipeline.books.tables import MARKET_EVENTS
from market_pipeline.errors import DomainError, MissingDataError
from market_pipeline.warehouse.conform import stored_schema
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan
from market_pipeline_tests.naive.events import COLUMNS, read_events, touches
from market_pipeline_tests.notebook.conftest import FAULTY, NEXT, QUIET, Market

pytestmark = pytest.mark.slow
INVALID = int(INVALIDATING)
FAULTS = ("2025-03-03T00:00:00Z", "2025-03-04T00:00:00Z")
TWO_DAYS = ("2025-03-05T00:00:00Z", "2025-03-07T00:00:00Z")


def frame(market: Market, *span, **more) -> pl.DataFrame:
    reader = events(market.instrument.id, *span, data_dir=market.data_dir, **more)
    return pl.DataFrame(reader.read_all())


@pytest.mark.parametrize(("span", "days"), [(FAULTS, [FAULTY]), (TWO_DAYS, [QUIET, NEXT])])
def test_a_plain_reader_has_the_published_books(market: Market, span, days):
    """Every valid row of `books.bbo`, and the book beside each trade, follow from the events."""
    told = frame(market, *span)
    for day in days:
        bbo = market.published("book_bbo", day)
        trades = market.published("trades", day)
        books = {"message": touches(bbo), "trade": touches(trades)}
        flags = {"message": bbo["flags"].to_list(), "trade": trades["flags"].to_list()}
        seen = {"message": 0, "trade": 0}
        of_day = told.filter(dt=day).select(COLUMNS)
        for kind, row, is_valid, touch in read_events(of_day.iter_rows()):
            seen[kind] += 1
            is_right = touch == books[kind][row]
            if kind == "message":
                assert is_valid == (flags[kind][row] & INVALID == 0)
                assert is_right or not is_valid
            else:
                # A gap is known of a trade within it, and not by the message before it.
                assert is_right or not is_valid or flags[kind][row] & INVALID
        assert {"message": bbo.height, "trade": trades.height} == seen


def test_published(market: Market):
    """Events of a day that was published for those who ask are those made as they are read."""
    published = scan(Warehouse(market.data_dir), MARKET_EVENTS, QUIET).collect()
    assert published.height > 4_000
    made = frame(market, TWO_DAYS[0], "2025-03-06T00:00:00Z")
    assert published.equals(made.cast(dict(published.schema)))


def test_schema(market: Market):
    """The reader has the columns of the table, also without a row."""
    empty = events(market.instrument.id, *[FAULTS[0]] * 2, data_dir=market.data_dir)
    assert stored_schema(MARKET_EVENTS) == empty.schema
    assert 0 == empty.read_all().num_rows


def test_from_an_instant(market: Market):
    """From an instant on the rows are those of the whole day, but for the book to begin with."""
    start = int(market.published("book_bbo", QUIET)["ts_receipt_ns"][2_000])
    whole = frame(market, TWO_DAYS[0], "2025-03-06T00:00:00Z")
    part = frame(market, start, "2025-03-06T00:00:00Z")
    at = part["message"].drop_nulls()[0]
    later = [rows.filter(pl.col("message") > at) for rows in (whole, part)]
    assert later[0].equals(later[1])
    first = part.filter(pl.col("message") == at)["kind"]
    assert {"delta", "clear", "snapshot"} == {*first}
    seen = [touch for kind, _, _, touch in read_events(part.select(COLUMNS).iter_rows())
            if kind == "message"]  # fmt: skip
    assert touches(market.published("book_bbo", QUIET))[at:] == seen


def test_lie_where_the_user_says(market: Market, tmp_path: Path, monkeypatch):
    """A day's trades lie in the data folder or the one that is named, not in the system's."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    ask = market.instrument.id, *FAULTS
    in_data = events(*ask, data_dir=market.data_dir).read_all()
    named = events(*ask, data_dir=market.data_dir, scratch_dir=tmp_path).read_all()
    assert (True, True) == (in_data.num_rows > 4_000, named.equals(in_data))
    elsewhere = events(*ask, data_dir=market.data_dir, scratch_dir=tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="none"):
        elsewhere.read_all()


def test_a_missing_day(market: Market):
    """A day that is not published is named when it is reached."""
    reader = events(
        market.instrument.id, "2025-03-03T23:59:00Z", TWO_DAYS[0], data_dir=market.data_dir
    )
    with pytest.raises(MissingDataError, match="2025-03-04"):
        reader.read_all()
    with pytest.raises(DomainError, match="before the start"):
        events(market.instrument.id, *reversed(FAULTS), data_dir=market.data_dir)
