"""What assets show of themselves in the UI."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from PIL import Image

from market_pipeline.defs.describe import figure_markdown, markdown_text

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
    assert text == "".join(part.content for part in inline.children)
    assert not any(ADDRESS.search(part.content) for part in inline.children)


def test_a_rare_colour():
    """One red cell among a thousand shades of green stays red in a figure of few colours."""
    cells = np.zeros((20, 60, 3))
    cells[..., 1] = np.linspace(0.4, 1, 1200).reshape(20, 60)
    cells[..., ::2] = np.random.default_rng(1).uniform(0, 0.6, (20, 60, 1))
    cells[7, 31] = (0.8, 0.1, 0.1)
    figure = Figure(figsize=(12, 4))
    figure.subplots().imshow(cells, interpolation="nearest")
    (_, encoded) = figure_markdown(figure, "cells").md_str.rstrip(")").split(",")
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        pixels = np.asarray(image.convert("RGB"), int)
    is_red = (abs(pixels - (204, 26, 26)) < 16).all(axis=2)

    assert 50 < is_red.sum() < 500
