"""Venues whose live frames are read: one declaration each, and one reader for all.

`docs/capture/venues.md` says what each proves and how to add one.
"""

from __future__ import annotations

from market_pipeline.sources.venues.binance import BINANCE_COINM, BINANCE_SPOT, BINANCE_USDM
from market_pipeline.sources.venues.bybit import BYBIT_LINEAR, BYBIT_SPOT
from market_pipeline.sources.venues.coinbase import COINBASE
from market_pipeline.sources.venues.deribit import DERIBIT
from market_pipeline.sources.venues.hyperliquid import HYPERLIQUID
from market_pipeline.sources.venues.kraken import KRAKEN
from market_pipeline.sources.venues.okx import OKX
from market_pipeline.sources.venues.venue import Venue

__all__ = ["VENUES"]

VENUES: dict[str, Venue] = {
    venue.name: venue
    for venue in (
        BINANCE_SPOT,
        BINANCE_USDM,
        BINANCE_COINM,
        BYBIT_SPOT,
        BYBIT_LINEAR,
        KRAKEN,
        COINBASE,
        OKX,
        DERIBIT,
        HYPERLIQUID,
    )
}
"""Every venue by its name."""
