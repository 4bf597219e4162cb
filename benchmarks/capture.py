"""The recorder: lag from receipt to the system, CPU, memory, and the time of a failover."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np

from benchmarks.capture_venue import SYMBOLS, frames
from benchmarks.figures import Figure
from benchmarks.measure import Spread, child_environment, peak_rss_mb, run_child
from benchmarks.workspace import scratch
from market_pipeline.capture.derived import Derived
from market_pipeline.capture.files import RecordingFiles
from market_pipeline.capture.recorder import Recorder
from market_pipeline.config.capture import CaptureSettings
from market_pipeline.sources.recording.format import Entry, RecordKind
from market_pipeline.sources.venues.binance import BINANCE_SPOT
from market_pipeline_tests.exchange.market import Market
from market_pipeline_tests.exchange.server import FakeExchange
from market_pipeline_tests.store.certificates import make_certificates

__all__ = ["capture_figures", "record_made"]

_GROUP = "capture, 64 streams"
_STEADY_A_SECOND, _BURST_A_SECOND = 5_000, 100_000
_FLUSH, _SETTLED = 1_500, 42_000
"""What 5 ms bring at 300,000/s, and so many frames of 200 bytes as are put into files at once."""
_LOST = ("refused", "silent")
_SLEEPER = """
import threading, time, sys
late, end = [], []
threading.Thread(target=lambda: (sys.stdin.read(), end.append(1)), daemon=True).start()
while not end:
    due = time.monotonic() + 0.005
    time.sleep(0.005)
    late.append(time.monotonic() - due)
print(sorted(late)[len(late) * 99 // 100] * 1e3)
"""
"""How late the machine itself is: a process that does nothing but sleep for 5 ms."""


def capture_figures(frames_number: int, drills: int) -> list[Figure]:
    """What the recorder takes; each part in a process of its own.

    Args:
        frames_number: Frames that are written without a venue, for rate and memory; a tenth of them
            comes over TLS for the CPU time of the whole recorder.
        drills: Failovers.
    """
    return [
        *(figure for live in (False, True) for figure in _live_figures(frames_number // 10, live)),
        *_raw_figures(frames_number),
        *_failover_figures(drills),
    ]


def _figure(
    name: str, unit: str, value: float, bar: float | None = None, *, more: bool = False
) -> Figure:
    return Figure(_GROUP, name, unit, Spread.of([value]), bar=bar, more_is_better=more)


def _live_figures(number: int, live: bool) -> list[Figure]:
    with scratch() as folder:
        found = run_child("benchmarks.capture", ["live", folder, number, int(live)], folder)
    what = "record and books" if live else "record alone"
    return [
        _figure(f"{what}: receipt to system at 5,000/s, p50", "ms", found["steady"][0]),
        _figure(f"{what}: receipt to system at 5,000/s, p99", "ms", found["steady"][1], 10),
        _figure(
            f"{what}: a process that only sleeps is late meanwhile, p99", "ms", found["late_ms"]
        ),
        _figure(f"{what}: through a burst of 100,000/s, p99", "ms", found["burst"][1], 300),
        _figure(f"{what}: CPU of {number:,} frames", "s / M frames", found["cpu_s_per_million"]),
        _figure(f"{what}: peak memory after a tenth of them", "MB", found["early_mb"]),
        _figure(f"{what}: peak memory after all of them", "MB", found["peak_mb"], 512),
    ]


def _raw_figures(number: int) -> list[Figure]:
    with scratch() as folder:
        found = run_child("benchmarks.capture", ["raw", folder, number], folder)
    return [
        _figure(f"{number:,} frames to files", "k frames / CPU s", found["rate_k"], 300, more=True),
        _figure("peak memory after a tenth of them", "MB", found["early_mb"]),
        _figure("peak memory after all of them", "MB", found["peak_mb"], 512),
    ]


def _failover_figures(drills: int) -> list[Figure]:
    figures = []
    for how in _LOST:
        with scratch() as folder:
            found = run_child("benchmarks.capture", ["failover", folder, drills, how], folder)
        for share, bar in ((50, None), (99, 5.0)):
            name = (
                f"active endpoint lost ({how}) to the book on the backup, p{share}, {drills} drills"
            )
            figures.append(_figure(name, "s", float(np.percentile(found["seconds"], share)), bar))
    return figures


class _TimedFiles(RecordingFiles):
    """Files that keep how long each frame was on its way to them, while they are timed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "BINANCE", "host", "run")
        self.lags_ns, self.is_timed = array("q"), False

    def append(self, entries: Sequence[Entry]) -> None:
        super().append(entries)
        if not self.is_timed:
            return
        now_ns = time.monotonic_ns()
        self.lags_ns.extend(
            [now_ns - each.monotonic_ns for each in entries if each.kind == RecordKind.FRAME]
        )

    def percentiles_ms(self) -> list[float]:
        """The median and the 99th percentile, of those since the last call."""
        lags_ns, self.lags_ns = self.lags_ns, array("q")  # the writer's thread may add to them
        return list(np.percentile(np.array(lags_ns) / 1e6, (50, 99)).tolist())


@asynccontextmanager
async def _recording(recorder: Recorder) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(recorder.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def _live(folder: Path, number: int, live: bool) -> dict[str, object]:
    venue = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.capture_venue", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=child_environment(),
    )  # fmt: skip
    assert venue.stdin is not None
    assert venue.stdout is not None
    port = int(venue.stdout.readline())
    settings = CaptureSettings(
        venue=BINANCE_SPOT.name, symbols=SYMBOLS, redundancy=1,
        websocket_urls=(f"wss://127.0.0.1:{port}",), rest_url=f"https://127.0.0.1:{port}",
        ca_bundle=folder / "authority.pem",
    )  # fmt: skip
    files = _TimedFiles(folder / "recording")
    derived = Derived(settings, BINANCE_SPOT, {}, {}) if live else None
    recorder = Recorder(settings, files, report=lambda level, text: None, derived=derived)
    sent = 0

    async def send(rate: float, seconds: float) -> None:
        nonlocal sent
        assert venue.stdin is not None
        venue.stdin.write(f"{rate} {seconds}\n")
        venue.stdin.flush()
        sent += round(rate * seconds)
        while recorder.status.frames < sent or recorder._raw.waiting:
            await asyncio.sleep(0.05)

    async def timed(rate: float, seconds: float) -> list[float]:
        files.is_timed = True
        await send(rate, seconds)
        files.is_timed = False
        return files.percentiles_ms()

    async with _recording(recorder):
        while not recorder._open:
            await asyncio.sleep(0.01)
        await send(_STEADY_A_SECOND, 3)  # kernels load
        sleeper = subprocess.Popen(
            [sys.executable, "-c", _SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        steady = await timed(_STEADY_A_SECOND, 10)
        late, _ = await asyncio.to_thread(sleeper.communicate)
        burst = await timed(_BURST_A_SECOND, 1)
        before_s = time.process_time()
        await send(1e9, number // 10 / 1e9)
        early_mb = peak_rss_mb()
        await send(1e9, (number - number // 10) / 1e9)
        cpu_s = time.process_time() - before_s
    venue.kill()
    venue.wait()
    return {
        "steady": steady,
        "late_ms": float(late),
        "burst": burst,
        "cpu_s_per_million": cpu_s / number * 1e6,
        "early_mb": early_mb,
        "peak_mb": peak_rss_mb(),
    }


def record_made(folder: Path, number: int) -> dict[str, float]:
    """Frames in the wire's form, without its head, as the writer's thread appends and flushes."""
    made = frames()
    some = [each[each.index(b"{") :] for each in (next(made) for _ in range(6_400))]
    files = RecordingFiles(folder / "recording", "BINANCE", "host", "run")
    early_mb, spent_s = 0.0, 0.0
    for at in range(0, number, _SETTLED):
        entries = [
            Entry(SYMBOLS[n % 64 // 2], 0, time.time_ns(), time.monotonic_ns(), 1,
                  f"{'trades' if n % 2 else 'depth'}:{SYMBOLS[n % 64 // 2]}", some[n % 6_400], 1, n)
            for n in range(at, min(at + _SETTLED, number))
        ]  # fmt: skip
        before_s = time.process_time()
        for begin in range(0, len(entries), _FLUSH):
            files.append(entries[begin : begin + _FLUSH])
        files.turn()
        files.settle(entries)
        spent_s += time.process_time() - before_s
        if at == number // 10 // _SETTLED * _SETTLED:
            early_mb = peak_rss_mb()
    files.close()
    return {"rate_k": number / spent_s / 1e3, "early_mb": early_mb, "peak_mb": peak_rss_mb()}


class _Door:
    """The way to an exchange, which can be shut."""

    def __init__(self, port: int) -> None:
        self.shut = ""
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> str:
        """Begins to listen; the address."""
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        return f"wss://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def lose(self, how: str) -> None:
        """Breaks what is connected; from now on connections are refused, or met with silence."""
        self.shut = how
        for writer in self._writers:
            writer.transport.abort()

    def close(self) -> None:
        """Ends everything."""
        self.lose("refused")
        self._server.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        if self.shut:
            if self.shut == "refused":
                writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers.append(far_writer)
        for pair in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pump(*pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


async def _drill(folder: Path, how: str) -> float:
    """Seconds from the loss of the primary to a right book of what came from the backup."""
    certificates = make_certificates(folder)
    exchange = FakeExchange([Market("BTCUSDT")])
    async with exchange.serving(certificates):
        doors = [_Door(exchange.port) for _ in range(2)]
        settings = CaptureSettings(
            venue=BINANCE_SPOT.name, symbols=("BTCUSDT",), redundancy=1,
            websocket_urls=tuple([await door.open() for door in doors]),
            rest_url=exchange.rest, ca_bundle=certificates.authority,
        )  # fmt: skip
        files = RecordingFiles(folder / "recording", "BINANCE", "host", "run")
        derived = Derived(settings, BINANCE_SPOT, {}, {})
        recorder = Recorder(settings, files, report=lambda level, text: None, derived=derived)

        async def until_live(after_id: int) -> None:
            while True:
                exchange.step()
                await asyncio.sleep(0.005)
                book = derived.books["BTCUSDT"].book
                if book is not None and book.is_live and book.last_id > after_id:
                    return

        async with _recording(recorder):
            await until_live(0)
            doors[0].lose(how)
            for client in list(exchange.live):
                exchange.live.discard(client)
            lost_s, market = time.monotonic(), exchange.markets["BTCUSDT"]
            await until_live(market.book.last_id + 1)
            seconds = time.monotonic() - lost_s
            for door in doors:
                door.close()
    return seconds


def _main(part: str, folder: Path, number: int, *more: str) -> dict[str, object]:
    if part == "live":
        return asyncio.run(_live(folder, number, more[0] == "1"))
    if part == "raw":
        return {**record_made(folder, number)}
    seconds = []
    for drill in range(number):
        own = folder / str(drill)
        own.mkdir()
        seconds.append(asyncio.run(_drill(own, more[0])))
    return {"seconds": seconds}


if __name__ == "__main__":
    answer = _main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
    sys.stdout.write(json.dumps(answer) + "\n")
