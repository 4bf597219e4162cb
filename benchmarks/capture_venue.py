"""A venue on loopback that sends frames of many streams as fast as it is told to.

`python -m benchmarks.capture_venue FOLDER` serves with the certificates of the tests there, prints
its port, and takes what to send from its standard input: a line with frames a second and seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from market_pipeline_tests.store.certificates import make_certificates

__all__ = ["SYMBOLS"]

SYMBOLS = tuple(f"S{number:02}USDT" for number in range(32))
"""With depth and trades of each, 64 streams."""

_STEP_S = 0.01
_LEVELS = ",".join(f'["100.{cents:02}","1.{cents:03}"]' for cents in range(4))


def frames() -> Iterator[bytes]:
    """Frames as they lie on the wire: depth and trades of each symbol in turn, ids without holes.

    Depth has four levels a side, so that a frame has about 200 bytes.
    """
    number = 0
    while True:
        number += 1
        at_ms = time.time_ns() // 1_000_000
        for symbol in SYMBOLS:
            head = f'"E":{at_ms},"s":"{symbol}"'
            depth = f'"e":"depthUpdate",{head},"U":{number},"u":{number},"b":[{_LEVELS}],"a":[]'
            yield _on_wire(f'{{"stream":"{symbol.lower()}@depth@100ms","data":{{{depth}}}}}')
            trade = f'"e":"trade",{head},"t":{number},"p":"100.01","q":"0.1","T":{at_ms},"m":true'
            yield _on_wire(f'{{"stream":"{symbol.lower()}@trade","data":{{{trade}}}}}')


def _on_wire(text: str) -> bytes:
    data = text.encode()
    return (
        b"\x81"
        + (bytes([len(data)]) if len(data) < 126 else b"\x7e%c%c" % divmod(len(data), 256))
        + data
    )


async def _send(
    socket: ServerConnection, made: Iterator[bytes], rate: float, seconds: float
) -> None:
    begun_s, sent = time.monotonic(), 0
    while sent < rate * seconds:
        due = min(rate * (time.monotonic() - begun_s + _STEP_S), rate * seconds)
        count = min(int(due) - sent, 2_000)
        socket.transport.write(b"".join(next(made) for _ in range(count)))
        sent += count
        await socket.drain()
        if sent + 1 > due:
            await asyncio.sleep(_STEP_S)


def _rest(_: ServerConnection, request: Request) -> Response | None:
    parts = urlsplit(request.path)
    if parts.path == "/stream":
        return None
    body = json.dumps({"serverTime": time.time_ns() // 1_000_000})
    if "symbol" in parse_qs(parts.query):
        body = '{"lastUpdateId":0,"bids":[["99.00","1.000"]],"asks":[["101.00","1.000"]]}'
    headers = Headers({"Content-Length": str(len(body)), "Connection": "close"})
    return Response(200, HTTPStatus.OK.phrase, headers, body.encode())


async def _main(folder: Path) -> None:
    certificates = make_certificates(folder)
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.key)
    connected: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def keep(socket: ServerConnection) -> None:
        connected.put_nowait(socket)
        await socket.wait_closed()

    async with serve(
        keep, "127.0.0.1", 0, ssl=context, process_request=_rest, compression=None,
        ping_interval=None,
    ) as server:  # fmt: skip
        sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
        socket, made = await connected.get(), frames()
        while line := await asyncio.to_thread(sys.stdin.readline):
            rate, seconds = map(float, line.split())
            await _send(socket, made, rate, seconds)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
