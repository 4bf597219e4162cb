"""`plot_book`: the book at an instant, cumulated from the touch outwards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from market_pipeline.notebook.book import Book
from market_pipeline.plots.colours import ASKS, BIDS
from market_pipeline.plots.drawing import Drawing
from market_pipeline.plots.panel import Panel, round_ticks
from market_pipeline.plots.plot import Plot

__all__ = ["plot_book"]

_LEFT, _TOP, _WIDTH, _HEIGHT = 74, 40, 620, 220


def plot_book(book: Book, *, levels: int = 50) -> Plot:
    """How much rests between the touch and each price, bids on the left, asks on the right.

    Args:
        book: As `book_at` and `rebuild` return it.
        levels: So many of the best levels a side.
    """
    shown = book.top(levels)
    sides = [
        (side["price"].to_numpy(), side["size"].to_numpy().cumsum(), colour, name)
        for side, colour, name in ((shown.bids, BIDS, "bids"), (shown.asks, ASKS, "asks"))
    ]
    when = f"{np.datetime64(book.ts_receipt_ns, 'ns')}"[:26].replace("T", " ")
    named = f"size resting up to each price at {when} UTC"
    drawing = Drawing()
    drawing.text(_LEFT, 10, named, is_bold=True)
    validity = "the book is valid" if book.is_valid else f"not valid: {' '.join(book.reasons)}"
    drawing.text(_LEFT, 26, validity)
    prices = np.concatenate([price for price, *_ in sides])
    if not prices.size:
        drawing.text(_LEFT + 8, _TOP + 20, "no level on either side")
        return Plot(drawing, _LEFT + _WIDTH + 24, _TOP + 40, named)
    most = max(float(size[-1]) for _, size, *_ in sides if size.size)
    room = 0.03 * float(np.ptp(prices)) or 1.0
    x_range = float(prices.min()) - room, float(prices.max()) + room
    panel = Panel(_LEFT, _TOP, _WIDTH, _HEIGHT, x_range, (0.0, 1.05 * most))
    panel.draw_axes(drawing, round_ticks(*x_range, 8), round_ticks(0.0, 1.05 * most, 8))
    for price, size, colour, name in sides:
        if price.size:
            _draw_side(drawing, panel, price, size, colour, name)
    drawing.text(_LEFT + _WIDTH, panel.bottom + 26, "price", "end", is_bold=True)
    return Plot(drawing, _LEFT + _WIDTH + 24, panel.bottom + 38, named)


def _draw_side(
    drawing: Drawing,
    panel: Panel,
    price: NDArray[np.float64],
    size: NDArray[np.float64],
    colour: str,
    name: str,
) -> None:
    """Draws a side as steps: at each level the sum grows by what rests there."""
    x, y = panel.x(price), panel.y(size)
    path = f"M{x[0]:.1f} {panel.bottom:.1f}V{y[0]:.1f}"
    path += "".join(
        f"H{across:.1f}V{up:.1f}" for across, up in zip(x[1:].tolist(), y[1:].tolist(), strict=True)
    )
    drawing.area(f"{path}V{panel.bottom:.1f}z", colour, 0.25)
    drawing.line(path, colour, 1.5)
    middle = float((x[0] + x[-1]) / 2)
    drawing.text(middle, panel.top + 12, name, "middle", is_bold=True)
