"""Venues whose live frames are read: one declaration each, and one reader for all.

`docs/capture/venues.md` says what each proves and how to add one.
"""

from __future__ import annotations

from market_pipeline.sources.venues.binance import BINANCE_COINM, BINANCE_SPOT, BINANCE_USDM

__all__ = ["VENUES"]

VENUES = {venue.name: venue for venue in (BINANCE_SPOT, BINANCE_USDM, BINANCE_COINM)}
"""Every venue by its name."""
