"""A recorder in a process of its own, which is killed."""

from multiprocessing.connection import Connection
from pathlib import Path

from market_pipeline.sources.recording import HourlyRecorder, RecordingOf, RecordKind


def record_for_ever(
    flushes: Connection, folder: Path, session: str, first: int, start_ns: int
) -> None:
    """Records frames numbered from `first`, and tells after each flush how many there are."""
    recorder = HourlyRecorder(folder, RecordingOf("BINANCE", "BTC-USDT", "h", session))
    at = first
    while True:
        for _ in range(200):
            wall_ns = start_ns + at * 20_000_000
            recorder.append(RecordKind.FRAME, wall_ns, at, 1, "depth", str(at).encode())
            at += 1
        recorder.flush()
        flushes.send(at)
