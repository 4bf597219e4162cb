"""Two hosts that recorded the same hours of a made-up market, and what each of them lost."""

from __future__ import annotations

import json

import msgspec

from market_pipeline.sources.recording import HourlyRecorder, RecordingOf, RecordKind
from market_pipeline.sources.recording.format import Connect, Disconnect

START_NS = 1_723_161_600_000_000_000
HOUR_NS, STEP_NS = 3_600_000_000_000, 10_000_000_000
STEPS = 3 * HOUR_NS // STEP_NS
"""Three hours with a message of the book and a trade every ten seconds."""

DEPTH, TRADES = "depth:BTCUSDT", "trades:BTCUSDT"


def frame_of(at: int, kind: str) -> bytes:
    """The frame of a step as Binance sends it; each message of the book covers two ids."""
    wall_ms = (START_NS + at * STEP_NS) // 1_000_000
    if kind == "depth":
        ids = {"U": 2 * at + 1, "u": 2 * at + 2}
        data = {"e": "depthUpdate", "E": wall_ms, "s": "BTCUSDT", **ids, "b": [], "a": []}
        topic = "btcusdt@depth@100ms"
    else:
        price = f"{60_000 + at % 7 * 10}.00"
        data = {"e": "trade", "E": wall_ms, "s": "BTCUSDT", "t": at, "p": price, "q": "0.010"}
        data |= {"T": wall_ms, "m": True, "M": True}
        topic = "btcusdt@trade"
    return json.dumps({"stream": topic, "data": data}, separators=(",", ":")).encode()


def record_host(root, host, lost=(), down=range(0), connections=1, stop_at=STEPS):
    """Records the market as a host has it.

    Args:
        root: The folder of recordings.
        host: Its name.
        lost: Steps whose message of the book no connection of it received; with a number, as
            `(step, connection)`, that connection alone.
        down: Steps during which it had no connection.
        connections: How many receive the same.
        stop_at: From which step on it was dead, without a word.
    """
    recorder = HourlyRecorder(root, RecordingOf("BINANCE", "BTCUSDT", host, f"{host}1"))

    def note(kind, at, connection, what):
        wall_ns = START_NS + at * STEP_NS
        recorder.append(kind, wall_ns, at, connection, "", msgspec.json.encode(what))

    for connection in range(1, connections + 1):
        note(RecordKind.CONNECT, 0, connection, Connect("wss://example"))
    for at in range(stop_at):
        if at == down.start and down:
            for connection in range(1, connections + 1):
                note(RecordKind.DISCONNECT, at, connection, Disconnect("lost"))
        if at in down:
            continue
        for connection in range(1, connections + 1):
            wall_ns = START_NS + at * STEP_NS + connection * 1_000_000
            for stream, kind in ((DEPTH, "depth"), (TRADES, "trade")):
                if kind == "depth" and (at in lost or (at, connection) in lost):
                    continue
                recorder.append(
                    RecordKind.FRAME, wall_ns, at, connection, stream, frame_of(at, kind)
                )
    recorder.close()
