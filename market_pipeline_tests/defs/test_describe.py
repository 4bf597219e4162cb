"""What assets show of themselves in the UI."""

from __future__ import annotations

import base64
import re

import pytest
from markdown_it import MarkdownIt

from market_pipeline.defs.describe import figure_markdown, markdown_text
from market_pipeline.shown import shown_lines

# What the UI's Markdown looks for in finished text, to make links of.
ADDRESS = re.compile(r"(https?://|www(?=\.))[-.\w]+|[-.\w+]+@[-\w]+(\.[-\w]+)+", re.IGNORECASE)


@pytest.mark.parametrize(
    "text",
    [
        "https://a.example/x?y=z#w, WWW.a.example, mail a.b@c.example; http://www.a@b.example",
        "_a_ __b__ ___c___ a_b_c _d e_ *f* **g** ~h~ ~~i~~ `j` ``k`` \\",
        "&#x202e;a&amp;b&nbsp;c &lt;b&gt;",
        "![a](http://b.example) [c](d) [e]: f [^1] <http://g.example> <b>h</b>",
        "a`://`b `@` www`.` \\`://",
        "@@ a://@ ://:// www.:// www.@b.example",
        "raw_trades/exchange=A/symbol=B/dt=2025-03-03/1.snappy.parquet, row 7 | c | $d$ {{e}} %s",
    ],
)
def test_markdown_of_any_text(text: str):
    """It shows each character of the text as it is, and nothing in it can become a link."""
    (_, inline, _) = MarkdownIt("commonmark").enable("strikethrough").parse(markdown_text(text))
    assert inline.children is not None

    assert {"text", "code_inline", "text_special"} >= {part.type for part in inline.children}
    assert shown_lines(text) == "".join(part.content for part in inline.children)
    assert not any(ADDRESS.search(part.content) for part in inline.children)


def test_a_figure_is_whole():
    """A figure is an image that carries its own bytes, with what it shows in words."""
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><text>é](x)</text></svg>'
    before, encoded = figure_markdown(svg, "cells").md_str.removesuffix(")").split(",")

    assert "![cells](data:image/svg+xml;base64" == before
    assert svg == base64.b64decode(encoded).decode()
