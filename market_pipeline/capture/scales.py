"""Tick and lot of what is captured: the instruments file's, or inferred from a whole book."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

from market_pipeline.books.scale import MAX_DECIMALS, Scale
from market_pipeline.config.instruments import Instrument
from market_pipeline.sources.binance_capture import MARKET_OF_VENUE, capture_symbol
from market_pipeline.sources.venues.records import BookLevels
from market_pipeline.sources.venues.venue import Venue

__all__ = ["Scales", "is_of", "listed_scales", "scales_of_levels"]

Scales = tuple[Scale, Scale]
"""Tick and lot."""


def listed_scales(
    instruments: Iterable[Instrument], venue: Venue, symbols: Iterable[str]
) -> dict[str, Scales]:
    """Tick and lot of those symbols, as the venue spells them, whose instrument states both."""
    found = {}
    listed = [each for each in instruments if each.venue == venue.exchange]
    for symbol in symbols:
        for each in listed:
            tick, lot = each.tick, each.lot
            if is_of(each, symbol) and isinstance(tick, Decimal) and isinstance(lot, Decimal):
                found[symbol] = Scale.of(tick), Scale.of(lot)
    return found


def is_of(instrument: Instrument, symbol: str) -> bool:
    """Whether an instrument of a venue is what the venue spells so."""
    market = MARKET_OF_VENUE.get(instrument.venue)
    if market is not None:
        return capture_symbol(market, instrument.symbol) == symbol
    # BTC-USD is BTC/USD there.
    one, other = (re.sub("[^A-Z0-9]", "", each.upper()) for each in (instrument.symbol, symbol))
    return one == other


def scales_of_levels(levels: BookLevels, least: Scales | None = None) -> Scales:
    """The coarsest powers of ten that all prices and sizes are whole multiples of.

    They may be finer than the venue's own steps, never coarser than these levels: each level is a
    whole number of them.

    Args:
        least: Steps found before; what is returned is as fine as they are, or finer.
    """
    both = [*levels.bids, *levels.asks]
    places = [max((_places(each[at]) for each in both), default=0) for at in (0, 1)]
    before = (0, 0) if least is None else (least[0].decimals, least[1].decimals)
    price, size = (Scale(1, max(pair)) for pair in zip(places, before, strict=True))
    return price, size


def _places(text: str) -> int:
    """The decimals of a number without zeros at its end; none where it is no number."""
    try:
        exponent = Decimal(text).normalize().as_tuple().exponent
    except InvalidOperation:
        return 0
    return min(max(-exponent, 0), MAX_DECIMALS) if isinstance(exponent, int) else 0
