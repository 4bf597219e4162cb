"""A market's frames as files of a recorder, received when the market sent them."""

from __future__ import annotations

from pathlib import Path

from market_pipeline.sources.recording import CONVERTER, RecordingOf, RecordingWriter, RecordKind
from market_pipeline_tests.exchange.market import START_MS, Market

STEP_MS = 7_000


def record_market(lake: Path, steps: int, *, lost: frozenset[int] = frozenset()) -> None:
    """Records so many steps of 7 s, and a whole book before them.

    Args:
        lost: Frames that are not recorded, counted from 0.
    """
    market = Market("BTCUSDT", step_ms=STEP_MS)
    of = RecordingOf("BINANCE", "BTCUSDT", "host", "session")
    writer = RecordingWriter(lake / CONVERTER.name, of)
    wall_ns = (START_MS + STEP_MS) * 1_000_000
    whole = market.book.snapshot()
    writer.append(RecordKind.SNAPSHOT, wall_ns, wall_ns, 0, "snapshot:BTCUSDT", whole)
    kinds = {"depth@100ms": "depth", "trade": "trades", "kline_1m": "klines"}
    frames = 0
    for _ in range(steps):
        for topic, frame in market.step():
            stream = f"{kinds[topic.partition('@')[2]]}:BTCUSDT"
            if frames not in lost:
                writer.append(RecordKind.FRAME, wall_ns, wall_ns, 1, stream, frame)
            frames += 1
        wall_ns += STEP_MS * 1_000_000
    writer.close()
