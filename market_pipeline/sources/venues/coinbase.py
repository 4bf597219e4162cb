"""Coinbase Advanced Trade: one counter over all frames of a connection, whatever they are about.

A loss spoils all symbols of its connection, so each symbol has one of its own. Of a trade the venue
names the maker's side.
"""

from __future__ import annotations

from market_pipeline.sources.venues.venue import (
    BookForm,
    Channel,
    Continuity,
    Form,
    Kind,
    Limits,
    Proof,
    Scope,
    Subscription,
    Venue,
)

__all__ = ["COINBASE"]

_COUNTED = Continuity(Proof.COUNTER, Scope.CONNECTION)
_SNAPSHOT = ("events.0.type", "snapshot")
_DEPTH = Form(
    symbol="events.0.product_id",
    first_id="sequence_num",
    last_id="sequence_num",
    event_time="timestamp",
    snapshot=_SNAPSHOT,
    book=BookForm(
        updates="events.0.updates",
        side="side",
        bid="bid",
        price="price_level",
        size="new_quantity",
    ),
)
_TRADES = Form(
    symbol="events.0.trades.0.product_id",
    first_id="sequence_num",
    last_id="sequence_num",
    event_time="timestamp",
    snapshot=_SNAPSHOT,
    items="events.0.trades",
    fields={
        "ts_origin_ns": "time",
        "price": "price",
        "quantity": "size",
        "is_buy": "side",
        "id": "trade_id",
    },
    values={"is_buy": {"SELL": True, "BUY": False}},
)
_QUOTES = Form(
    symbol="events.0.tickers.0.product_id",
    first_id="sequence_num",
    last_id="sequence_num",
    event_time="timestamp",
    items="events.0.tickers",
    fields={
        "bid_price": "best_bid",
        "bid_size": "best_bid_quantity",
        "ask_price": "best_ask",
        "ask_size": "best_ask_quantity",
    },
)


def _topic(channel: str) -> str:
    return f'{{"type":"subscribe","product_ids":["$symbol"],"channel":"{channel}"}}'


COINBASE = Venue(
    name="coinbase",
    exchange="COINBASE",
    websocket=("wss://advanced-trade-ws.coinbase.com",),
    rest=("https://api.coinbase.com",),
    channels=(
        Channel(Kind.DEPTH, "l2_data", _topic("level2"), _DEPTH, _COUNTED),
        Channel(Kind.TRADES, "market_trades", _topic("market_trades"), _TRADES, _COUNTED),
        Channel(Kind.QUOTES, "ticker", _topic("ticker"), _QUOTES, _COUNTED),
    ),
    keys=(("channel", "^(.+)$"),),
    subscription=Subscription(
        message="$topics",
        topics_a_message=1,
        always=('{"type":"subscribe","channel":"heartbeats"}',),
    ),
    limits=Limits(symbols=1, messages_a_second=8, connects=(8, 1)),
    other=Form(first_id="sequence_num", last_id="sequence_num", event_time="timestamp"),
)
