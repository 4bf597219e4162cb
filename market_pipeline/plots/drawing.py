"""A picture as SVG, written directly: shapes and text at places in pixels from the upper left.

The same calls give the same bytes. Text stays text, is escaped, and what cannot be printed in it is
written out.
"""

from __future__ import annotations

import base64
from html import escape
from typing import Literal
from unicodedata import east_asian_width

import numpy as np
from numpy.typing import NDArray

from market_pipeline.shown import shown

__all__ = ["ACCENT", "INK", "Drawing", "box_path", "polyline", "text_width"]

INK = "currentColor"
"""What is drawn in this colour has that of the page's text."""

ACCENT = "var(--accent)"
"""What is drawn in this colour has that of the page's lines of data."""

_FONT_SIZE = 11
_FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
_TEXT = f'font-family="{_FONT}" font-size="{_FONT_SIZE}" fill="{INK}"'
# An image knows nothing of the page around it, light or dark: it brings its own paper and ink.
_OWN_COLOURS = "color:#1c2226;--accent:#0072b2"
_FITS = "max-width:100%;height:auto"
_PAPER = "#fff"


class Drawing:
    """Shapes and text in the order in which they cover one another."""

    def __init__(self) -> None:
        self._elements: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        text: str,
        anchor: Literal["start", "middle", "end"] = "start",
        *,
        is_bold: bool = False,
    ) -> None:
        """Writes a text with its middle at the height `y`."""
        self._elements.append(
            f'<text x="{_number(x)}" y="{_number(y + 0.36 * _FONT_SIZE)}"'
            + (f' text-anchor="{anchor}"' if anchor != "start" else "")
            + (' font-weight="600"' if is_bold else "")
            + f">{_escaped(text)}</text>"
        )

    def letters(self, places: list[tuple[float, str]], y: float) -> None:
        """Writes letters each with its middle at its `x`, all at one height."""
        self._elements.append(
            f'<text x="{" ".join(_number(x) for x, _ in places)}" '
            f'y="{_number(y + 0.36 * _FONT_SIZE)}" text-anchor="middle">'
            f"{_escaped(''.join(letter for _, letter in places))}</text>"
        )

    def box(
        self, x: float, y: float, width: float, height: float, colour: str, opacity: float = 1.0
    ) -> None:
        """Fills a rectangle."""
        self.area(box_path(x, y, width, height), colour, opacity)

    def area(self, outline: str, colour: str, opacity: float = 1.0) -> None:
        """Fills what a path encloses."""
        self._elements.append(f'<path d="{outline}" fill="{colour}"{_opacity("fill", opacity)}/>')

    def line(self, path: str, colour: str, width: float = 1.0, opacity: float = 1.0) -> None:
        """Draws along a path; a part of no length is a dot."""
        self._elements.append(
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{_number(width)}" '
            f'stroke-linecap="round" stroke-linejoin="round"{_opacity("stroke", opacity)}/>'
        )

    def image(self, x: float, y: float, width: float, height: float, png: bytes) -> None:
        """Shows a PNG stretched over a rectangle, with pixels that have sharp sides."""
        self._elements.append(
            f'<image x="{_number(x)}" y="{_number(y)}" width="{_number(width)}" '
            f'height="{_number(height)}" preserveAspectRatio="none" '
            'style="image-rendering:pixelated" '
            f'href="data:image/png;base64,{base64.b64encode(png).decode()}"/>'
        )

    def as_inline(self, width: float, height: float, title: str) -> str:
        """The picture as an element of a page, with the page's colours and as large as it says.

        Args:
            width, height: What is shown, in pixels of the drawing.
            title: What a screen reader says of it.
        """
        return (
            f'<svg role="img" aria-label="{_escaped(title)}" '
            f'viewBox="0 0 {_number(width)} {_number(height)}" {_TEXT}>'
            f"{''.join(self._elements)}</svg>"
        )

    def as_image(self, width: float, height: float) -> str:
        """The picture as a document of its own, on paper that suits a light page and a dark one.

        In a column that is narrower it is as wide as that.
        """
        size = f'width="{_number(width)}" height="{_number(height)}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
            f'viewBox="0 0 {_number(width)} {_number(height)}" {_TEXT} '
            f'style="{_OWN_COLOURS};{_FITS}">'
            f'<rect {size} rx="4" fill="{_PAPER}"/>{"".join(self._elements)}</svg>'
        )


def box_path(x: float, y: float, width: float, height: float) -> str:
    """The path around a rectangle."""
    across, down = _number(width), _number(height)
    return f"M{_number(x)} {_number(y)}h{across}v{down}h-{across}z"


def polyline(x: NDArray[np.floating], y: NDArray[np.floating]) -> str:
    """The path through points, to a tenth of a pixel; points on a level stretch are left out.

    Args:
        x, y: Shape (points,), at least one; a single one gives a path of no length.
    """
    points = np.rint(np.column_stack((x, y)) * 10).astype(np.int64)
    before, level, after = points[:-2, 1], points[1:-1, 1], points[2:, 1]
    turns = np.flatnonzero((level != before) | (level != after)) + 1
    points = points[np.unique([0, *turns, len(points) - 1])]
    # Differences of what was rounded, so that nothing adds up along the way.
    steps = _short(np.diff(points, axis=0).ravel().tolist())
    return f"M{_short(points[0].tolist())}" + (f"l{steps}" if steps else "h0")


def _short(tenths: list[int]) -> str:
    """Numbers as a path takes them, in as few letters as it allows."""
    numbers = " ".join(f"{part / 10:g}" for part in tenths)
    return numbers.replace(" -", "-").replace("-0.", "-.").replace(" 0.", " .")


def text_width(text: str) -> float:
    """About how many pixels a text takes, rather too many than too few."""
    wide = sum(east_asian_width(letter) in "WF" for letter in text)
    return _FONT_SIZE * (0.62 * len(text) + 0.4 * wide)


def _opacity(of: str, opacity: float) -> str:
    return f' {of}-opacity="{_number(opacity)}"' if opacity < 1 else ""


def _number(value: float) -> str:
    return f"{round(value, 2):g}" if abs(value) < 100_000 else f"{value:.0f}"


def _escaped(text: str) -> str:
    return escape(shown(text))
