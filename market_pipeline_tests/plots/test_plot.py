from __future__ import annotations

import xml.etree.ElementTree as ET

from market_pipeline.plots.drawing import Drawing
from market_pipeline.plots.plot import Plot


def made() -> Plot:
    drawing = Drawing()
    drawing.text(1, 2, "a & b")
    return Plot(drawing, 100, 50, "A <day>")


def test_a_notebook_shows_it():
    """What Jupyter and marimo ask for is the whole picture, which shrinks with its column."""
    plot = made()
    element = ET.fromstring(plot._repr_html_())

    assert plot.as_svg() == plot._repr_svg_() == plot._repr_html_()
    assert ("100", "50", "0 0 100 50") == tuple(
        element.get(name) for name in ("width", "height", "viewBox")
    )
    assert "max-width:100%" in element.get("style", "")
    assert "Plot('A <day>', 100 x 50)" == repr(plot)


def test_save(tmp_path):
    """The file is the picture, with its text as it is."""
    made().save(tmp_path / "plot.svg")

    assert made().as_svg() == (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert ["a & b"] == [each.text for each in ET.parse(tmp_path / "plot.svg").iter() if each.text]
