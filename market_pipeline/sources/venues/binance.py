"""Binance: spot, USD-M and COIN-M futures.

`@trade` numbers every print, so a missing one shows; of aggregate trades the aggregates are
numbered. Depth of futures names the event before (`pu`), for their ids have holes.
"""

from __future__ import annotations

from typing import Any

from market_pipeline.sources.venues.venue import (
    BookForm,
    Channel,
    ClockRequest,
    Continuity,
    Form,
    Keepalive,
    Kind,
    Limits,
    Proof,
    SnapshotRequest,
    Subscription,
    Venue,
)

__all__ = ["BINANCE_COINM", "BINANCE_SPOT", "BINANCE_USDM"]

_SPOT_DEPTH = Continuity(Proof.ID_RANGE)
_FUTURES_DEPTH = Continuity(Proof.CHAIN, snapshot_covers_its_id=False)
_NUMBERED = Continuity(Proof.COUNTER)

_DEPTH = Form(
    symbol="data.s",
    first_id="data.U",
    last_id="data.u",
    previous_id="data.pu",
    event_time="data.E",
    book=BookForm(bids="data.b", asks="data.a"),
)
_SNAPSHOT = Form(
    symbol="symbol",
    last_id="lastUpdateId",
    event_time="E",
    book=BookForm(bids="bids", asks="asks"),
)
_TAKER: dict[str, dict[Any, object]] = {"is_buy": {True: False, False: True}}
_OUTSIDE: dict[str, bool] = dict.fromkeys(("INSURANCE_FUND", "ADL", "NA"), False)
_TRADE = {"ts_origin_ns": "data.T", "price": "data.p", "quantity": "data.q", "is_buy": "data.m"}
_TRADES = Form(
    symbol="data.s",
    first_id="data.t",
    last_id="data.t",
    event_time="data.E",
    fields={**_TRADE, "id": "data.t", "is_market": "data.X"},
    values={**_TAKER, "is_market": {"MARKET": True, **_OUTSIDE}},
)
_AGG_TRADES = Form(
    symbol="data.s",
    first_id="data.a",
    last_id="data.a",
    event_time="data.E",
    fields={**_TRADE, "id": "data.a"},
    values=_TAKER,
)
_QUOTES = Form(
    symbol="data.s",
    last_id="data.u",
    event_time="data.E",
    fields={
        "bid_price": "data.b",
        "bid_size": "data.B",
        "ask_price": "data.a",
        "ask_size": "data.A",
        "id": "data.u",
        "ts_origin_ns": "data.E",
    },
)
_KLINES = Form(
    symbol="data.s",
    event_time="data.E",
    fields={
        "start_ns": "data.k.t",
        "open": "data.k.o",
        "high": "data.k.h",
        "low": "data.k.l",
        "close": "data.k.c",
        "volume": "data.k.v",
        "is_closed": "data.k.x",
        "trade_count": "data.k.n",
        "buy_volume": "data.k.V",
        "first_id": "data.k.f",
        "last_id": "data.k.L",
    },
)
_FUNDING = Form(
    symbol="data.s",
    event_time="data.E",
    fields={
        "ts_origin_ns": "data.E",
        "mark_price": "data.p",
        "index_price": "data.i",
        "rate": "data.r",
        "next_funding_time_ns": "data.T",
    },
)
# `btcusdt@depth20@100ms` is the top of the book again and again, and no depth event.
_KEYS = (("stream", r"@([A-Za-z]+)(?:_\w+)?(?:@\w+)?$"),)
_IN_ADDRESS = Subscription(url="/stream?streams=$topics", separator="/")

BINANCE_SPOT = Venue(
    name="binance_spot",
    exchange="BINANCE",
    websocket=("wss://stream.binance.com:9443", "wss://data-stream.binance.vision"),
    rest=("https://api.binance.com", "https://data-api.binance.vision"),
    channels=(
        Channel(Kind.DEPTH, "depth", "$lower@depth@100ms", _DEPTH, _SPOT_DEPTH),
        Channel(Kind.TRADES, "trade", "$lower@trade", _TRADES, _NUMBERED),
        Channel(Kind.AGG_TRADES, "aggTrade", "$lower@aggTrade", _AGG_TRADES, _NUMBERED),
        Channel(Kind.QUOTES, "bookTicker", "$lower@bookTicker", _QUOTES),
        Channel(Kind.KLINES, "kline", "$lower@kline_1m", _KLINES),
    ),
    keys=_KEYS,
    subscription=_IN_ADDRESS,
    limits=Limits(
        streams=1024,
        messages_a_second=5,
        connects=(300, 300),
        life_s=86_400,
        weight=(6_000, 60),
    ),
    keepalive=Keepalive(),
    snapshot=SnapshotRequest(
        "/api/v3/depth?symbol=$symbol&limit=5000", 250, "X-MBX-USED-WEIGHT-1M", _SNAPSHOT
    ),
    clock=ClockRequest("/api/v3/time", "serverTime"),
)


def _futures(name: str, exchange: str, host: str, rest: str, prefix: str, routes: bool) -> Venue:
    public, market = ("/public", "/market") if routes else ("", "")
    return Venue(
        name=name,
        exchange=exchange,
        websocket=(f"wss://{host}",),
        rest=(rest,),
        channels=(
            Channel(Kind.DEPTH, "depth", "$lower@depth@0ms", _DEPTH, _FUTURES_DEPTH, public),
            Channel(Kind.TRADES, "trade", "$lower@trade", _TRADES, _NUMBERED, market),
            Channel(Kind.AGG_TRADES, "aggTrade", "$lower@aggTrade", _AGG_TRADES, _NUMBERED, market),
            Channel(Kind.QUOTES, "bookTicker", "$lower@bookTicker", _QUOTES, route=public),
            Channel(Kind.KLINES, "kline", "$lower@kline_1m", _KLINES, route=market),
            Channel(Kind.FUNDING, "markPrice", "$lower@markPrice@1s", _FUNDING, route=market),
        ),
        keys=_KEYS,
        subscription=_IN_ADDRESS,
        limits=Limits(
            streams=200,
            messages_a_second=10,
            connects=(300, 300),
            life_s=86_400,
            weight=(2_400, 60),
        ),
        snapshot=SnapshotRequest(
            f"{prefix}/v1/depth?symbol=$symbol&limit=1000", 20, "X-MBX-USED-WEIGHT-1M", _SNAPSHOT
        ),
        clock=ClockRequest(f"{prefix}/v1/time", "serverTime"),
    )


BINANCE_USDM = _futures(
    "binance_usdm",
    "BINANCE_FUTURES",
    "fstream.binance.com",
    "https://fapi.binance.com",
    "/fapi",
    routes=True,
)
BINANCE_COINM = _futures(
    "binance_coinm",
    "BINANCE_DELIVERY",
    "dstream.binance.com",
    "https://dapi.binance.com",
    "/dapi",
    routes=False,
)
