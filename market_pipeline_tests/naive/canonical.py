"""A book as the text that the sample data's truth holds the hash of."""

from __future__ import annotations

from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.scale import Scale


def canonical_book(frame: Keyframe, price_scale: Scale, size_scale: Scale) -> str:
    """The book as text: one line per level, best first, bids then asks, no trailing zeros."""
    tick, lot = price_scale.step, size_scale.step
    lines = []
    for mark, prices, sizes in (
        ("B", frame.bid_price_ticks, frame.bid_size_lots),
        ("A", frame.ask_price_ticks, frame.ask_size_lots),
    ):
        for price, size in zip(prices.tolist(), sizes.tolist(), strict=True):
            value = (price * tick).normalize()
            amount = (size * lot).normalize()
            lines.append(f"{mark} {value:f} {amount:f}")
    return "\n".join(lines)
