from __future__ import annotations

import polars as pl
import pytest

from market_pipeline.errors import SchemaError
from market_pipeline.plots.drawing import ACCENT
from market_pipeline.plots.scatter import plot_scatter
from market_pipeline_tests.plots.pictures import paths, stretches, texts

LEFT, TOP, WIDTH, HEIGHT = 74, 24, 520, 320


def test_a_point_for_each_row_that_has_both():
    """Rows without a value are not drawn and not counted."""
    frame = pl.DataFrame({"x": [0.0, 1.0, None, 3.0], "y": [0.0, 1.0, 2.0, float("nan")]})
    svg = plot_scatter(frame, "x", "y", x_title="flow, ETH").as_svg()

    assert 2 == len(stretches(paths(svg, stroke=ACCENT)[0]))
    assert {"2 points", "flow, ETH", "y"} <= set(texts(svg))


def test_many_rows():
    """Of more than 4,000 rows every n-th is drawn, and the picture says so."""
    frame = pl.DataFrame({"x": range(10_000), "y": range(10_000)})
    svg = plot_scatter(frame, "x", "y").as_svg()

    assert 3_334 == len(stretches(paths(svg, stroke=ACCENT)[0]))
    assert "10,000 points, one in 3 is drawn" in texts(svg)


@pytest.mark.parametrize("slope", [0.0, 0.5, 100.0, -100.0])
def test_a_line_stays_in_the_panel(slope):
    """However steep it is, a line is drawn only where the points are."""
    frame = pl.DataFrame({"x": [-1.0, 1.0], "y": [-1.0, 1.0]})
    svg = plot_scatter(frame, "x", "y", line=(0.0, slope)).as_svg()
    (line,) = [each.replace("L", " ") for each in paths(svg, stroke="#d55e00")]
    (start, *start_y, end, end_y) = (float(each) for each in line[1:].split())

    assert LEFT <= start < end <= LEFT + WIDTH
    assert all(TOP - 0.1 <= each <= TOP + HEIGHT + 0.1 for each in (*start_y, end_y))


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0], [1e300, -1e300]])
def test_any_values(values):
    """None, one, equal and huge values are drawn."""
    svg = plot_scatter(
        pl.DataFrame({"x": values, "y": values}, schema=["x", "y"]), "x", "y"
    ).as_svg()

    assert f"{len(values)} points" in texts(svg)


def test_a_wrong_column_is_named():
    """A column that is not there is a SchemaError that says which."""
    with pytest.raises(SchemaError, match="column=z"):
        plot_scatter(pl.DataFrame({"x": [1.0]}), "x", "z")
