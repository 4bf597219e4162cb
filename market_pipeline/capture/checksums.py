"""The checksum of Kraken's books: CRC32 of the ten best asks, low to high, and bids, high to low.

Of each level the price and the size as the venue writes them, without point and leading zeros
(docs.kraken.com, "Book checksum (WebSocket v2)").
"""

from __future__ import annotations

import zlib

from market_pipeline.books.scale import Scale
from market_pipeline.books.walk import Side
from market_pipeline.sources.venues.records import BookLevels

__all__ = ["CHECKSUM_LEVELS", "checksum", "decimals_of"]

CHECKSUM_LEVELS = 10


def checksum(bids: Side, asks: Side, scales: tuple[Scale, Scale], decimals: tuple[int, int]) -> int:
    """The checksum of a book.

    Args:
        bids, asks: Its best levels, (price_ticks, size_lots), best first, size 0 being none.
        scales: Tick and lot.
        decimals: How many decimals the venue writes of a price and of a size.
    """
    text = ""
    for levels in (asks, bids):
        for steps in zip(*(each.tolist() for each in levels), strict=True):
            if steps[1]:
                for step, scale, places in zip(steps, scales, decimals, strict=True):
                    text += str(step * scale.coefficient * 10**places // 10**scale.decimals)
    return zlib.crc32(text.encode())


def decimals_of(levels: BookLevels, known: tuple[int, int]) -> tuple[int, int]:
    """How many decimals the venue writes, by the levels of a frame; of a removed one no size."""
    price_places, size_places = known
    for price, size in (*levels.bids, *levels.asks):
        price_places = len(price.partition(".")[2])
        if float(size):
            size_places = len(size.partition(".")[2])
    return price_places, size_places
