"""Hyperliquid: every message is a whole book of 20 levels, so that nothing needs to be continued.

Nothing shows either whether one was lost, or what lies beyond its levels.
"""

from __future__ import annotations

from market_pipeline.sources.venues.venue import (
    BookForm,
    Channel,
    Form,
    Keepalive,
    Kind,
    Limits,
    Subscription,
    Venue,
)

__all__ = ["HYPERLIQUID"]

_DEPTH = Form(
    symbol="data.coin",
    event_time="data.time",
    snapshot=("", ""),
    book=BookForm(bids="data.levels.0", asks="data.levels.1", price="px", size="sz"),
)
_TRADES = Form(
    symbol="data.0.coin",
    event_time="data.-1.time",
    items="data",
    fields={"ts_origin_ns": "time", "price": "px", "quantity": "sz", "is_buy": "side", "id": "tid"},
    values={"is_buy": {"B": True, "A": False}},
)
_QUOTES = Form(
    symbol="data.coin",
    event_time="data.time",
    item="data",
    fields={
        "bid_price": "bbo.0.px",
        "bid_size": "bbo.0.sz",
        "ask_price": "bbo.1.px",
        "ask_size": "bbo.1.sz",
        "ts_origin_ns": "time",
    },
)
_KLINES = Form(
    symbol="data.s",
    item="data",
    fields={
        "start_ns": "t",
        "open": "o",
        "high": "h",
        "low": "l",
        "close": "c",
        "volume": "v",
        "trade_count": "n",
    },
)
_FUNDING = Form(
    symbol="data.coin",
    item="data.ctx",
    fields={
        "mark_price": "markPx",
        "index_price": "oraclePx",
        "rate": "funding",
        "open_interest": "openInterest",
    },
)


def _topic(channel: str) -> str:
    return f'{{"type":"{channel}","coin":"$symbol"}}'


HYPERLIQUID = Venue(
    name="hyperliquid",
    exchange="HYPERLIQUID",
    websocket=("wss://api.hyperliquid.xyz/ws",),
    rest=("https://api.hyperliquid.xyz",),
    channels=(
        Channel(Kind.DEPTH, "l2Book", _topic("l2Book"), _DEPTH),
        Channel(Kind.TRADES, "trades", _topic("trades"), _TRADES),
        Channel(Kind.QUOTES, "bbo", _topic("bbo"), _QUOTES),
        Channel(
            Kind.KLINES, "candle", '{"type":"candle","coin":"$symbol","interval":"1m"}', _KLINES
        ),
        Channel(Kind.FUNDING, "activeAssetCtx", _topic("activeAssetCtx"), _FUNDING),
    ),
    keys=(("channel", "^(.+)$"),),
    subscription=Subscription(
        message='{"method":"subscribe","subscription":$topics}', topics_a_message=1
    ),
    limits=Limits(streams=1000, messages_a_second=33, connects=(30, 60)),
    keepalive=Keepalive('{"method":"ping"}', 50.0),
)
