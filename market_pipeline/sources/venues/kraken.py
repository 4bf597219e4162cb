"""Kraken v2: no ids; every message names the CRC32 of the ten best levels a side after it."""

from __future__ import annotations

from market_pipeline.sources.venues.venue import (
    BookForm,
    Channel,
    Continuity,
    Form,
    Keepalive,
    Kind,
    Limits,
    Proof,
    Subscription,
    Venue,
)

__all__ = ["KRAKEN"]

_DEPTH = Form(
    symbol="data.0.symbol",
    event_time="data.0.timestamp",
    checksum="data.0.checksum",
    snapshot=("type", "snapshot"),
    book=BookForm(bids="data.0.bids", asks="data.0.asks", price="price", size="qty"),
)
_TRADES = Form(
    symbol="data.0.symbol",
    first_id="data.0.trade_id",
    last_id="data.-1.trade_id",
    event_time="data.-1.timestamp",
    items="data",
    fields={
        "ts_origin_ns": "timestamp",
        "price": "price",
        "quantity": "qty",
        "is_buy": "side",
        "id": "trade_id",
    },
    values={"is_buy": {"buy": True, "sell": False}},
)
_QUOTES = Form(
    symbol="data.0.symbol",
    items="data",
    fields={
        "bid_price": "bid",
        "bid_size": "bid_qty",
        "ask_price": "ask",
        "ask_size": "ask_qty",
        "ts_origin_ns": "timestamp",
    },
)
_KLINES = Form(
    symbol="data.0.symbol",
    event_time="data.0.timestamp",
    items="data",
    fields={
        "start_ns": "interval_begin",
        "open": "open",
        "high": "high",
        "low": "low",
        "close": "close",
        "volume": "volume",
        "trade_count": "trades",
    },
)
_BOOK = Continuity(Proof.CHECKSUM, depth=1000)

KRAKEN = Venue(
    name="kraken",
    exchange="KRAKEN",
    websocket=("wss://ws.kraken.com/v2",),
    rest=("https://api.kraken.com",),
    channels=(
        Channel(
            Kind.DEPTH,
            "book",
            '{"channel":"book","symbol":["$symbol"],"depth":1000}',
            _DEPTH,
            _BOOK,
        ),
        Channel(
            Kind.TRADES,
            "trade",
            '{"channel":"trade","symbol":["$symbol"],"snapshot":false}',
            _TRADES,
        ),
        Channel(
            Kind.QUOTES,
            "ticker",
            '{"channel":"ticker","symbol":["$symbol"],"event_trigger":"bbo"}',
            _QUOTES,
        ),
        Channel(
            Kind.KLINES, "ohlc", '{"channel":"ohlc","symbol":["$symbol"],"interval":1}', _KLINES
        ),
    ),
    keys=(("channel", "^(.+)$"),),
    subscription=Subscription(
        message='{"method":"subscribe","params":$topics}', topics_a_message=1
    ),
    limits=Limits(connects=(150, 600)),
    keepalive=Keepalive('{"method":"ping"}', 30.0),
)
