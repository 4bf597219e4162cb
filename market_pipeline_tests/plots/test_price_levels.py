from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import polars as pl
import pytest

from market_pipeline.errors import DomainError
from market_pipeline.plots.price_levels import _grid, _step, _touch, plot_depth
from market_pipeline.plots.window import Window
from market_pipeline_tests.plots.day_files import SECOND_NS, START_NS
from market_pipeline_tests.plots.pictures import paths, stretches, texts


def cells(rows: list[tuple[int, int, bool, float]], tick: float = 0.1) -> pl.DataFrame:
    """Cells as `depth_matrix` gives them: minute, ticks, whether it is a bid, size."""
    return pl.DataFrame(
        [
            {
                "exchange": "BINANCE",
                "symbol": "BTC-USDT",
                "ts_interval_ns": START_NS + 60 * minute * SECOND_NS,
                "is_bid": is_bid,
                "price_ticks": ticks,
                "price": ticks * tick,
                "size": size,
            }
            for minute, ticks, is_bid, size in rows
        ]
    )


def grid(
    rows: list[tuple[int, int, bool, float]], minutes: int
) -> tuple[list[list[float]], int, int]:
    made = cells(rows).with_columns(at_ns=pl.col("ts_interval_ns"))
    window = Window(START_NS, START_NS + minutes * 60 * SECOND_NS, 60 * SECOND_NS)
    size, low, high = _grid(made, _touch(made), window, _step(made["price_ticks"]))
    return size.tolist(), low, high


def test_grid():
    """A size is in the column of its interval and the row of its price; both sides add up."""
    rows = [(0, 100, True, 3.0), (0, 102, False, 4.0), (2, 102, True, 5.0), (2, 102, False, 1.0)]

    assert ([[3.0, 0.0, 0.0], [4.0, 0.0, 6.0]], 100, 104) == grid(rows, 3)


def test_step_is_that_of_the_cells():
    """Rows are as high as the cells' prices are apart, wherever the first one lies."""
    assert (5, 10, 1) == tuple(_step(pl.Series(each)) for each in ([3, 8, 23], [7, 17], [7]))


def test_a_level_far_away_does_not_flatten_the_picture():
    """One level at a hundredth of the price is left out, and every mid is in."""
    near = [(minute, 1_000 + minute + k, k < 0, 1.0) for minute in range(100) for k in (-1, 1)]
    size, low, high = grid([*near, (50, 10, True, 1.0)], 100)

    assert (True, True) == (low >= 990, high <= 1_111)
    assert 200 == sum(map(sum, size))


def test_more_intervals_than_pixels():
    """Of the intervals that share a column it is the last one's depth."""
    rows = [(minute, 100, True, float(minute + 1)) for minute in range(2_000)]
    size, _, _ = grid(rows, 2_000)

    assert (860, 2_000.0) == (len(size[0]), size[0][-1])
    assert set(size[0]) < {float(minute + 1) for minute in range(2_000)}


def test_mid_is_drawn_and_breaks_where_there_is_no_book():
    """The line runs half way between the best rows, and not across missing intervals."""
    rows = [(minute, ticks, ticks < 101, 2.0) for minute in (0, 1, 5, 6) for ticks in (100, 102)]
    svg = plot_depth(cells(rows)).as_svg()
    (mid,) = paths(svg, stroke="#d55e00")

    assert [2, 2] == [len(each) for each in stretches(mid)]
    assert {204.0} == {y for each in stretches(mid) for _, y in each}  # the middle of the panel


def test_picture():
    """It is one well-formed SVG that names the instrument, and fetches nothing."""
    svg = plot_depth(cells([(0, 100, True, 3.0), (0, 102, False, 4.0)])).as_svg()

    assert 2 == len([*ET.fromstring(svg).iterfind(".//{*}image")])
    assert "BINANCE:BTC-USDT: resting size by price" in texts(svg)
    assert [] == re.findall(r'(?:href|src)="(?!data:image/png;base64,)[^"]*', svg)


@pytest.mark.parametrize(
    "rows",
    [[(0, 100, True, 3.0)], [(m, 100, False, 1e-8) for m in range(3)], [(0, 2**52, True, 1e12)]],
)
def test_one_sided_and_odd_books(rows):
    """A book of one side, tiny sizes and huge prices are drawn."""
    assert "size" in texts(plot_depth(cells(rows)).as_svg())


def test_one_instrument():
    """No cell, and those of two instruments, are refused."""
    one = cells([(0, 100, True, 3.0)])
    for wrong in (one.clear(), pl.concat([one, one.with_columns(symbol=pl.lit("X"))])):
        with pytest.raises(DomainError, match="A heat map is of one instrument"):
            plot_depth(wrong)
