"""A figure as SVG that can stand inside an HTML page and takes on its colours."""

from __future__ import annotations

import io
import re
from html import escape

import matplotlib
from matplotlib.figure import Figure

__all__ = ["ACCENT", "INK", "as_svg"]

INK = "#123456"
"""What is drawn in this colour has that of the page's text."""

ACCENT = "#abcdef"
"""What is drawn in this colour has that of the page's lines of data."""


def as_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an `<svg>` element: text stays text, and no address outside it is named.

    Args:
        figure: Drawn with `INK` and `ACCENT` where the page's own colours shall be.
        name: Unique on the page; the ids inside begin with it.
        title: What a screen reader says of it.
    """
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(
            text,
            format="svg",
            transparent=True,
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    # Groups are numbered alike in every figure, and an id must be unique on a page.
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)  # needless inside HTML
    svg = svg.replace(INK, "var(--ink)").replace(ACCENT, "var(--accent)")
    # The page gives it its size.
    _, _, rest = svg.partition(" viewBox")
    return f'<svg role="img" aria-label="{escape(title)}" viewBox{rest}'
