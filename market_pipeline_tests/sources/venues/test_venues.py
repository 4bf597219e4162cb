"""Small frames in the form that each venue documents: ids, times, levels and records."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from market_pipeline.sources.venues import VENUES
from market_pipeline.sources.venues.continuity import ContinuityChecker, Step
from market_pipeline.sources.venues.reading import FrameReader
from market_pipeline.sources.venues.records import RECORDS, BookLevels, Funding, Kline, Quote, Trade
from market_pipeline.sources.venues.venue import Classified, Kind, Scope

MS = 1672304484978
NS = MS * 1_000_000
ISO = "2022-12-29T09:01:24.978000Z"


@dataclass(frozen=True)
class Golden:
    """A frame, and what it is."""

    venue: str
    frame: str
    classified: Classified
    content: object = None


def depth(symbol: str, *ids: int | None, **more: object) -> Classified:
    return Classified(Kind.DEPTH, f"depth:{symbol}", symbol, *ids, event_time_ns=NS, **more)


LEVELS = BookLevels([("16493.50", "0.006")], [("16611.00", "0")])
GOLDEN = (
    Golden(
        "bybit_linear",
        '{"topic":"orderbook.200.BTCUSDT","type":"delta","ts":1672304484979,"data":{"s":"BTCUSDT",'
        '"b":[["16493.50","0.006"]],"a":[["16611.00","0"]],"u":18521288,"seq":7961638724},'
        f'"cts":{MS}}}',
        depth("BTCUSDT", 18521288, 18521288),
        LEVELS,
    ),
    Golden(
        "bybit_linear",
        '{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1672304484978,"data":[{"T":'
        f'{MS},"s":"BTCUSDT","S":"Sell","v":"0.001","p":"16578.50","i":"20f43950-d8dd","BT":false}}]}}',
        Classified(Kind.TRADES, "trades:BTCUSDT", "BTCUSDT", event_time_ns=NS),
        [Trade(NS, 16578.5, 0.001, False)],
    ),
    Golden(
        "bybit_linear",
        '{"topic":"orderbook.1.BTCUSDT","type":"delta","ts":1672304484979,"data":{"s":"BTCUSDT",'
        f'"b":[["16493.50","0.007"]],"a":[],"u":18521289,"seq":7961638726}},"cts":{MS}}}',
        Classified(Kind.QUOTES, "quotes:BTCUSDT", "BTCUSDT", None, 18521289, event_time_ns=NS),
        [],
    ),
    Golden(
        "bybit_spot",
        '{"topic":"kline.1.BTCUSDT","type":"snapshot","ts":1672304484978,"data":[{"start":'
        f'{MS},"open":"1","close":"2","high":"4","low":"0.5","volume":"9","confirm":true}}]}}',
        Classified(Kind.KLINES, "klines:BTCUSDT", "BTCUSDT", event_time_ns=NS),
        [Kline(NS, 1, 4, 0.5, 2, 9, True)],
    ),
    Golden(
        "bybit_linear",
        f'{{"topic":"tickers.BTCUSDT","type":"delta","ts":{MS},"data":{{"symbol":"BTCUSDT",'
        '"markPrice":"17217.33","fundingRate":"-0.000212"}}',
        Classified(Kind.FUNDING, "funding:BTCUSDT", "BTCUSDT", event_time_ns=NS),
        [Funding(NS, 17217.33, None, -0.000212)],
    ),
    Golden(
        "bybit_linear",
        f'{{"topic":"orderbook.1.BTCUSDT","type":"snapshot","ts":5,"data":{{"s":"BTCUSDT","b":'
        f'[["1","2"]],"a":[["3","4"]],"u":7}},"cts":{MS}}}',
        Classified(Kind.QUOTES, "quotes:BTCUSDT", "BTCUSDT", None, 7, event_time_ns=NS),
        [Quote(1, 2, 3, 4, None, NS)],
    ),
    Golden("bybit_linear", '{"success":true,"op":"subscribe"}', Classified(Kind.CONTROL)),
    Golden(
        "kraken",
        '{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":16493.50,'
        '"qty":0.006}],"asks":[{"price":16611.00,"qty":0}],"checksum":2439117997,"timestamp":'
        f'"{ISO}"}}]}}',
        depth("BTC/USD", checksum=2439117997),
        LEVELS,
    ),
    Golden(
        "kraken",
        '{"channel":"trade","type":"update","data":[{"symbol":"MATIC/USD","side":"sell","price":'
        f'0.5117,"qty":40.0,"ord_type":"market","trade_id":4665906,"timestamp":"{ISO}"}}]}}',
        Classified(Kind.TRADES, "trades:MATIC/USD", "MATIC/USD", 4665906, 4665906, None, NS),
        [Trade(NS, 0.5117, 40.0, False, 4665906)],
    ),
    Golden(
        "coinbase",
        f'{{"channel":"l2_data","client_id":"","timestamp":"{ISO}","sequence_num":3,"events":['
        '{"type":"update","product_id":"BTC-USD","updates":[{"side":"offer","event_time":"",'
        '"price_level":"16611.00","new_quantity":"0"},{"side":"bid","event_time":"",'
        '"price_level":"16493.50","new_quantity":"0.006"}]}]}',
        depth("BTC-USD", 3, 3),
        LEVELS,
    ),
    Golden(
        "coinbase",
        f'{{"channel":"market_trades","timestamp":"{ISO}","sequence_num":4,"events":[{{"type":'
        '"update","trades":[{"trade_id":"12","product_id":"ETH-USD","price":"1260.01","size":'
        f'"0.3","side":"BUY","time":"{ISO}"}}]}}]}}',
        Classified(Kind.TRADES, "trades:ETH-USD", "ETH-USD", 4, 4, None, NS),
        [Trade(NS, 1260.01, 0.3, False, 12)],
    ),
    Golden(
        "coinbase",
        f'{{"channel":"heartbeats","timestamp":"{ISO}","sequence_num":5,"events":[]}}',
        Classified(Kind.CONTROL, "", "", 5, 5, None, NS),
    ),
    Golden(
        "okx",
        '{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":['
        '["16611.00","0","0","0"]],"bids":[["16493.50","0.006","0","13"]],"ts":'
        f'"{MS}","checksum":0,"prevSeqId":123450,"seqId":123456}}]}}',
        depth("BTC-USDT", None, 123456, 123450),
        LEVELS,
    ),
    Golden(
        "okx",
        '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":'
        f'"130","px":"42219.9","sz":"0.12","side":"buy","ts":"{MS}","count":"3"}}]}}',
        Classified(Kind.TRADES, "trades:BTC-USDT", "BTC-USDT", 130, 130, None, NS),
        [Trade(NS, 42219.9, 0.12, True, 130)],
    ),
    Golden(
        "okx",
        '{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"a"}',
        Classified(Kind.CONTROL),
    ),
    Golden("okx", "pong", Classified(Kind.CONTROL)),
    Golden(
        "deribit",
        '{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.BTC-PERPETUAL.100ms",'
        f'"data":{{"type":"change","timestamp":{MS},"prev_change_id":11,"instrument_name":'
        '"BTC-PERPETUAL","change_id":15,"bids":[["new",16493.50,0.006]],"asks":[["delete",16611.00'
        ",0]]}}}",
        depth("BTC-PERPETUAL", None, 15, 11),
        LEVELS,
    ),
    Golden(
        "hyperliquid",
        f'{{"channel":"l2Book","data":{{"coin":"BTC","time":{MS},"levels":[[{{"px":"16493.50",'
        '"sz":"0.006","n":1}],[{"px":"16611.00","sz":"0","n":1}]]}}',
        depth("BTC", is_snapshot=True),
        LEVELS,
    ),
    Golden(
        "hyperliquid",
        f'{{"channel":"bbo","data":{{"coin":"BTC","time":{MS},"bbo":[null,{{"px":"16611.0",'
        '"sz":"0.1","n":1}]}}',
        Classified(Kind.QUOTES, "quotes:BTC", "BTC", event_time_ns=NS),
        [],
    ),
    Golden(
        "hyperliquid",
        '{"channel":"trades","data":[{"coin":"BTC","side":"B","px":"72581.0","sz":"0.00017",'
        f'"time":{MS},"hash":"0x","tid":877707108085800}}]}}',
        Classified(Kind.TRADES, "trades:BTC", "BTC", event_time_ns=NS),
        [Trade(NS, 72581.0, 0.00017, True, 877707108085800)],
    ),
)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda each: f"{each.venue}-{each.frame[:40]}")
def test_golden_frames(golden):
    """A frame is classified and decoded as its venue documents it."""
    reader, frame = FrameReader(VENUES[golden.venue]), golden.frame.encode()
    assert golden.classified == reader.classify(frame)
    kind = golden.classified.kind
    found = None
    if kind is Kind.DEPTH:
        found = reader.levels(frame)
    elif kind in RECORDS:
        found = reader.records(frame, kind)
    assert golden.content == found


class TestDeclarations:
    @pytest.mark.parametrize("venue", VENUES.values(), ids=lambda venue: venue.name)
    def test_fields_are_those_of_the_record(self, venue):
        """Every declared field is one of its record, and no required one is missing."""
        for channel in venue.channels:
            if channel.kind is Kind.DEPTH:
                assert channel.form.book is not None
                continue
            names = set(channel.form.fields)
            record = RECORDS[channel.kind]
            required = set(record.__struct_fields__) - set(
                record.__struct_fields__[
                    len(record.__struct_fields__) - len(record.__struct_defaults__) :
                ]
            )
            assert (names - set(record.__struct_fields__), required - names) == (set(), set())

    @pytest.mark.parametrize("venue", VENUES.values(), ids=lambda venue: venue.name)
    def test_subscriptions_are_json(self, venue):
        """What is sent is JSON, and every topic of every symbol is sent once."""
        kinds, symbols = [channel.kind for channel in venue.channels], ["AB-C", "DE-F"]
        messages = venue.subscribe(kinds, symbols)
        for message in messages:
            json.loads(message)
        sent = "".join(messages)
        topics = venue.topics(kinds, symbols)
        assert [1] * len(topics) == [sent.count(topic) for topic in topics] or not messages
        assert bool(messages) == bool(venue.subscription.message)


DEPTH = b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","s":"BTCUSDT",%b,"b":[]}}'
HOSTILE = {
    "empty": b"",
    "zero": b"\0",
    "number": b"1" * 5_000,
    "no UTF-8": b'{"e":"\xff\xfe"}',
    "half of a pair": b'{"s":"\\ud800"}',
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000,
    "ids beyond 64 bits": DEPTH % b'"U":1e400,"u":99999999999999999999999999',
    "ids of other digits": DEPTH % '"U":"²³","u":"²"'.encode(),
    "other types": b'{"stream":5,"data":[{"e":{}}],"channel":[],"topic":{},"arg":7,"params":[1]}',
}


@pytest.mark.parametrize("frame", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("venue", VENUES.values(), ids=VENUES)
def test_whatever_comes_is_classified(venue, frame):
    """A venue that sends what no venue sends raises nothing, and has no id that is none."""
    assert FrameReader(venue).classify(frame).last_id is None


class TestCoinbase:
    def test_every_frame_of_a_connection_counts(self):
        """A heartbeat that is missing is a gap of the book, whose connection it shared."""
        venue = VENUES["coinbase"]
        reader, checker = FrameReader(venue), ContinuityChecker(venue)
        assert Scope.CONNECTION is venue.channel(Kind.DEPTH).continuity.scope
        steps = []
        for number in (0, 1, 2, 4, 5):
            channel = "l2_data" if number in (1, 5) else "heartbeats"
            frame = json.dumps({"channel": channel, "sequence_num": number, "events": []})
            steps.append(checker.check("one", reader.classify(frame.encode())).step)
        assert [Step.BEGINS, Step.FOLLOWS, Step.FOLLOWS, Step.GAP, Step.FOLLOWS] == steps

    def test_connections_count_for_themselves(self):
        """A second connection, or the same one made again, begins anew."""
        checker = ContinuityChecker(VENUES["coinbase"])
        frame = Classified(Kind.CONTROL, first_id=7, last_id=7)
        checker.check("one", frame)
        assert Step.BEGINS is checker.check("two", frame).step
        checker.end("one")
        assert Step.BEGINS is checker.check("one", frame).step
