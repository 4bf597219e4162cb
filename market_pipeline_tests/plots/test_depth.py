from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.books.tables import DEPTH
from market_pipeline.plots._depth import depth_grid
from market_pipeline.plots.window import Window
from market_pipeline_tests.plots.day_files import SECOND_NS, START_NS, book

WINDOW = Window(START_NS, START_NS + 10 * 60 * SECOND_NS)

distances = st.lists(st.integers(1, 400), min_size=1, max_size=20, unique=True).map(sorted)


@st.composite
def books(draw) -> dict:
    """A book at the start of a minute, of which some are beyond the window."""
    touch = 1_000 + draw(st.integers(0, 50))
    sizes = st.integers(1, 9)
    bids = [(touch - away, draw(sizes)) for away in draw(distances)]
    asks = [(touch + away - 1, draw(sizes)) for away in draw(distances)]
    return book(60 * draw(st.integers(0, 12)), bids, asks)


@given(st.lists(books(), min_size=1, max_size=8, unique_by=lambda row: row["ts_receipt_ns"]))
def test_every_level_is_in_its_row(rows):
    """A level's lots are in the row of its distance; only those beyond the grid are left out."""
    frame = DEPTH.frame(rows).with_columns(start_ns="ts_receipt_ns")
    grid = depth_grid(frame, WINDOW)
    inside = [row for row in rows if row["ts_receipt_ns"] < WINDOW.end_ns]
    if not inside:
        assert grid is None
        return
    assert grid is not None
    half = len(grid.lots) // 2
    expected = np.full_like(grid.lots, np.nan)
    for row in inside:
        step = (row["ts_receipt_ns"] - START_NS) // (60 * SECOND_NS)
        expected[:, step] = 0
        mid = (row["bid_0_price_ticks"] + row["ask_0_price_ticks"]) / 2
        for side, sign in (("bid", -1), ("ask", 1)):
            for level in range(20):
                if f"{side}_{level}_price_ticks" in row:
                    away = abs(row[f"{side}_{level}_price_ticks"] - mid)
                    number = int(away // grid.row_ticks)
                    if number < half:
                        place = half + number if sign > 0 else half - 1 - number
                        expected[place, step] += row[f"{side}_{level}_size_lots"]

    np.testing.assert_array_equal(expected, grid.lots)
    assert half <= 26
    assert grid.reach_ticks == half * grid.row_ticks


def test_one_side_is_no_book():
    """Books without a bid or without an ask have no mid: nothing is drawn of them."""
    rows = [book(0, [(100, 1)], []), book(60, [], [(100, 1)])]

    assert depth_grid(DEPTH.frame(rows).with_columns(start_ns="ts_receipt_ns"), WINDOW) is None
