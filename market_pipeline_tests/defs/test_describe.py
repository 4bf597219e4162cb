"""What assets show of themselves in the UI."""

from __future__ import annotations

import base64
import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from market_pipeline.defs.describe import figure_markdown


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
