"""Live books, bars and sinks beside the record: right after each loss, and never in its way."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest

from market_pipeline.capture.book import LiveBook
from market_pipeline.capture.connection import Arrival, tls_context
from market_pipeline.capture.derived import Derived
from market_pipeline.capture.limits import WindowBudget
from market_pipeline.capture.link import Link
from market_pipeline.capture.recorder import Recorder
from market_pipeline.capture.scales import listed_scales
from market_pipeline.capture.sinks import JsonLines
from market_pipeline.capture.status import Status
from market_pipeline.capture.stream_state import StreamClock
from market_pipeline.capture.streams import Streams
from market_pipeline.config.capture import CaptureSettings
from market_pipeline.config.instruments import load_instruments
from market_pipeline.sources.venues import VENUES
from market_pipeline.sources.venues.merge import Message
from market_pipeline.sources.venues.reading import FrameReader
from market_pipeline.sources.venues.venue import Kind
from market_pipeline_tests.capture.scenario import Kept, lived, truth_of, until_right
from market_pipeline_tests.capture.test_book import KRAKEN_BOOK, kraken_frame, plain_checksum
from market_pipeline_tests.exchange.market import Market

DEPTH, TRADES = "depth:BTCUSDT", "trades:BTCUSDT"


class Blocking:
    """A sink whose writes end once it is released."""

    def __init__(self):
        self.released = threading.Event()

    def write(self, kind, rows):
        self.released.wait(30)

    def close(self):
        pass


class TestBook:
    def test_is_right_after_each_resync(self, certificates):
        """Whenever messages were lost the book finds it, says why, and is the exchange's again."""
        differing = []

        async def script(exchange, recorder):
            follower = recorder._streams._derived
            await exchange.until_connected(1)
            for _ in range(3):
                await exchange.run(20, every_s=0.002)
                assert await until_right(follower, exchange)
                differing.append(truth_of(exchange) != follower.levels())
                for market in exchange.markets.values():
                    market.step()  # nobody is sent it

        outcome = lived(certificates, script=script, redundancy=1)
        assert [False] * 3 == differing
        stream = outcome.recorder.status.streams[DEPTH]
        assert (2, 2, 2) == (outcome.follower.book.gaps, stream.gaps, stream.resyncs)
        lost = [text for _, text in outcome.reports if "is resync: expected to follow" in text]
        live = [text for _, text in outcome.reports if "is live: a snapshot" in text]
        assert (2, 3) == (len(lost), len(live))

    def test_each_symbol_has_its_own_snapshots(self, certificates):
        """Books of two symbols are both the exchange's, one in steps that were inferred."""
        markets = [Market("BTCUSDT"), Market("ETHUSDT", seed=2)]

        async def script(exchange, recorder):
            books = recorder._streams._derived.books
            await exchange.until_connected(2)
            await exchange.run(40, every_s=0.002)
            async with asyncio.timeout(10):
                while any(
                    (book := books[market.symbol].book) is None
                    or (not book.is_live or book.last_id != market.book.last_id)
                    for market in markets
                ):
                    await asyncio.sleep(0.01)

        outcome = lived(certificates, markets=markets, symbols="BTCUSDT,ETHUSDT", script=script)
        for market in markets:
            bids, asks = outcome.follower.books[market.symbol].book.sides()
            best = [int(float(min(market.book.asks, key=float)) * 100 + 0.5), len(market.book.bids)]
            assert best == [asks[0][0], bids[0].size]
        text = "depth:ETHUSDT: tick 0.01 and lot 0.001, inferred from the first whole book"
        assert ("info", text) in outcome.reports

    def test_time_of_each_stream(self, certificates):
        """Verified, gap and downtime of a stream add up to the time it was observed."""

        async def script(exchange, recorder):
            await exchange.until_connected(1)
            await exchange.run(50, every_s=0.002)
            exchange.faults.refuse = True
            for client in list(exchange.live):
                await client.socket.close()
            await asyncio.sleep(0.3)
            exchange.faults.refuse = False
            await exchange.until_connected(1)
            await exchange.run(50, every_s=0.002)
            assert await until_right(recorder._streams._derived, exchange)

        outcome = lived(certificates, script=script, redundancy=1)
        status = outcome.recorder.status
        for name in (DEPTH, TRADES):
            stream = status.streams[name]
            whole = stream.verified_s + stream.gap_s + stream.downtime_s
            assert stream.downtime_s > 0
            assert 0 < stream.verified_s < whole
            assert 0 == stream.unverifiable_s
        assert 0 < status.verified_share < 1


class TestIsolation:
    def test_a_sink_that_blocks_loses_no_frame(self, certificates, tmp_path):
        """Books and bars wait for it and leave frames out; the record has all of them, and the
        book is right again once the sink goes on.
        """
        sink, seen = Blocking(), []

        async def script(exchange, recorder):
            follower = recorder._streams._derived
            await exchange.until_connected(1)
            sink.released.set()
            await exchange.run(20, every_s=0.002)
            assert await until_right(follower, exchange)
            sink.released.clear()
            # The first frames that are left out may be of trades alone.
            while seen[-1:] != ["resync"]:
                await exchange.run(20, every_s=0.001)
                recorder.refresh(1.0, 0)
                seen.append(recorder.status.streams[DEPTH].book)
            sink.released.set()
            await asyncio.sleep(0.1)
            await exchange.run(50, every_s=0.002)
            assert await until_right(follower, exchange)

        outcome = lived(
            certificates,
            script=script,
            redundancy=1,
            sinks={"blocking": sink, "lines": JsonLines(tmp_path)},
            sink_policy="block",
            sink_batches=1,
            batch_rows=5,
            queue_batches=2,
        )
        assert outcome.sent() == outcome.frames()
        assert [] == outcome.gaps(DEPTH)
        assert outcome.truth() == outcome.follower.levels()
        assert any("queue before the book was full" in text for _, text in outcome.reports)
        status = outcome.recorder.status
        assert status.derived_dropped > 0
        assert 0 < status.streams[DEPTH].verified_s
        assert 0 < status.streams[DEPTH].gap_s

    def test_a_sink_that_is_behind_puts_snapshots_off(self, certificates):
        """From 80 % of its queue on REST snapshots wait, at 50 % they come again; frames never."""
        sink = Blocking()

        async def script(exchange, recorder):
            follower = recorder._streams._derived
            await exchange.until_connected(1)
            async with asyncio.timeout(120):
                while not follower.is_pressed:
                    await exchange.run(10, every_s=0.002)
                while not recorder.status.snapshots_held_s:
                    await exchange.run(10, every_s=0.002)
                sink.released.set()
                while follower.is_pressed:
                    await exchange.run(1, every_s=0.01)
                taken = recorder.status.snapshots
                while recorder.status.snapshots == taken:
                    await exchange.run(1, every_s=0.01)

        outcome = lived(
            certificates,
            script=script,
            redundancy=1,
            sinks={"blocking": sink},
            sink_batches=5,
            batch_rows=5,
            snapshot_seconds=0.3,
        )
        status = outcome.recorder.status
        assert outcome.sent() == outcome.frames()
        assert [] == outcome.gaps(DEPTH)
        assert 0 < status.snapshots_held_s
        assert status.sinks["blocking"].paced_s >= 0

    def test_a_sink_that_never_ends_is_left(self, certificates):
        """The capture ends in the time given, its files are closed, and the error names batches."""
        sink = Blocking()
        try:
            outcome = lived(certificates, steps=50, sinks={"blocking": sink}, sink_end_seconds=0.2)
        finally:
            sink.released.set()
        assert outcome.sent() == outcome.frames()
        assert (True, outcome.truth()) == (outcome.was_right, outcome.follower.levels())
        assert ("error", True) in [(level, "blocking" in text) for level, text in outcome.reports]

    def test_a_book_that_fails_is_switched_off(self, certificates, monkeypatch):
        """A fault of ours stops the book alone: its time is a gap, all frames are recorded."""

        def fail(*_):
            raise ZeroDivisionError("a fault of ours")

        monkeypatch.setattr(LiveBook, "take", fail)

        async def script(exchange, recorder):
            await exchange.until_connected(2)
            await exchange.run(100, every_s=0.002)

        outcome = lived(certificates, script=script)
        assert outcome.sent() == outcome.frames()
        status = outcome.recorder.status
        stream = status.streams[DEPTH]
        assert {"best_quotes:BTCUSDT": "a fault of ours"} == status.switched_off
        assert ("off", 0, True) == (stream.book, stream.verified_s, stream.gap_s > 0)
        assert status.streams[TRADES].verified_s > 0


class TestCountedConnections:
    """Coinbase counts the frames of a connection, whatever they are about."""

    def frames(self, *channels):
        """A frame of each channel, numbered as the venue does."""
        made = []
        for number, channel in enumerate(channels):
            event = {"type": "snapshot" if number == 0 else "update", "product_id": "BTC-USD"}
            event["updates"] = [{"side": "bid", "price_level": "9.5", "new_quantity": "1"}]
            made.append({"channel": channel, "sequence_num": number, "events": [event]})
        return [json.dumps(each).encode() for each in made]

    def test_a_gap_is_in_the_counter_of_the_connection(self):
        """Heartbeats between are no gap; a frame that is missing, of whatever, is one."""
        venue, gaps = VENUES["coinbase"], []
        settings = CaptureSettings(venue="coinbase", symbols="BTC-USD", streams="depth")
        status, reader = Status(0), FrameReader(venue)
        streams = Streams(venue, settings, status, None, lambda name, gap: gaps.append(gap))
        made = self.frames("l2_data", "heartbeats", "l2_data", "heartbeats", "l2_data", "l2_data")
        del made[3]
        for connection, payloads in ((1, made), (2, made[:2])):
            for at_ns, payload in enumerate(payloads):
                head = reader.classify(payload)
                checked = streams.check(connection, head, at_ns)
                if head.kind is Kind.DEPTH:
                    streams.take(Message(head, payload, at_ns, connection), at_ns / 1e9, checked)
        assert [(2, 3)] == [(gap.after_id, gap.before_id) for gap in gaps]
        assert 5 == status.streams["depth:BTC-USD"].messages

    def test_a_whole_book_is_asked_for_by_a_new_connection(self):
        """Where a stream begins with a whole book its connection is renewed, once at a time."""
        settings = CaptureSettings(venue="coinbase", symbols="BTC-USD", streams="depth")
        recorder = Recorder(settings, Kept(), report=lambda level, text: None)

        async def renewed():
            link = Link(
                VENUES["coinbase"], [Kind.DEPTH], ["BTC-USD"],
                settings=settings, context=tls_context(settings),
                connects=WindowBudget(None, 60.0), observer=recorder,
            )  # fmt: skip
            found = [link._wanted.is_set()]
            recorder.request_snapshot("BTC-USD")
            recorder.connected(link, 1, "wss://example", None)
            for payload in self.frames("l2_data"):
                recorder.arrived(link, 1, Arrival(time.time_ns(), time.monotonic_ns(), payload, 1))
            recorder.request_snapshot("BTC-USD")
            found.append(link._wanted.is_set())
            link._wanted.clear()
            recorder.request_snapshot("BTC-USD")
            return [*found, link._wanted.is_set()]

        assert [False, True, False] == asyncio.run(renewed())


def test_a_newer_connection_brings_the_whole_book():
    """A checksum that differs has one asked for, and the book is that of the connection with it."""
    settings = CaptureSettings(venue="kraken", symbols="X", streams="depth", sink_end_seconds=120.0)
    venue, asked, reports = VENUES["kraken"], [], []
    derived, reader = Derived(settings, venue, {}, {}), FrameReader(venue)
    streams = Streams(venue, settings, Status(0), derived, lambda name, gap: None)
    derived.start(asked.append, lambda level, text: reports.append(text))
    bids, asks = (dict(KRAKEN_BOOK[side]) for side in ("bids", "asks"))
    whole = kraken_frame("snapshot", plain_checksum(bids, asks), **KRAKEN_BOOK)
    wrong = kraken_frame("update", 5, asks=[(101.0, 9)])
    right = kraken_frame("update", plain_checksum(bids | {100.0: 3.0}, asks), bids=[(100.0, 3.0)])
    came = [(whole, 1), (wrong, 1), (whole, 2), (wrong, 1), (right, 2)]
    for at_ns, (payload, connection) in enumerate(came):
        message = Message(reader.classify(payload), payload, at_ns, connection)
        streams.take(message, at_ns / 1e9, None)
    derived.stop()
    book = derived.books["X"].book
    assert (True, 1, ["X"]) == (book.is_live, book.gaps, asked)
    assert any("checksum 5 expected" in text for text in reports)
    assert 300 == book.sides()[0][1][0]  # of 0.01, as the sizes of the whole book are


def test_time_of_a_stream_without_a_book():
    """Each ns is of one state; what passed before a loss was found becomes part of the gap."""
    clock = StreamClock(has_proof=True)
    clock.observe(0)
    clock.heard(10)
    clock.heard(30)
    clock.observe(40)
    clock.lost(45)
    clock.heard(45)
    clock.down(50)
    clock.up(70)
    clock.observe(71)
    seconds = clock.seconds
    found = seconds.verified_ns, seconds.gap_ns, seconds.downtime_ns, seconds.unverifiable_ns
    assert (20 + 5, 10 + 15 + 1, 20, 0) == found


@pytest.mark.parametrize(
    ("venue", "exchange", "listed", "symbol"),
    [
        ("binance_usdm", "BINANCE_FUTURES", "BTC-USDT-PERP", "BTCUSDT"),
        ("kraken", "KRAKEN", "BTC-USD", "BTC/USD"),
    ],
)
def test_steps_of_the_instruments_file(tmp_path, venue, exchange, listed, symbol):
    """Tick and lot are found by the venue's own spelling; an instrument that infers states none."""
    file = tmp_path / "instruments.yaml"
    entries = [
        f"{{venue: {exchange}, symbol: {listed}, tick: '0.10', lot: '0.001'}}",
        f"{{venue: {exchange}, symbol: ETH-USDT-PERP}}",
    ]
    file.write_text(
        "defaults: {source: simulated}\ninstruments:\n" + "".join(f"  - {e}\n" for e in entries)
    )
    found = listed_scales(load_instruments(file), VENUES[venue], [symbol, "ETHUSDT"])
    assert {symbol: ("0.1", "0.001")} == {
        name: tuple(str(scale.step) for scale in scales) for name, scales in found.items()
    }
