"""Source `binance_capture`: raw websocket captures of Binance spot, USD-M and COIN-M.

A line is `<local stamp> <JSON>`, gzip; depth events, trades, best bids and asks in the combined
stream's envelope or bare, and REST depth snapshots among them.

Message boundary: one frame. Its rows share `sequence_number`, the event's last update id `u`.
Clock: the event time `E` of depth events and the match time `T` of trades; receipt is the local
stamp. 13 digits are ms, 16 are µs, 19 are ns.
Sequence: every event names what it continues, so lost messages are proven, also across files.
Seed: the first REST snapshot that the events continue.
"""

from __future__ import annotations

from market_pipeline.sources.binance_capture.agg_trades import AggTradeBatch, read_agg_trades
from market_pipeline.sources.binance_capture.book_ticker import BookTickerBatch, read_book_ticker
from market_pipeline.sources.binance_capture.converter import CONVERTER, BinanceCapture
from market_pipeline.sources.binance_capture.lines import (
    MEANING,
    FindingKind,
    Findings,
    LineFinding,
)
from market_pipeline.sources.binance_capture.linking import MARKET_OF_VENUE, Market, capture_symbol
from market_pipeline.sources.binance_capture.readers import (
    TableFindings,
    find_losses,
    read_deltas,
    read_snapshots,
    read_tables,
    read_trades,
)

__all__ = [
    "CONVERTER",
    "MARKET_OF_VENUE",
    "MEANING",
    "AggTradeBatch",
    "BinanceCapture",
    "BookTickerBatch",
    "LineFinding",
    "FindingKind",
    "Findings",
    "Market",
    "TableFindings",
    "capture_symbol",
    "find_losses",
    "read_agg_trades",
    "read_book_ticker",
    "read_deltas",
    "read_snapshots",
    "read_tables",
    "read_trades",
]
