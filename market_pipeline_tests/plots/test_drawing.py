from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from market_pipeline.plots.drawing import INK, Drawing, polyline, text_width
from market_pipeline_tests.plots.pictures import paths, stretches, texts


def drawn(text: str) -> str:
    drawing = Drawing()
    drawing.box(1, 2, 30.3, 4, "#123456")
    drawing.line("M0 0h5", INK, opacity=0.5)
    drawing.text(10, 20, text, "end")
    return drawing.as_image(100, 50)


@pytest.mark.parametrize(
    "text", ["A$1$-USD", "</text><script>1</script>", "\"a\" & 'b'", "]]>", "&amp;", "中文"]
)
def test_text_is_text(text: str):
    """Whatever a name is made of, it is one text of the picture and no markup."""
    assert [text] == list(texts(drawn(text)))


def test_unprintable_text_is_written_out():
    """What no XML may hold stands there as its code."""
    assert [r"a\x00b\x1b\ud800"] == list(texts(drawn("a\x00b\x1b\ud800")))


def test_same_calls_same_bytes():
    """The same picture is the same bytes, and fetches nothing."""
    svg = drawn("a")

    assert svg == drawn("a")
    assert [] == [part for part in ("href", "url(", "@import") if part in svg]


def test_on_a_page():
    """An element of a page has the page's colours and size, and a title that is escaped."""
    drawing = Drawing()
    drawing.text(0, 0, "a")
    element = ET.fromstring(drawing.as_inline(100, 50, 'A "day" & <more>'))

    assert ("svg", 'A "day" & <more>', "0 0 100 50") == (
        element.tag,
        element.get("aria-label"),
        element.get("viewBox"),
    )
    assert (None, None, INK) == (element.get("width"), element.get("style"), element.get("fill"))


def test_box():
    """A box has its corners where it was asked for."""
    (path,) = paths(drawn("a"), fill="#123456")

    assert [[(1, 2), (31.3, 2), (31.3, 6), (1, 6)]] == stretches(path.removesuffix("z"))


class TestPolyline:
    def test_points(self):
        """A path leads through its points, to a tenth of a pixel however many there are."""
        x, y = np.arange(0, 300, 0.7), np.random.default_rng(1).uniform(-50, 50, 429)
        (points,) = stretches(polyline(x, y))

        assert np.column_stack((x, y)).round(1).tolist() == [list(point) for point in points]

    def test_level_stretch(self):
        """Of points on one height the ends are there, and no others."""
        path = polyline(np.arange(6.0), np.array([1.0, 1, 1, 1, 5, 5]))

        assert [[(0, 1), (3, 1), (4, 5), (5, 5)]] == stretches(path)

    def test_single_point(self):
        """A single point is a path of no length."""
        assert "M3 4.5h0" == polyline(np.array([3.0]), np.array([4.5]))


def test_text_width():
    """A longer text is wider, and a letter of full width takes more room."""
    assert text_width("ab") < text_width("abc") < text_width("ab中")
