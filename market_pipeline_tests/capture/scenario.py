"""A recorder against the fake exchange, for so many steps of its markets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from market_pipeline.books.scale import Scale
from market_pipeline.capture.book import LiveBook
from market_pipeline.capture.derived import Derived
from market_pipeline.capture.pipeline import Event
from market_pipeline.capture.recorder import Recorder
from market_pipeline.capture.sinks import Sink
from market_pipeline.config.capture import CaptureSettings
from market_pipeline.sources.recording.format import Entry, Gap, RecordKind
from market_pipeline.sources.venues.binance import BINANCE_SPOT
from market_pipeline_tests.exchange.market import Market
from market_pipeline_tests.exchange.server import FakeExchange, Faults

FAST = {
    "venue": "binance_spot",
    "symbols": "BTCUSDT",
    "redundancy": 2,
    "connect_timeout_seconds": 1.0,
    "retry_first_seconds": 0.02,
    "retry_longest_seconds": 0.1,
    "breaker_seconds": 0.5,
    "fill_ms": 100.0,
}
"""Settings by which a day is lived in seconds."""


@dataclass
class Kept:
    """A sink that keeps entries in memory."""

    entries: list[Entry] = field(default_factory=list)
    is_closed: bool = False

    def append(self, entries: Sequence[Entry]) -> None:
        self.entries += entries

    def turn(self) -> None:
        pass

    def settle(self, entries: Sequence[Entry]) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


class Follower(Derived):
    """The derived part of a capture of one symbol, which keeps what it was given."""

    def __init__(self, settings: CaptureSettings, sinks: dict[str, Sink]) -> None:
        scales = {"BTCUSDT": (Scale(1, 2), Scale(1, 3))}
        super().__init__(settings, BINANCE_SPOT, scales, sinks)
        self.delivered: list[Event] = []

    @property
    def book(self) -> LiveBook:
        return self.books["BTCUSDT"].book

    def put(self, event: Event) -> None:
        self.delivered.append(event)
        super().put(event)

    def levels(self) -> tuple[dict[int, int], dict[int, int]]:
        """Bids and asks by ticks, in lots."""
        bids, asks = (
            dict(zip(ticks.tolist(), lots.tolist(), strict=True))
            for ticks, lots in self.book.sides()
        )
        return bids, asks


def truth_of(exchange: FakeExchange) -> tuple[dict[int, int], dict[int, int]]:
    """The book of the exchange's only market, as `Follower.levels` has it."""
    (market,) = exchange.markets.values()
    bids, asks = (
        {round(float(p) * 100): round(float(s) * 1000) for p, s in side.items()}
        for side in (market.book.bids, market.book.asks)
    )
    return bids, asks


@dataclass
class Outcome:
    """What came of a scenario."""

    exchange: FakeExchange
    recorder: Recorder
    entries: list[Entry]
    delivered: list[Event]
    reports: list[tuple[str, str]]
    follower: Follower
    was_right: bool
    """Whether the live book was right at the last id of the exchange's."""

    def truth(self) -> tuple[dict[int, int], dict[int, int]]:
        """The exchange's own book, as `Follower.levels` has it."""
        return truth_of(self.exchange)

    def of(self, kind: RecordKind) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind]

    def frames(self) -> Counter[bytes]:
        return Counter(entry.payload for entry in self.of(RecordKind.FRAME))

    def gaps(self, stream: str) -> list[tuple[int, int]]:
        gaps = [e for e in self.of(RecordKind.GAP) if e.stream == stream]
        decoded = [msgspec.json.decode(entry.payload, type=Gap) for entry in gaps]
        return [(gap.after_id, gap.before_id) for gap in decoded]

    def sent(self) -> Counter[bytes]:
        """What was sent over connections that did not end in the middle of a write."""
        whole = [client for client in self.exchange.clients if client.is_whole]
        return Counter(payload for client in whole for payload in client.sent)

    def delivered_ids(self, stream: str) -> list[tuple[int, int]]:
        heads = [event.found for event in self.delivered if event.found.stream == stream]
        return [(head.first_id, head.last_id) for head in heads]


async def until_right(follower: Follower, exchange: FakeExchange) -> bool:
    """Waits for the book to be live at the exchange's last id, at most a minute; whether it was.

    The exchange goes on after ten seconds: where it stands still, a stream that a busy machine has
    found silent is down for good.
    """
    (market,) = exchange.markets.values()
    for look in range(6_000):
        if follower.book.is_live and follower.book.last_id == market.book.last_id:
            return True
        if look >= 1_000 and look % 10 == 0:
            await exchange.run(1)
        await asyncio.sleep(0.01)
    return False


def lived(certificates, **scenario) -> Outcome:
    """A scenario in an event loop of its own; see `scene`."""
    return asyncio.run(scene(certificates, **scenario))


async def scene(
    certificates,
    *,
    faults=None,
    steps=200,
    markets=None,
    every_s=0.002,
    script=None,
    server=None,
    newest_tls=None,
    more_urls=(),
    sinks=None,
    **settings,
) -> Outcome:
    """Runs a recorder on an exchange with these faults until all its messages were sent.

    Args:
        script: Awaited with exchange and recorder in place of so many `steps`.
        server: The certificates of the exchange, if they are others than those trusted.
        more_urls: Backup addresses.
        sinks: By name; none by default.
    """
    exchange = FakeExchange(markets or [Market("BTCUSDT")], faults or Faults())
    sink, reports = Kept(), []
    async with exchange.serving(server or certificates, newest_tls=newest_tls):
        addresses = {
            "websocket_urls": (exchange.websocket, *more_urls),
            "rest_url": exchange.rest,
            "ca_bundle": certificates.authority,
        }
        chosen = CaptureSettings(**FAST | addresses | settings)
        follower = Follower(chosen, sinks or {})
        recorder = Recorder(
            chosen, sink, report=lambda *line: reports.append(line), derived=follower
        )
        stop, was_right = asyncio.Event(), False
        task = asyncio.create_task(recorder.run(stop))
        try:
            if script is None:
                await exchange.until_connected(chosen.redundancy)
                await exchange.run(steps, every_s=every_s)
                was_right = await until_right(follower, exchange)
                await asyncio.sleep(0.3)
            else:
                await script(exchange, recorder)
        finally:
            stop.set()
            await task
    recorder.refresh(1.0, 0)
    assert sink.is_closed
    return Outcome(
        exchange, recorder, sink.entries, follower.delivered, reports, follower, was_right
    )
