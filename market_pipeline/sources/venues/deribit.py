"""Deribit: a book's message names the change before it.

Books without a login come every 100 ms; `raw` ones need one.
"""

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

__all__ = ["DERIBIT"]

_DEPTH = Form(
    symbol="params.data.instrument_name",
    last_id="params.data.change_id",
    previous_id="params.data.prev_change_id",
    event_time="params.data.timestamp",
    snapshot=("params.data.type", "snapshot"),
    book=BookForm(bids="params.data.bids", asks="params.data.asks", price=1, size=2),
)
_TRADES = Form(
    symbol="params.data.0.instrument_name",
    first_id="params.data.0.trade_seq",
    last_id="params.data.-1.trade_seq",
    event_time="params.data.-1.timestamp",
    items="params.data",
    fields={
        "ts_origin_ns": "timestamp",
        "price": "price",
        "quantity": "amount",
        "is_buy": "direction",
        "id": "trade_seq",
    },
    values={"is_buy": {"buy": True, "sell": False}},
)
_QUOTES = Form(
    symbol="params.data.instrument_name",
    event_time="params.data.timestamp",
    item="params.data",
    fields={
        "bid_price": "best_bid_price",
        "bid_size": "best_bid_amount",
        "ask_price": "best_ask_price",
        "ask_size": "best_ask_amount",
        "ts_origin_ns": "timestamp",
    },
)
_FUNDING = Form(
    symbol="params.data.instrument_name",
    event_time="params.data.timestamp",
    item="params.data",
    fields={
        "ts_origin_ns": "timestamp",
        "mark_price": "mark_price",
        "index_price": "index_price",
        "rate": "current_funding",
        "open_interest": "open_interest",
    },
)

DERIBIT = Venue(
    name="deribit",
    exchange="DERIBIT",
    websocket=("wss://www.deribit.com/ws/api/v2",),
    rest=("https://www.deribit.com/api/v2",),
    channels=(
        Channel(Kind.DEPTH, "book", '"book.$symbol.100ms"', _DEPTH, Continuity(Proof.CHAIN)),
        Channel(Kind.TRADES, "trades", '"trades.$symbol.100ms"', _TRADES),
        Channel(Kind.QUOTES, "quote", '"quote.$symbol"', _QUOTES),
        Channel(Kind.FUNDING, "ticker", '"ticker.$symbol.100ms"', _FUNDING),
    ),
    keys=(("params.channel", r"^([a-z]+)\."),),
    subscription=Subscription(
        message='{"jsonrpc":"2.0","id":1,"method":"public/subscribe","params":'
        '{"channels":[$topics]}}',
        topics_a_message=100,
    ),
    limits=Limits(streams=500),
    keepalive=Keepalive('{"jsonrpc":"2.0","id":2,"method":"public/test","params":{}}', 30.0),
)
