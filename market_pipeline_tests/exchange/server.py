"""A fake exchange on one TLS port of loopback: REST and streams in Binance's form, with faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response

from market_pipeline_tests.exchange.market import Market, ReplayedMarket
from market_pipeline_tests.store.certificates import Certificates

SHUTDOWN = json.dumps({"e": "serverShutdown", "E": 0}, separators=(",", ":")).encode()


@dataclass
class Faults:
    """What goes wrong. Connections and their messages are counted from 1.

    Attributes:
        loss, duplicate, reorder: Shares of messages, of every connection by itself.
        at: `(connection, message)` to what happens instead of, or beside, sending it: gap, stall,
            slow, close, reset, bad_json, truncated_json, oversized, foreign, fragmented, shutdown.
        silent: Topics that are acknowledged and never sent.
        life_s: After which each connection is closed.
        rest: Status and `Retry-After` of the next REST answers, and `body` what these are.
        stale: How many messages old a snapshot is.
        refuse: Whether new connections are refused.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    at: dict[tuple[int, int], str] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    life_s: float | None = None
    rest: list[tuple[int, str]] = field(default_factory=list)
    body: bytes = b"{}"
    stale: int = 0
    refuse: bool = False


@dataclass(eq=False)
class Client:
    """A connection as the exchange sees it: all that was sent, and what was kept back."""

    number: int
    topics: frozenset[str]
    socket: ServerConnection
    chance: random.Random
    queue: asyncio.Queue[tuple[str, bytes]] = field(default_factory=asyncio.Queue)
    sent: list[bytes] = field(default_factory=list)
    offered: list[bytes] = field(default_factory=list)
    is_whole: bool = True
    """Whether all that was sent has reached the other side: not after a reset."""


class FakeExchange:
    """The exchange; `step` moves every market, `running` lives at a rate."""

    def __init__(
        self, markets: Sequence[Market | ReplayedMarket], faults: Faults | None = None
    ) -> None:
        self.markets = {market.symbol: market for market in markets}
        self.faults = faults or Faults()
        self.clients: list[Client] = []
        self.live: set[Client] = set()
        self.requests: Counter[str] = Counter()
        self.refused_ns: list[int] = []
        self.port = 0
        self._server: Server | None = None

    @contextlib.asynccontextmanager
    async def serving(
        self, certificates: Certificates, *, newest_tls: ssl.TLSVersion | None = None
    ) -> AsyncIterator[FakeExchange]:
        """Listens on a free port until the end of the `async with` block."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.server, certificates.key)
        if newest_tls is not None:
            context.maximum_version = newest_tls
        async with serve(
            self._serve, "127.0.0.1", self.port, ssl=context, process_request=self._rest,
            ping_interval=None, close_timeout=1, max_queue=64,
        ) as self._server:  # fmt: skip
            self.port = self._server.sockets[0].getsockname()[1]
            yield self

    @property
    def websocket(self) -> str:
        return f"wss://127.0.0.1:{self.port}"

    @property
    def rest(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def step(self) -> None:
        """Moves every market once and hands its frames to the connections."""
        for market in self.markets.values():
            for topic, payload in market.step():
                for client in self.live:
                    if topic in client.topics:
                        client.offered.append(payload)
                        client.queue.put_nowait((topic, payload))

    async def run(self, steps: int, *, every_s: float = 0.002) -> None:
        """Steps so often, and waits until all has been sent."""
        begun = time.monotonic()
        for number in range(steps):
            self.step()
            await asyncio.sleep(max(begun + (number + 1) * every_s - time.monotonic(), 0))
        for _ in range(200):
            if all(client.queue.empty() for client in self.live):
                break
            await asyncio.sleep(0.01)

    async def until_connected(self, number: int) -> None:
        """Waits for so many live connections."""
        async with asyncio.timeout(20):
            while len(self.live) < number:
                await asyncio.sleep(0.01)

    async def _serve(self, socket: ServerConnection) -> None:
        topics = frozenset(parse_qs(urlsplit(socket.request.path).query)["streams"][0].split("/"))
        number = len(self.clients) + 1
        client = Client(number, topics, socket, random.Random(number))
        self.clients.append(client)
        self.live.add(client)
        ender = asyncio.create_task(self._end(client))
        try:
            await self._send_all(client)
        except ConnectionClosed:
            pass
        finally:
            self.live.discard(client)
            ender.cancel()

    async def _end(self, client: Client) -> None:
        watch = [asyncio.create_task(client.socket.wait_closed())]
        await asyncio.wait(watch, timeout=self.faults.life_s)
        self.live.discard(client)
        if not watch[0].done():
            await client.socket.close(1001, "24 hours")
        client.queue.put_nowait(("", b""))

    async def _send_all(self, client: Client) -> None:
        faults, chance, kept = self.faults, client.chance, []
        position = 0
        while True:
            topic, payload = await client.queue.get()
            if not payload:
                return
            position += 1
            fault = faults.at.get((client.number, position), "")
            lost = chance.random() < faults.loss
            if topic in faults.silent or fault == "gap" or lost:
                continue
            if chance.random() < faults.reorder and not kept:
                kept.append(payload)
                continue
            if fault and not await self._faulty(client, fault, payload):
                return
            if not fault:
                await self._send(client, payload)
            while kept:
                await self._send(client, kept.pop())
            if chance.random() < faults.duplicate:
                await self._send(client, payload)

    async def _send(self, client: Client, payload: bytes) -> None:
        await client.socket.send(payload, text=True)
        client.sent.append(payload)

    async def _faulty(self, client: Client, fault: str, payload: bytes) -> bool:
        """Sends a message with a fault; whether the connection goes on."""
        socket = client.socket
        if fault == "stall":
            self.live.discard(client)
            await socket.wait_closed()
        elif fault == "slow":  # the head of a frame, and then nothing more of it
            socket.transport.write(Frame(Opcode.TEXT, payload).serialize(mask=False)[:3])
            client.is_whole = False
            self.live.discard(client)
            await socket.wait_closed()
        elif fault == "close":
            self.live.discard(client)
            await socket.close(1011, "error")
        elif fault == "reset":
            self.live.discard(client)
            client.is_whole = False
            socket.transport.abort()
        elif fault == "bad_json":
            await self._send(client, b"\xff{not json" + payload[:7])
            await self._send(client, payload)
            return True
        elif fault == "truncated_json":
            await self._send(client, payload[: len(payload) // 2])
            return True
        elif fault == "oversized":
            await self._send(client, b'{"stream":"x","data":"' + b"y" * (3 << 20) + b'"}')
            await self._send(client, payload)
            return True
        elif fault == "foreign":
            await self._send(client, payload.replace(b"BTCUSDT", b"X" * 70_000))
            await self._send(client, payload)
            return True
        elif fault == "fragmented":
            third = len(payload) // 3
            parts = [payload[:third], payload[third : 2 * third], payload[2 * third :]]
            await socket.send(iter([part.decode() for part in parts]))
            client.sent.append(payload)
            return True
        elif fault == "shutdown":
            await self._send(client, SHUTDOWN)
            await self._send(client, payload)
            return True
        return False

    def _rest(self, socket: ServerConnection, request: Request) -> Response | None:
        parts = urlsplit(request.path)
        if parts.path == "/stream":
            return self._answer(503, b"refused") if self.faults.refuse else None
        self.requests[parts.path] += 1
        if self.faults.rest:
            status, after = self.faults.rest.pop(0)
            self.refused_ns.append(time.time_ns())
            return self._answer(status, self.faults.body, {"Retry-After": after})
        if parts.path.endswith("/time"):
            body = json.dumps({"serverTime": time.time_ns() // 1_000_000}).encode()
            return self._answer(200, body)
        if parts.path.endswith("/depth"):
            market = self.markets[parse_qs(parts.query)["symbol"][0]]
            stale = min(self.faults.stale, len(market.past))
            body = market.past[-stale] if stale else market.book.snapshot()
            return self._answer(200, body, {"X-MBX-USED-WEIGHT-1M": "1"})
        return self._answer(404, b"{}")

    def _answer(self, status: int, body: bytes, extra: dict[str, str] | None = None) -> Response:
        headers = Headers(
            {"Content-Length": str(len(body)), "Connection": "close", **(extra or {})}
        )
        return Response(status, HTTPStatus(status).phrase, headers, body)
