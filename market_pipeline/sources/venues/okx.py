"""OKX v5: a book's message names the one before; equal ids are a sign of life without levels.

Sizes of contracts are in contracts. The checksum is always 0 since 2026-06-23 and not used.
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

__all__ = ["OKX"]

_DEPTH = Form(
    symbol="arg.instId",
    last_id="data.0.seqId",
    previous_id="data.0.prevSeqId",
    event_time="data.0.ts",
    snapshot=("action", "snapshot"),
    book=BookForm(bids="data.0.bids", asks="data.0.asks"),
)
_TRADES = Form(
    symbol="arg.instId",
    first_id="data.0.tradeId",
    last_id="data.-1.tradeId",
    event_time="data.-1.ts",
    items="data",
    fields={
        "ts_origin_ns": "ts",
        "price": "px",
        "quantity": "sz",
        "is_buy": "side",
        "id": "tradeId",
    },
    values={"is_buy": {"buy": True, "sell": False}},
)
_QUOTES = Form(
    symbol="arg.instId",
    last_id="data.0.seqId",
    event_time="data.0.ts",
    items="data",
    fields={
        "bid_price": "bids.0.0",
        "bid_size": "bids.0.1",
        "ask_price": "asks.0.0",
        "ask_size": "asks.0.1",
        "id": "seqId",
        "ts_origin_ns": "ts",
    },
)
_FUNDING = Form(
    symbol="arg.instId",
    event_time="data.0.ts",
    items="data",
    fields={
        "ts_origin_ns": "ts",
        "rate": "fundingRate",
        "next_funding_time_ns": "fundingTime",
    },
)


def _topic(channel: str) -> str:
    return f'{{"channel":"{channel}","instId":"$symbol"}}'


OKX = Venue(
    name="okx",
    exchange="OKX",
    websocket=("wss://ws.okx.com:8443/ws/v5/public", "wss://wsaws.okx.com:8443/ws/v5/public"),
    rest=("https://www.okx.com",),
    channels=(
        Channel(
            Kind.DEPTH, "books", _topic("books"), _DEPTH, Continuity(Proof.CHAIN, ids_may_fall=True)
        ),
        Channel(Kind.TRADES, "trades", _topic("trades"), _TRADES),
        Channel(Kind.QUOTES, "bbo-tbt", _topic("bbo-tbt"), _QUOTES),
        Channel(Kind.FUNDING, "funding-rate", _topic("funding-rate"), _FUNDING),
    ),
    # Answers to a subscription name its channel too, beside an event.
    keys=(("event", "^()$"), ("arg.channel", "^(.+)$")),
    subscription=Subscription(message='{"op":"subscribe","args":[$topics]}', topics_a_message=50),
    limits=Limits(connects=(3, 1)),
    keepalive=Keepalive("ping", 25.0, reply="pong"),
)
