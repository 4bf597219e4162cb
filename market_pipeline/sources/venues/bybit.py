"""Bybit v5: spot and linear contracts. A book's update id counts by one, a whole book begins anew.

Trades have no number that counts, so that a lost one does not show.
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

__all__ = ["BYBIT_LINEAR", "BYBIT_SPOT"]

_DEPTH = Form(
    symbol="data.s",
    first_id="data.u",
    last_id="data.u",
    event_time="cts",
    snapshot=("type", "snapshot"),
    book=BookForm(bids="data.b", asks="data.a"),
)
_TRADES = Form(
    event_time="ts",
    items="data",
    fields={"ts_origin_ns": "T", "price": "p", "quantity": "v", "is_buy": "S"},
    values={"is_buy": {"Buy": True, "Sell": False}},
)
# The ids of this topic are its own, so that a quote is of no known update of the book.
_QUOTES = Form(
    last_id="data.u",
    event_time="cts",
    fields={
        "bid_price": "data.b.0.0",
        "bid_size": "data.b.0.1",
        "ask_price": "data.a.0.0",
        "ask_size": "data.a.0.1",
        "ts_origin_ns": "cts",
    },
)
_KLINES = Form(
    event_time="ts",
    items="data",
    fields={
        "start_ns": "start",
        "open": "open",
        "high": "high",
        "low": "low",
        "close": "close",
        "volume": "volume",
        "is_closed": "confirm",
    },
)
_FUNDING = Form(
    event_time="ts",
    fields={
        "ts_origin_ns": "ts",
        "mark_price": "data.markPrice",
        "index_price": "data.indexPrice",
        "rate": "data.fundingRate",
        "next_funding_time_ns": "data.nextFundingTime",
        "open_interest": "data.openInterest",
    },
)
_CHANNELS = (
    Channel(
        Kind.DEPTH, "orderbook.200", '"orderbook.200.$symbol"', _DEPTH, Continuity(Proof.COUNTER)
    ),
    Channel(Kind.TRADES, "publicTrade", '"publicTrade.$symbol"', _TRADES),
    Channel(Kind.QUOTES, "orderbook.1", '"orderbook.1.$symbol"', _QUOTES),
    Channel(Kind.KLINES, "kline.1", '"kline.1.$symbol"', _KLINES),
)
_OF_CONTRACTS = Channel(Kind.FUNDING, "tickers", '"tickers.$symbol"', _FUNDING)


def _venue(name: str, exchange: str, route: str, channels: tuple[Channel, ...]) -> Venue:
    return Venue(
        name=name,
        exchange=exchange,
        websocket=(f"wss://stream.bybit.com/v5/public/{route}",),
        rest=("https://api.bybit.com",),
        channels=channels,
        keys=(("topic", r"^([A-Za-z]+(?:\.\d+)?)\.(?P<symbol>.+)$"),),
        subscription=Subscription(
            message='{"op":"subscribe","args":[$topics]}', topics_a_message=10
        ),
        limits=Limits(connects=(500, 300)),
        keepalive=Keepalive('{"op":"ping"}', 20.0),
    )


BYBIT_SPOT = _venue("bybit_spot", "BYBIT_SPOT", "spot", _CHANNELS)
BYBIT_LINEAR = _venue("bybit_linear", "BYBIT", "linear", (*_CHANNELS, _OF_CONTRACTS))
