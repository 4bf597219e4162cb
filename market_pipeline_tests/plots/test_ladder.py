from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import polars as pl
import pytest

from market_pipeline.books.flags import BookFlag
from market_pipeline.notebook.book import Book
from market_pipeline.plots.colours import ASKS, BIDS
from market_pipeline.plots.ladder import plot_book
from market_pipeline_tests.plots.day_files import START_NS
from market_pipeline_tests.plots.pictures import paths, texts


def levels(*pairs: tuple[float, float]) -> pl.DataFrame:
    return pl.DataFrame(pairs, schema={"price": pl.Float64, "size": pl.Float64}, orient="row")


BOOK = Book(
    bids=levels((99.0, 2.0), (98.0, 1.0)),
    asks=levels((101.0, 1.0), (103.0, 4.0)),
    ts_origin_ns=START_NS,
    ts_receipt_ns=START_NS,
    sequence_number=1,
    flags=BookFlag(0),
    tick=Decimal(1),
    lot=Decimal(1),
    known_low_price=None,
    known_high_price=None,
)


def test_sizes_add_up_from_the_touch():
    """Each side rises from its touch by what rests at each level; asks end higher here."""
    svg = plot_book(BOOK).as_svg()
    tops = {}
    for colour in (BIDS, ASKS):
        path = paths(svg, stroke=colour)[0]
        tops[colour] = [float(part.split("H")[0]) for part in path.split("V")[1:]]
    per_lot = 220 / (1.05 * 5)  # 5 lots are the most, in 220 pixels with a little room

    assert [260 - 2 * per_lot, 260 - 3 * per_lot] == pytest.approx(tops[BIDS], abs=0.1)
    assert [260 - 1 * per_lot, 260 - 5 * per_lot] == pytest.approx(tops[ASKS], abs=0.1)


def test_says_whether_the_book_is_valid():
    """Time and validity stand above the picture, and each reason against it."""
    valid = texts(plot_book(BOOK).as_svg())
    stale = texts(plot_book(replace(BOOK, flags=BookFlag.STALE)).as_svg())

    assert "size resting up to each price at 2024-08-08 00:00:00.000000 UTC" in valid
    assert "the book is valid" in valid
    assert [True] == [text.startswith("not valid: ") for text in stale if "valid" in text]


@pytest.mark.parametrize(("bids", "asks"), [(True, False), (False, True), (False, False)])
def test_one_side_and_none(bids, asks):
    """A side without a level is not drawn; without any the picture says so."""
    book = replace(BOOK, bids=BOOK.bids if bids else levels(), asks=BOOK.asks if asks else levels())
    seen = texts(plot_book(book).as_svg())

    assert (bids, asks, not bids and not asks) == (
        "bids" in seen,
        "asks" in seen,
        "no level on either side" in seen,
    )
